"""What a grid will do and cost: updates, floating-point operations and, from measured cells, time.

The operations of one update are those that the model counts, with texts as long as they may be. Time is taken from
finished cells of the run directory: the median of seconds per update and example of the same backbone and kind of
method.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dawgen_jax.backbones import registry
from dawgen_jax.config import Config
from dawgen_jax.methods.arms import RELEASED, Arm
from dawgen_jax.methods.base import Method, value_of
from dawgen_jax.pipeline.cells import cell_settings, is_current
from dawgen_jax.pipeline.generators import num_steps_of
from dawgen_jax.pipeline.inputs import backbone_folder, find_task, prompt_tail, resolved
from dawgen_jax.pipeline.main import Unit, generators_of
from dawgen_jax.results.rows import Row

__all__ = ["Planned", "earlier_cells", "outline", "plan", "product_rate", "prompt_lines", "time_left"]


class Planned(NamedTuple):
    """A unit's cost over all seeds.

    Attributes:
      unit: task and arm.
      cells: seeds.
      updates: of one seed, every learning rate that is tried included.
      examples: that one seed's updates see.
      flops: estimated, of all seeds, evaluation not counted.
      seconds: of all seeds, from measured cells; NaN where none was measured.
      finished: cells of the run directory that are there already.
      earlier: cells of the run directory that an earlier revision of the code has computed.
      labels: of the task.
    """

    unit: Unit
    cells: int
    updates: int
    examples: int
    flops: float
    seconds: float
    finished: int
    earlier: int
    labels: int


def _cost(method: Method, config: Config, num_labels: int) -> tuple[int, int]:
    """Updates, and examples in them, of one seed."""
    tries = len(value_of(config.classifier, method.trains.rates)) if method.trains and method.trains.rates else 1
    phases = method.phases(config.classifier, num_labels)
    return (tries * sum(phase.num_steps for phase in phases),
            tries * sum(phase.num_steps * phase.batch_size * len(phase.sources) for phase in phases))


def _is_of(row: Row, unit: Unit) -> bool:
    """Whether a row is one of a unit's, under whatever settings."""
    method = unit.arm.method
    return ((row.task, row.generator, row.method, row.k_shot == "full")
            == (unit.task, unit.arm.generator, method.name, method.full)
            and method.variant == next((mark for mark in row.variant.split("+") if mark not in ("cut", "pool")), ""))


def plan(config: Config, units: Sequence[Unit], rows: Sequence[Row] = ()) -> list[Planned]:
    """The cost of every unit.

    Args:
      config: of the grid.
      units: to be run.
      rows: finished ones of the run directory.
    """
    config, planned = dataclasses.replace(config, classifier=resolved(config.classifier)), []
    classifier = config.classifier
    folder = backbone_folder(classifier.backbone.path)
    model, tokens = registry.read_model(folder, classifier.backbone), registry.read_format(folder)
    measured: dict[bool, list[float]] = {}
    mine = [row for row in rows if row.metric == "accuracy" and row.backbone == classifier.backbone.label]
    tasks = {name: find_task(name, config) for name in dict.fromkeys(unit.task for unit in units)}
    labels = {name: len(task.labels) for name, task in tasks.items()}
    tails = {name: prompt_tail(tokens, task, classifier) for name, task in tasks.items()}
    costs = {}
    for unit in units:
        costs[unit] = _cost(unit.arm.method, config, labels[unit.task])
        for row in mine:
            if _is_of(row, unit) and costs[unit][1]:
                heavy = bool(unit.arm.method.trains and unit.arm.method.trains.weights)
                measured.setdefault(heavy, []).append(row.wall_seconds / costs[unit][1])
    for unit in units:
        method, (updates, examples) = unit.arm.method, costs[unit]
        heavy = bool(method.trains and method.trains.weights)
        seeds = len(config.seeds) if method.seeded else 1
        prompt, tail = classifier.prompt_length if method.trains else 0, tails[unit.task]
        if tail is not None and method.trains and method.trains.fixed:  # texts are computed once, and not counted
            each = model.operations(inputs=prompt + tail, trained="prompt", context=classifier.max_tokens)
        else:
            each = model.operations(inputs=classifier.max_tokens + prompt, trained="all" if heavy else "prompt")
        flops = each * examples * seeds
        known = measured.get(heavy, [])
        seconds = statistics.median(known) * examples * seeds if known else float("nan")
        read = json.loads(json.dumps(cell_settings(config, unit.arm)))
        done = len({row.seed for row in mine if _is_of(row, unit) and row.seed in (*config.seeds, 0)
                    and read.items() <= row.settings.items()})
        earlier = len({row.seed for row in mine if _is_of(row, unit) and not is_current(row.settings)})
        planned.append(Planned(unit, seeds, updates, examples, float(flops), seconds, min(done, seeds), earlier,
                               labels[unit.task]))
    return planned


def earlier_cells(planned: Sequence[Planned]) -> str:
    """A sentence on the cells that an earlier revision of the code has computed; empty if there are none."""
    count = sum(line.earlier for line in planned)
    return f"{_number(count, 'cell')} of an earlier revision: left as they are, and not used." if count else ""


def product_rate(dtype: str, size: int = 0) -> float:
    """Operations a second of one square product of that size, or of one that suits the device, the best of three."""
    device = jax.local_devices()[0]
    size = size or (1024 if device.platform == "cpu" else 8192)
    matrix = jax.device_put(jnp.ones((size, size), dtype), device)
    product, seconds = jax.jit(lambda a: a @ a), []
    product(matrix).block_until_ready()
    for _ in range(3):
        begin = time.perf_counter()
        product(matrix).block_until_ready()
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / min(seconds)


def outline(config: Config, planned: Sequence[Planned], rate: float) -> list[str]:
    """What a run will do, stage by stage, a line each, for people.

    Args:
      config: of the run.
      planned: of :func:`plan`, in the order in which it runs.
      rate: of :func:`product_rate` on all devices together; half of it is taken where no cell was measured.
    """
    arms = [line.unit.arm for line in planned]
    labels = {line.unit.task: line.labels for line in planned}
    writers = [name for name in generators_of(arms) if name != RELEASED]
    sources = list(dict.fromkeys(arm.method.source for arm in arms if arm.method.source))
    seeds, stages = _number(len(config.seeds), "seed"), []
    if writers:
        updates = "/".join(str(count) for count in sorted({num_steps_of(config.generator, n) for n in labels.values()}))
        stages += [f"tune generators on {config.generator.backbone.label} ({', '.join(writers)}): {updates} updates, "
                   f"{seeds}",
                   f"synthesize with each of them: {config.synthesis.samples_per_label} pairs a label and seed"]
    if sources:
        stages.append(f"train source prompts ({', '.join(sources)})")
    cells, finished = sum(line.cells for line in planned), sum(line.finished for line in planned)
    stages.append(f"tune and score on {config.classifier.backbone.label}: {_number(len(planned), 'arm')}, "
                  f"{_number(cells, 'cell')} ({finished} finished), "
                  f"{sum(line.updates * line.cells for line in planned):,} updates")
    lines = [f"{', '.join(labels)}: {_number(len(stages), 'stage')}, {seeds} ({', '.join(map(str, config.seeds))})"]
    lines += [f"  {number}. {stage}" for number, stage in enumerate(stages, 1)]
    lines += [f"  {earlier}" for earlier in [earlier_cells(planned)] if earlier]
    if finished < cells:
        flops = sum(line.flops * (1 - line.finished / line.cells) for line in planned)
        minutes = round(2 * flops / rate / 60)
        told = (f"{_number(minutes, 'minute')} for the updates of the last stage, as a rough guess: {flops / 1e12:.3g} "
                f"TFLOP at half the {rate / 1e9:.3g} GFLOP/s of matrix products here" if minutes else
                "how long that takes is told when a first arm is tuned")
        lines.append(f"  {time_left(planned) or told}")
    return lines + [f"  {line}" for line in prompt_lines(config, arms)]


def prompt_lines(config: Config, arms: Sequence[Arm]) -> list[str]:
    """What prompts of the arms are and how they are tuned, whether the configuration says so or the backbone's family;
    nothing if no arm has one."""
    if not any(arm.method.trains and "prompt_length" in arm.method.trains.fields for arm in arms):
        return []
    chosen = resolved(config.classifier)
    kept = (f"; keys and values of texts take at most {chosen.context_cache_gib:g} GiB"
            if chosen.prompt_place == "after" else "")
    return [f"prompts: {chosen.prompt_length} {chosen.prompt_init} rows {chosen.prompt_place} the text, "
            f"{chosen.optimiser} at {chosen.learning_rate:g}{kept}"]


def time_left(planned: Sequence[Planned]) -> str:
    """How long the cells that are not finished take, for people; empty where none is left, or none was measured."""
    left = [line for line in planned if line.finished < line.cells]
    seconds = sum(line.seconds * (1 - line.finished / line.cells) for line in left)
    if not left or not math.isfinite(seconds):
        return ""
    ready = {line.unit.arm.generator for line in planned if line.finished}
    more = {line.unit.arm.generator for line in left} - ready - {"", RELEASED}
    apart = "; generators and synthetic sets come on top" if more else ""
    return f"about {_number(max(1, round(seconds / 60)), 'minute')} left, by the cells that are finished{apart}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
