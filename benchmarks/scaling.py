"""How does the cost of a step grow, and what does a grid cost?

    python -m benchmarks.scaling [--only steps collectives grid] [--runs 5]

``steps`` runs the prompt step and the generator step of the embedded mini-t5's shape on CPU devices, changing one
quantity at a time: rows, prompt length, seeds, labels, devices. It prints a table of the operations that the model of
benchmarks/scaling.md predicts, those of the compiled program, and the median time of alternating runs. ``collectives``
compares the bytes per chip in collectives by this model with the TPU compiler's count in benchmarks/compile.md.
``grid`` counts the operations of configs/paper.py and configs/paper_flan.py at T5-large's shape by part, and the hours
of three machines at the rates of compile.md. The last two do not run anything. The last line is JSON.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
import itertools
import math
import pathlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import peers
from dawgen_jax.backbones.registry import FAMILIES
from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.backbones.t5.sizes import SIZES
from dawgen_jax.cli.options import load_config
from dawgen_jax.config import PAPER, ClassifierConfig, Config, GeneratorConfig
from dawgen_jax.generator.variants import VARIANTS, fixed_by
from dawgen_jax.pipeline import generators, programs
from dawgen_jax.pipeline.inputs import find_task, resolved
from dawgen_jax.pipeline.main import units_of
from dawgen_jax.pipeline.programs import DECODING, FINE_TUNING, GENERATOR, PROGRAMS, PROMPT, Shapes, operations
from dawgen_jax.tasks import SEVEN
from dawgen_jax.training.placement import Placement
from tools.costs import analyse

DEVICES = 2
COMPILED = pathlib.Path(__file__).with_name("compile.md")
GRIDS = {"T5-large": "paper", "Flan-T5-large": "paper_flan"}
"""The classifiers of the paper's tables, both with T5-large's shape, and their configs; they share the sets."""
EVALUATION, SOURCES = "evaluation", "source prompts"
H100, H100_DECODING = 0.4 * 989e12, 10.0
"""Assumed for an H100, not measured: operations per second of all steps but decoding, and decoding in v5e chips."""
BASE = Config(tasks=("MNLI",), seeds=(0,), devices=1,
              classifier=ClassifierConfig(**{**PAPER, "prompt_length": 50}, max_tokens=50, pad_multiple=1,
                                          batch_size=8),
              generator=GeneratorConfig(prompt_length=20, max_source_tokens=40, max_target_tokens=20,
                                        examples_per_label=2))
CHANGES: dict[str, dict[str, Any]] = {
    "base": {}, "rows x 2": {"classifier.batch_size": 16}, "rows x 4": {"classifier.batch_size": 32},
    "prompt x 2": {"classifier.prompt_length": 100}, "prompt x 4": {"classifier.prompt_length": 200},
    "seeds x 2": {"seeds": (0, 1)}, "seeds x 4": {"seeds": (0, 1, 2, 3)}, "devices x 2": {"devices": 2}}
GENERATOR_CHANGES: dict[str, dict[str, Any]] = {
    "base (3 labels)": {}, "2 labels": {"tasks": ("QQP",)}, "rows x 2": {"generator.examples_per_label": 4},
    "prompt x 4": {"generator.prompt_length": 80}, "seeds x 2": {"seeds": (0, 1)},
    "lambda = 0": {"generator.dist_weight": 0.0},
    "uniform weights": {"generator.weighting": "uniform", "generator.dist_weight": 0.0}}


def changed(config: Any, changes: dict[str, Any]) -> Any:
    """The config with dotted fields replaced."""
    for field, value in changes.items():
        name, _, rest = field.partition(".")
        config = dataclasses.replace(config, **{name: changed(getattr(config, name), {rest: value}) if rest else value})
    return config


def runnable(step: str, config: Config, t5: T5Config = peers.MINI):
    """A compiled step with random arrays: (its cost, a function that runs it once, the number of useful operations)."""
    shapes, placement = Shapes.of(config, find_task(config.tasks[0])), Placement.on(config.devices)
    theta = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, t5.dtype), model.abstract(t5))
    _, lower = programs.lower(step, T5(t5, mask_id=t5.vocab_size - 1), theta, shapes, placement)
    compiled = lower().compile()
    keys = itertools.count()

    def made(info):
        key, kind = jax.random.key(next(keys)), info.dtype
        if jnp.issubdtype(kind, jax.dtypes.prng_key):
            return jax.random.split(key, info.shape)
        if jnp.issubdtype(kind, jnp.bool_):
            return jnp.ones(info.shape, kind)
        if jnp.issubdtype(kind, jnp.integer):  # tokens, labels and slots alike
            return jax.random.randint(key, info.shape, 0, 2, kind)
        return jax.jit(lambda: (0.02 * jax.random.normal(key, info.shape)).astype(kind))()

    (state, theta, batch), _ = jax.tree.map(made, compiled.args_info)
    state, theta, batch = jax.device_put((state, theta, batch), compiled.input_shardings[0])
    held = [state]

    def run():
        held[0], metrics = compiled(held[0], theta, batch)
        return metrics

    return analyse(compiled), run, operations(step, T5(t5), shapes)


def steps(runs: int) -> dict:
    """The table and its figures."""
    figures, lines = {}, []
    for step, changes in ((PROMPT, CHANGES), (GENERATOR, GENERATOR_CHANGES)):
        built = {name: runnable(step, changed(BASE, change)) for name, change in changes.items()}
        seconds = peers.alternate({name: run for name, (_, run, _) in built.items()}, runs)
        first, *_ = built
        for name, (cost, _, useful) in built.items():
            chips = 2 if name.startswith("devices") else 1
            figures[f"{step}, {name}"] = {"useful_gflop": useful / 1e9, "compiled_gflop": chips * cost.flops / 1e9,
                                          "seconds": seconds[name]}
            ratios = (useful / built[first][2], chips * cost.flops / built[first][0].flops,
                      seconds[name] / seconds[first])
            lines.append(f"| {step}, {name} | {useful / 1e9:.2f} ({ratios[0]:.2f}) | {chips * cost.flops / 1e9:.2f} "
                         f"({ratios[1]:.2f}) | {1e3 * seconds[name]:.0f} ({ratios[2]:.2f}) |")
    print("| step | GFLOP of the model (to the base) | GFLOP compiled, all devices | ms |\n|---|---|---|---|")
    print("\n".join(lines))
    return figures


class Compiled(NamedTuple):
    """A line of compile.md: a step of ``backbone`` on a mesh of v5e chips; ``best`` marks the best of its topology.

    Attributes:
      mesh: data, fsdp, tensor.
      rate: useful operations per second and chip by the compiler's estimate; 0 if it counts none.
      sent: bytes per chip in collectives.
    """

    backbone: str
    topology: str
    step: str
    mesh: tuple[int, int, int]
    best: bool
    rate: float
    sent: float


def compiled() -> list[Compiled]:
    """The lines of compile.md for all steps and meshes that fit."""
    found, where = [], ("", "")
    for line in COMPILED.read_text(encoding="utf-8").splitlines():
        if command := re.fullmatch(r"`python -m tools.meshes paper --shape (\S+) --topology (\S+)`", line):
            where = command.groups()
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in PROGRAMS and len(cells) == 8 and "does not fit" not in cells[2]:
            seconds = sum(map(float, cells[6].split(" + "))) / 1e3
            useful = 0.0 if cells[4] == "–" else 1e10 * float(cells[3]) * float(cells[4].removesuffix(" %"))
            found.append(Compiled(*where, cells[0], tuple(map(int, cells[1].strip("*").split(" x "))),
                                  cells[1].startswith("*"), useful / seconds,
                                  sum(1e6 * float(size) for size in re.findall(r"(\S+) in ", cells[7]))))
    return found


def exchanged(step: str, t5: T5Config, shapes: Shapes, data: int, tensor: int) -> float:
    """Bytes per chip in collectives by the model of benchmarks/scaling.md, with recomputed layers.

    Gradients of prompts are float32, everything else bfloat16.

    Args:
      step: name of the program.
      t5: the backbone's shape.
      shapes: shapes of the job.
      data: number of chips that share the rows.
      tensor: number of chips that share each layer.
    """
    config, width, source, target = shapes.config, t5.d_model, shapes.source, 1
    tuned = config.classifier.prompt_length + config.classifier.max_tokens
    if step == GENERATOR:  # two transposes, a derivative along v, value and gradient at Q'; all but values recompute
        generator, target = config.generator, config.generator.max_target_tokens
        rows = len(config.seeds) * shapes.labels * math.ceil(shapes.labels * generator.examples_per_label / data)
        passes, backward = 10, 3
        gradient = 3 * len(config.seeds) * shapes.labels * (generator.prompt_length + shapes.infix) * width * 4.0
    elif step == DECODING:
        rows, passes, backward, source, gradient = math.ceil(config.synthesis.batch_size / data), 1, 0, 0, 0.0
    elif step == PROMPT:
        rows, source, target = shapes.seeds * 2 * math.ceil(config.classifier.batch_size / data), tuned, 2
        passes, backward, gradient = 3, 1, shapes.seeds * 2 * config.classifier.prompt_length * width * 4.0
    else:
        rows, source, target = math.ceil(config.classifier.fine_tuning.batch_size / data), tuned, 2
        passes, backward = 3, 1
        gradient = 2.0 * sum(leaf.size for leaf in jax.tree.leaves(model.abstract(t5))) / tensor
    encoder = passes * 2 * t5.num_layers * source + backward * 2 * t5.num_decoder_layers * source
    within = 2.0 * rows * width * (encoder + passes * 3 * t5.num_decoder_layers * target)
    return (gradient if data > 1 else 0.0) + (within if tensor > 1 else 0.0)


def short(size: float) -> str:
    """Bytes as MB with three digits."""
    return f"{float(f'{size / 1e6:.3g}'):,g}"


def _config(name: str) -> Config:
    """A shipped configuration of a T5."""
    config = load_config(name)
    return dataclasses.replace(config, classifier=resolved(config.classifier, FAMILIES["t5"]))


def collectives(_: int) -> dict:
    """MB per chip in collectives by the model and by the compiler, and their ratio."""
    config, figures, lines = _config("paper"), {}, {}
    tasks = [find_task(name, config) for name in config.tasks]
    shapes = Shapes.of(config, max(tasks, key=lambda task: len(task.labels)))
    for one in compiled():
        data, fsdp, tensor = one.mesh
        ours = exchanged(one.step, SIZES[one.backbone], shapes, data, tensor)
        if fsdp == 1 and ours + one.sent:
            figures[f"{one.step}, {one.backbone}, {data} x {tensor}"] = {"model_mb": ours / 1e6,
                                                                        "compiler_mb": one.sent / 1e6}
            text = f"{short(ours)}, {short(one.sent)} ({one.sent / ours:.2f})"
            lines.setdefault((one.step, data, tensor), {})[one.backbone] = text
    print(f"| step | data x tensor | {' | '.join(f'{name}: model, compiler' for name in SIZES)} |\n"
          f"|---|---|{'---|' * len(SIZES)}")
    for (step, data, tensor), texts in sorted(lines.items(), key=lambda item: PROGRAMS.index(item[0][0])):
        print(f"| {step} | {data} x {tensor} | {' | '.join(texts.get(name, '–') for name in SIZES)} |")
    return figures


def units(config: Config, t5: T5Config) -> tuple[list[collections.Counter], collections.Counter]:
    """Operations of each unit by part, and the total number of examples of each part."""
    source = config.classifier.prompt_length + config.classifier.max_tokens
    row = T5(t5).operations
    costs, examples = [], collections.Counter()
    for unit in units_of(config):
        cost = collections.Counter()
        task, method, seeds = SEVEN[unit.task], unit.arm.method, len(config.seeds) if unit.arm.method.seeded else 1
        heavy = method.trains is not None and method.trains.weights
        tries = len(config.classifier.fine_tuning.learning_rates) if heavy else 1
        evaluated = seeds * task.paper_n_test
        for stage in method.stages(config.classifier, len(task.labels)):
            rows = seeds * tries * stage.num_steps * stage.batch_size * len(stage.sources)
            part = FINE_TUNING if heavy else PROMPT
            cost[part] += rows * row(inputs=source, trained="all" if heavy else "prompt")
            examples[part] += rows
            dev = config.data.k * len(task.labels) * (stage.num_steps // stage.eval_every + 1)
            evaluated += seeds * tries * dev
        length = config.classifier.demonstration_tokens if method.demonstrations else source
        cost[EVALUATION] += evaluated * row(inputs=length)
        examples[EVALUATION] += evaluated
        costs.append(cost)
    return costs, examples


def sets(config: Config, t5: T5Config) -> tuple[list[collections.Counter], collections.Counter]:
    """The same for each generator and task, whose sets all classifiers share: updates, and tokens of 5 seeds' sets."""
    costs, examples = [], collections.Counter()
    tuned = [name for name in VARIANTS if any(unit.arm.generator == name for unit in units_of(config))]
    for name, task in itertools.product(tuned, (SEVEN[task] for task in config.tasks)):
        own = dataclasses.replace(config, generator=fixed_by(config.generator, name))
        shapes, updates = Shapes.of(own, task), generators.num_steps_of(config.generator, len(task.labels))
        samples = len(config.seeds) * len(task.labels) * config.synthesis.samples_per_label
        token = operations(DECODING, T5(t5), shapes) / shapes.rows(DECODING)
        encoded = T5(t5).operations(inputs=shapes.source, outputs=0)
        costs.append(collections.Counter({
            GENERATOR: updates * operations(GENERATOR, T5(t5), shapes),
            DECODING: samples * (encoded + config.synthesis.max_new_tokens * token)}))
        examples[GENERATOR] += updates * shapes.rows(GENERATOR)
        examples[DECODING] += samples * config.synthesis.max_new_tokens
    return costs, examples


def source_prompts(config: Config, t5: T5Config) -> list[collections.Counter]:
    """The same for PPT's prompt, SPoT's for each source task, and OPTIMA's for each task."""
    source, transfer = config.classifier.prompt_length + config.classifier.max_tokens, config.transfer
    few = T5(t5).operations(inputs=source, trained="prompt")
    rows = [transfer.ppt_steps * transfer.ppt_batch_size,
            *[config.classifier.full_steps * config.classifier.full_batch_size
              for _ in {SEVEN[task].source for task in config.tasks}],
            *[transfer.optima_steps * 4 * transfer.optima_batch_size for _ in config.tasks]]
    return [collections.Counter({SOURCES: few * count}) for count in rows]


def makespan(seconds: Iterable[float], slices: int) -> float:
    """The end of the last job if each slice takes the longest remaining job."""
    ends = [0.0] * slices
    for job in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + job)
    return max(ends)


def hours(cost: collections.Counter, rates: dict[str, float], chips: int) -> float:
    """Hours for operations by part, given the operations per second and chip of each part."""
    return sum(value / rates[part] for part, value in cost.items()) / (3600 * chips)


def grid(_: int) -> dict:
    """PFLOP of each part of the paper's grid at T5-large's shape, and the hours of three machines at assumed rates."""
    t5, first, jobs, grids, examples = SIZES["t5-large"], [], [], {}, collections.Counter()
    for backbone, name in GRIDS.items():
        config = _config(name)
        costs, rows = units(config, t5)
        written, tokens = ([], collections.Counter()) if grids else sets(config, t5)  # sets are shared
        before = written + source_prompts(config, t5)
        grids[backbone] = sum(before + costs, collections.Counter())
        first, jobs, examples = first + before, jobs + costs, examples + rows + tokens
    total = sum(grids.values(), collections.Counter())
    print(f"{len(jobs)} units, after {len(first)} generators (with their sets) and source prompts; an example is a row "
          f"of a step, or a token\n\n| part | examples | {' | '.join(f'PFLOP, {name}' for name in GRIDS)} | both |\n"
          f"|---|---|{'---|' * len(GRIDS)}---|")
    for part, value in total.most_common():
        count, cells = examples[part], (f"{flops[part] / 1e15:,.0f}" for flops in grids.values())
        print(f"| {part} | {f'{count:,}' if count else '–'} | {' | '.join(cells)} | {value / 1e15:,.0f} |")
    print(f"| all | | {' | '.join(f'{flops.total() / 1e15:,.0f}' for flops in grids.values())} "
          f"| {total.total() / 1e15:,.0f} |")
    print(f"\nthe largest unit: {max(cost.total() for cost in jobs) / 1e15:,.0f} PFLOP")

    best = (one for one in compiled() if one.best and (one.backbone, one.topology) == ("t5-large", "v5e:2x2"))
    v5e = {one.step: one.rate for one in best}
    v5e |= {EVALUATION: v5e[PROMPT], SOURCES: v5e[PROMPT]}
    h100 = dict.fromkeys(v5e, H100) | {DECODING: H100_DECODING * v5e[DECODING]}
    print("useful TFLOP/s of a v5e chip: " + ", ".join(f"{part} {rate / 1e12:.3g}" for part, rate in v5e.items())
          + f"\n\n| hours | {' | '.join(part for part, _ in total.most_common())} | all | in whole jobs |\n"
          f"|---|{'---|' * len(total)}---|---|")
    figures: dict[str, dict] = {backbone: {part: value / 1e15 for part, value in flops.items()}
                                for backbone, flops in grids.items()}
    for machine, slices, chips, rates in (("one H100", 1, 1, h100), ("v5e-8", 2, 4, v5e), ("v5e-256", 64, 4, v5e)):
        parts = [hours(collections.Counter({part: value}), rates, slices * chips)
                 for part, value in total.most_common()]
        ends = [makespan((hours(cost, rates, chips) for cost in stage), slices) for stage in (first, jobs)]
        figures[machine] = {"all": sum(parts), "first": ends[0], "units": ends[1]}
        print(f"| {machine} | {' | '.join(f'{part:.2f}' for part in parts)} | {sum(parts):.1f} "
              f"| {ends[0]:.1f} + {ends[1]:.1f} = {sum(ends):.1f} |")
    return figures


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", DEVICES)
    peers.main(__doc__ or "", {"steps": steps, "collectives": collectives, "grid": grid}, runs=5)
