"""What a run will do and cost: updates, floating-point operations and, from measured cells, time.

The operations of one update are those that the model counts, with texts as long as they may be. Before a run, time is
known from finished cells of the run directory: the median of seconds per update and example of the same backbone and
kind of method. During a run it is known from the updates of the run itself (:class:`dawgen_jax.io.terminal.Pace`).
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from dawgen_jax.backbones import registry
from dawgen_jax.backbones.base import Model
from dawgen_jax.config import Config
from dawgen_jax.generator.variants import fixed_by
from dawgen_jax.io.terminal import Step, number
from dawgen_jax.methods.arms import Arm
from dawgen_jax.methods.base import Method
from dawgen_jax.methods.transfer import SOURCES
from dawgen_jax.pipeline.cells import cell_settings, is_current
from dawgen_jax.pipeline.generators import num_steps_of
from dawgen_jax.pipeline.inputs import backbone_folder, find_task, prompt_tail, resolved
from dawgen_jax.pipeline.main import Unit, shared_by
from dawgen_jax.pipeline.programs import GENERATOR, Shapes, operations
from dawgen_jax.results.rows import Row

__all__ = ["Planned", "earlier_cells", "outline", "plan", "prompt_lines", "steps"]


class Planned(NamedTuple):
    """A unit's cost over all seeds.

    Attributes:
      unit: task and arm.
      cells: seeds.
      updates: of one seed, every learning rate that is tried included.
      examples: that one seed's updates see.
      flops: estimated, of all seeds, evaluation not counted.
      seconds: of all seeds, from measured cells; NaN if nothing was measured.
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
    tries = len(config.classifier.fine_tuning.learning_rates) if method.trains and method.trains.weights else 1
    stages = method.stages(config.classifier, num_labels)
    return (tries * sum(stage.num_steps for stage in stages),
            tries * sum(stage.num_steps * stage.batch_size * len(stage.sources) for stage in stages))


def _is_of(row: Row, unit: Unit) -> bool:
    """Whether a row is one of a unit's, under whatever settings."""
    method = unit.arm.method
    return ((row.task, row.generator, row.method, row.k_shot == "full")
            == (unit.task, unit.arm.generator, method.name, method.full)
            and method.variant == next((mark for mark in row.variant.split("+") if mark not in ("cut", "pool")), ""))


def plan(config: Config, units: Sequence[Unit], rows: Sequence[Row] = (), *, model: Model | None = None,
         tail: int | None = None) -> list[Planned]:
    """The cost of every unit.

    Args:
      config: of the grid.
      units: to be run.
      rows: finished ones of the run directory.
      model: the classifier's backbone, whose values the config holds (:func:`resolved`); None reads the config's.
      tail: with ``model``, how many tokens of a row stand after the soft prompt; None if it is in front of the row.
    """
    tasks = {name: find_task(name, config) for name in dict.fromkeys(unit.task for unit in units)}
    if model is None:
        config = dataclasses.replace(config, classifier=resolved(config.classifier))
        folder = backbone_folder(config.classifier.backbone.path)
        model, tokens = registry.read_model(folder, config.classifier.backbone), registry.read_format(folder)
        tails = {name: prompt_tail(tokens, task, config.classifier) for name, task in tasks.items()}
    else:
        tails = dict.fromkeys(tasks, tail)
    classifier, planned = config.classifier, []
    measured: dict[bool, list[float]] = {}
    mine = [row for row in rows if row.metric == "accuracy" and row.backbone == classifier.backbone.label]
    labels = {name: len(task.labels) for name, task in tasks.items()}
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


def steps(config: Config, planned: Sequence[Planned], generator: Model | None = None, classifier: Model | None = None
          ) -> dict[tuple[str, ...], Step]:
    """The steps of a run by their keys, with operations, in the order in which :func:`dawgen_jax.pipeline.main.run`
    takes them.

    Args:
      config: of the run.
      planned: of :func:`plan`.
      generator: the backbone that writes; None reads the config's.
      classifier: the backbone whose prompts are tuned; None reads the config's.
    """
    if classifier is None:
        config = dataclasses.replace(config, classifier=resolved(config.classifier))
    generator, classifier = (
        model or registry.read_model(backbone_folder(part.backbone.path), part.backbone)
        for model, part in ((generator, config.generator), (classifier, config.classifier)))
    needed, count = shared_by([line.unit for line in planned]), len(config.seeds)
    tasks = {name: find_task(name, config) for name in dict.fromkeys(task for _, task, _ in needed)}
    stages, found = [*dict.fromkeys(kind for kind, _, _ in needed), "cells"], {}
    place = {kind: f"stage {i}/{len(stages)}" for i, kind in enumerate(stages, 1)}
    for kind, task, name in needed:
        shapes = Shapes.of(config, tasks[task])
        if kind == "generators":
            fixed = dataclasses.replace(config, generator=fixed_by(config.generator, name))
            updates = num_steps_of(fixed.generator, shapes.labels)
            flops, units = updates * operations(GENERATOR, generator, shapes._replace(config=fixed)), updates
        elif kind == "sets":
            units = count * shapes.labels * config.synthesis.samples_per_label
            flops = units * generator.operations(inputs=shapes.source, outputs=config.synthesis.max_new_tokens)
        else:
            source, tokens = SOURCES[name], config.classifier.max_tokens + config.classifier.prompt_length
            stage = source.stage(config)
            units, examples = stage.num_steps, stage.num_steps * stage.batch_size * (1 + source.unlabelled)
            flops = examples * classifier.operations(inputs=tokens, trained="prompt")
        found[kind, task, name] = Step(place[kind], flops, units)
    for i, line in enumerate(planned, 1):
        trains = line.unit.arm.method.trains
        together = config.classifier.vmap_seeds and not (trains and trains.weights)
        left = line.cells - line.finished
        found["cells", line.unit.task, str(line.unit.arm)] = Step(
            f"{place['cells']}, arm {i}/{len(planned)}", line.flops * left / line.cells,
            line.updates * (1 if together else left))
    return found


def earlier_cells(planned: Sequence[Planned]) -> str:
    """A sentence on the cells that an earlier revision of the code has computed; or nothing."""
    count = sum(line.earlier for line in planned)
    return f"{number(count, 'cell')} of an earlier revision: unchanged, and not used." if count else ""


def outline(config: Config, planned: Sequence[Planned]) -> list[str]:
    """What a run will do, stage by stage, a line each, for people.

    Args:
      config: of the run.
      planned: of :func:`plan`, in the order in which it runs.
    """
    labels = {line.unit.task: line.labels for line in planned}
    names: dict[str, list[str]] = {}
    for kind, _, name in shared_by([line.unit for line in planned]):
        names.setdefault(kind, []).append(name)
    of = {kind: ", ".join(dict.fromkeys(found)) for kind, found in names.items()}
    seeds, cells = number(len(config.seeds), "seed"), sum(line.cells for line in planned)
    updates = "/".join(str(count) for count in sorted({num_steps_of(config.generator, n) for n in labels.values()}))
    about = {"generators": f"tune generators on {config.generator.backbone.label} ({of.get('generators')}): {updates} "
                           f"updates, {seeds}",
             "sets": f"write synthetic sets with each of them: {config.synthesis.samples_per_label} samples per label "
                     "and seed",
             "sources": f"train source prompts ({of.get('sources')})"}
    stages = [about[kind] for kind in of] + [
        f"tune and score on {config.classifier.backbone.label}: {number(len(planned), 'arm')}, "
        f"{number(cells, 'cell')} ({sum(line.finished for line in planned)} finished), "
        f"{sum(line.updates * line.cells for line in planned):,} updates"]
    lines = [f"{', '.join(labels)}: {number(len(stages), 'stage')}, {seeds} ({', '.join(map(str, config.seeds))})",
             *(f"  {i}. {stage}" for i, stage in enumerate(stages, 1))]
    lines += [f"  {earlier}" for earlier in [earlier_cells(planned)] if earlier]
    return lines + [f"  {line}" for line in prompt_lines(config, [line.unit.arm for line in planned])]


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
