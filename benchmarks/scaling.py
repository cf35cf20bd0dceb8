"""How does the cost of a step grow, and what does a grid cost?

    python -m benchmarks.scaling [--only steps grid] [--runs 5]

``steps`` runs the prompt step and the generator step of the embedded mini-t5's shape on CPU devices, one quantity
changed at a time: rows, prompt length, seeds, labels, devices. It prints a table: operations that the model of
benchmarks/scaling.md predicts, those of the compiled program, and the median of alternating runs. ``grid`` counts
the operations of configs/paper.py at T5-large's shape, part by part; nothing is run. The last line is JSON.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import peers
from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.backbones.t5.sizes import BACKWARD, FORWARD, SIZES, TRAINING, operations
from dawgen_jax.config import ClassifierConfig, Config, GeneratorConfig
from dawgen_jax.generator.variants import VARIANTS, fixed_by
from dawgen_jax.pipeline import generators, programs
from dawgen_jax.pipeline.inputs import find_task
from dawgen_jax.pipeline.main import generators_of, units_of
from dawgen_jax.pipeline.programs import DECODING, FINE_TUNING, GENERATOR, PROMPT, Shapes
from dawgen_jax.tasks import SEVEN
from dawgen_jax.training.costs import analyse
from dawgen_jax.training.placement import Placement
from train.cli import load_config
from train.compile import useful_operations

DEVICES = 2
BASE = Config(tasks=("MNLI",), seeds=(0,), devices=1,
              classifier=ClassifierConfig(prompt_length=50, max_tokens=50, pad_multiple=1, batch_size=8),
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
    """A compiled step over random arrays: (its cost, a function that runs it once, the operations that are useful)."""
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

    return analyse(compiled), run, useful_operations(step, t5, shapes)


def steps(runs: int) -> dict:
    """The table, and its figures."""
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


def grid(_: int) -> dict:
    """PFLOP of each part of configs/paper.py at T5-large's shape, and how many runs of a step they are."""
    config, t5 = load_config("paper"), SIZES["t5-large"]
    flops: collections.Counter = collections.Counter()
    runs: collections.Counter = collections.Counter()
    source = config.classifier.prompt_length + config.classifier.max_tokens
    row = functools.partial(operations, t5, source=source, target=2)
    largest = 0.0
    for unit in units_of(config):
        before = flops.total()
        task, method, seeds = SEVEN[unit.task], unit.arm.method, len(config.seeds) if unit.arm.method.seeded else 1
        heavy = method.trains is not None and method.trains.weights
        tries = len(config.classifier.fine_tuning.learning_rates) if heavy else 1
        evaluated = seeds * task.paper_n_test
        for phase in method.phases(config.classifier, len(task.labels)):
            examples = seeds * tries * phase.num_steps * phase.batch_size * len(phase.sources)
            part = FINE_TUNING if heavy else PROMPT
            flops[part] += examples * row(TRAINING if heavy else FORWARD + BACKWARD)
            runs[part] += examples
            dev = config.data.k * len(task.labels) * (phase.num_steps // phase.eval_every + 1)
            evaluated += seeds * tries * dev
        length = config.classifier.demonstration_tokens if method.demonstrations else source
        flops["evaluation"] += evaluated * operations(t5, FORWARD, source=length, target=2)
        runs["evaluation"] += evaluated
        largest = max(largest, flops.total() - before)
    tuned = [name for name in generators_of([unit.arm for unit in units_of(config)]) if name in VARIANTS]
    for name in tuned:
        for task in (SEVEN[task] for task in config.tasks):
            own = dataclasses.replace(config, generator=fixed_by(config.generator, name))
            shapes, updates = Shapes.of(own, task), generators.num_steps_of(config.generator, len(task.labels))
            flops[GENERATOR] += updates * useful_operations(GENERATOR, t5, shapes)
            runs[GENERATOR] += updates * shapes.rows(GENERATOR)
            samples = len(config.seeds) * len(task.labels) * config.synthesis.samples_per_label
            token = useful_operations(DECODING, t5, shapes) / shapes.rows(DECODING)
            encoded = operations(t5, FORWARD, source=shapes.source, target=0)
            flops[DECODING] += samples * (encoded + config.synthesis.max_new_tokens * token)
            runs[DECODING] += samples * config.synthesis.max_new_tokens
    transfer, few = config.transfer, row(FORWARD + BACKWARD)
    sources = {SEVEN[task].source for task in config.tasks}
    flops["source prompts"] = few * (
        transfer.ppt_steps * transfer.ppt_batch_size
        + len(sources) * config.classifier.full_steps * config.classifier.full_batch_size
        + len(config.tasks) * transfer.optima_steps * 4 * transfer.optima_batch_size)
    figures = {part: {"pflop": value / 1e15, "examples": int(runs[part])} for part, value in flops.items()}
    print(f"{len(units_of(config))} units, generators {', '.join(tuned)}; an 'example' is a row of a step, or a token")
    print("| part | examples | PFLOP |\n|---|---|---|")
    for part, one in figures.items():
        print(f"| {part} | {one['examples'] or '–':,} | {one['pflop']:.0f} |" if one["examples"] else
              f"| {part} | – | {one['pflop']:.0f} |")
    print(f"| all | | {flops.total() / 1e15:.0f} |\n| the largest unit | | {largest / 1e15:.0f} |")
    return figures


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", DEVICES)
    peers.main(__doc__ or "", {"steps": steps, "grid": grid}, runs=5)
