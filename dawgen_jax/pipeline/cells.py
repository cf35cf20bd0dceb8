"""Stage 3: one cell per (task, backbone, arm, seed): tune on real and synthetic data, select on dev, score.

An artefact ``cells/TASK-BACKBONE-ARM-SEED-HASH/`` holds result.json (rows), metrics.jsonl, predictions.json,
wrong_examples.json (the confusion matrix and a few test examples of each kind of mistake) and, if something small
was tuned, the classifier (``methods.stored``): classifier.json with prompt.safetensors (and the same as a PEFT adapter
in peft/) or lora.safetensors.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dawgen_jax import prompts
from dawgen_jax.backbones.base import Adapter, Backbone
from dawgen_jax.config import ClassifierConfig, Config, digest
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.data.encoding import demonstration_arrays
from dawgen_jax.data.fewshot import Split
from dawgen_jax.data.pools import Example, texts_of
from dawgen_jax.evaluation import metrics
from dawgen_jax.io import metrics_log
from dawgen_jax.io.files import write_file, write_json
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.io.store import Fill, artefact, build
from dawgen_jax.methods.arms import RELEASED, Arm
from dawgen_jax.methods.base import Method, Trained, value_of
from dawgen_jax.methods.stored import Stored, can_be_stored, write_classifier
from dawgen_jax.methods.trained import PROMPT
from dawgen_jax.methods.tune import Tuned, tune
from dawgen_jax.pipeline import adapters, generators, sets, source_prompts
from dawgen_jax.pipeline.inputs import SPLIT_FILES, Encoded, TaskData, content_digest, load_backbone, wording_key
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.predictions import score_arrays
from dawgen_jax.pipeline.sets import SyntheticSet, set_settings
from dawgen_jax.pipeline.source_prompts import SourcePrompt
from dawgen_jax.results.rows import Row, versions, write_cell
from dawgen_jax.tasks import Task

__all__ = ["REVISION", "Cell", "cell_settings", "cells_of", "is_current", "run_arm", "start_prompt"]

REVISION = 1
"""Raised by hand when the same inputs give other results; see :data:`dawgen_jax.pipeline.generators.REVISION`."""
_REVISIONS = {"generator.revision": generators.REVISION, "synthesis.revision": sets.REVISION,
              "transfer.revision": source_prompts.REVISION, "classifier.revision": REVISION}

_EACH, _IN_ALL, _CHARACTERS = 3, 60, 400
"""Bounds of wrong_examples.json: examples of each kind of mistake and of all, and characters of each of their texts."""


class Cell(NamedTuple):
    """One seed of an arm: its data, the settings that it read, and the folder of its artefact."""

    seed: int
    split: Split
    synthetic: SyntheticSet | None
    source: SourcePrompt | None
    settings: dict[str, Any]
    variant: str
    folder: pathlib.Path
    key: str


def cells_of(job: Job, given: TaskData, arm: Arm, synthetic: Sequence[SyntheticSet] | None,
             source: SourcePrompt | None) -> list[Cell]:
    """The cells of a task's arm, finished or not.

    Args:
      job: configuration, directory, devices.
      given: the task's data.
      arm: method and generator.
      synthetic: the synthetic set of each seed; None if the arm has no generator.
      source: the prompt that the method starts from; None if it starts from the vocabulary.

    Returns:
      One per seed; a method without seeds has one cell.
    """
    config, method, task = job.config, arm.method, given.task
    backbone, cells = job.backbone(config.classifier.backbone), []
    settings = cell_settings(config, arm) | (source.settings if source else {})
    settings["classifier.backbone.digest"] = backbone.digest
    if arm.generator not in ("", RELEASED):
        settings["generator.backbone.digest"] = job.backbone(config.generator.backbone).digest
    for position, seed in enumerate(config.seeds if method.seeded else (0,)):
        made = synthetic[position] if synthetic else None
        split = (given.full if method.full else given.splits)[seed] if method.seeded else Split([], [], "none")
        written = (made.digest, made.generator_backbone, made.variants) if made else ()
        key = digest("cell", settings, str(arm), method.stages(config.classifier, len(task.labels)), given.digest,
                     backbone.digest, given.k,
                     given.split_digest(seed, full=method.full) if method.seeded else "", written,
                     source.digest if source else "", given.digests["test"], seed, *wording_key(backbone.format, task))
        folder = artefact(job.root, "cells", f"{task.name}-{backbone.label}-{arm}-{seed}", key)
        variant = "+".join(filter(None, (method.variant, *(made.variants if made else ()))))
        cells.append(Cell(seed, split, made, source, settings, variant, folder, key))
    return cells


def run_arm(job: Job, given: TaskData, encoded: Encoded, arm: Arm, cells: Sequence[Cell]) -> list[pathlib.Path]:
    """Run the unfinished cells of an arm; all seeds in one program if ``classifier.vmap_seeds``.

    Args:
      job: configuration, directory, devices.
      given: the task's data.
      encoded: its token arrays for the classifier's backbone.
      arm: method and generator.
      cells: of :func:`cells_of`.

    Returns:
      The artefact folders of the cells.

    Raises:
      UserError: a loss is not finite, or an input cannot be used.
    """
    together = job.config.classifier.vmap_seeds and not (arm.method.trains and arm.method.trains.weights)
    together = together and not arm.method.demonstrations
    name = f"{given.task.name}-{job.config.classifier.backbone.label}-{arm}"
    for wanted in [cells] if together else [[cell] for cell in cells]:
        def make(missing: list[int], work: pathlib.Path, wanted: Sequence[Cell] = wanted) -> Iterator[Fill]:
            with job.stage(f"run {arm}"):
                yield from _run(job, given, encoded, arm, [wanted[place] for place in missing], work)

        build([cell.folder for cell in wanted], make, group=artefact(job.root, "cells", name, "arm"))
    return [cell.folder for cell in cells]


def cell_settings(config: Config, arm: Arm) -> dict[str, Any]:
    """The fields that the cells of an arm depend on, dotted, with their values; for paths the digests of what is
    there."""
    shots = {"data.kshot": content_digest(config.data.kshot, SPLIT_FILES)} if arm.method.seeded else {}
    return (shots | arm.method.settings(config) | (set_settings(config, arm.generator) if arm.generator else {})
            | {field: value_of(config, field) for field in ("classifier.backbone.dtype", "data.max_test")}
            | {"classifier.revision": REVISION})


def is_current(settings: Mapping[str, Any]) -> bool:
    """Whether a row's settings name the revisions of today's stages; rows without any are of earlier code."""
    named = {name: value for name, value in settings.items() if name in _REVISIONS}
    return bool(named) and named.items() <= _REVISIONS.items()


def _run(job: Job, given: TaskData, encoded: Encoded, arm: Arm, cells: Sequence[Cell], folder: pathlib.Path
         ) -> Iterator[Fill]:
    """Cells that are tuned together, then scored together."""
    config, method, begin = job.config.classifier, arm.method, time.monotonic()
    seeds, backbone, trained = [cell.seed for cell in cells], encoded.backbone, method.trains or PROMPT
    log = job.metrics_log(folder, cells[0].settings, seeds)
    extras: list[dict] = [{} for _ in cells]
    if method.trains:
        tuned = _tuned(job, given, encoded, arm, cells, folder, log)
        extras = [{"dev_accuracy": float(tuned.accuracy[k]), "best_step": int(tuned.step[k]),
                   "seeds_in_program": len(cells)} | ({"learning_rate": tuned.rate} if tuned.rate else {})
                  for k in range(len(cells))]
    else:
        tuned = Tuned(np.zeros((1, 0, backbone.model.width), np.float32), np.zeros(1), np.zeros(1, int))
    if method.demonstrations:
        (cell,) = cells
        data, count = demonstration_arrays(
            backbone.format, given.task, cell.split.train, given.test, config.demonstration_tokens,
            config.pad_multiple, cell.seed, pair_tokens=config.max_tokens)
        extras[0]["demonstrations"] = count
        encoded.warn_of_losses(given.test)
    else:
        data = encoded.arrays(given.test, given.digests["test"], bare=trained.bare)
    predict = functools.partial(_predict, encoded, data, config, method)
    predicted = predict(tuned.params)
    if tuned.last is not None:  # a small dev set does not select reliably: rows also have the last prompt's figures
        for k, last in enumerate(predict(tuned.last)):
            extras[k] |= {f"last_{name}": value for name, value in metrics.scores(given.task, last, data.label).items()}
    log.close(test_accuracy=[metrics.accuracy(one, data.label) for one in predicted])
    seconds = (time.monotonic() - begin) / len(cells)
    count = sum(leaf.size for leaf in jax.tree.leaves(tuned.params)) // len(jax.tree.leaves(tuned.params)[0])
    # Whole backbones are not stored, so they are not copied to the host.
    small = jax.tree.map(np.asarray, tuned.params) if method.trains and not trained.weights else None
    for k, cell in enumerate(cells):
        lines = log.of_seed(k)
        conflicts = [line["conflict"] for line in lines if "conflict" in line]
        if conflicts:
            extras[k] |= {"conflict_rate": float(np.mean(conflicts)),
                          "cosine": float(np.mean([line["cosine"] for line in lines if "cosine" in line]))}
        rows = _rows(job, given, arm, cell, predicted[k], data.label, count, seconds, extras[k])
        kept = jax.tree.map(lambda leaf, k=k: leaf[k], small)
        stored = Stored(given.task, method, config, backbone.digest, kept)
        wrong = _wrong_examples(given.task, given.test, data.label, predicted[k])
        yield functools.partial(_fill, rows=rows, lines=lines, predicted=predicted[k], wrong=wrong,
                                stored=stored if can_be_stored(method) else None, adapter=backbone.format.adapter,
                                inside=encoded.tail is not None)


def _predict(encoded: Encoded, data: ClassifierBatch, config: ClassifierConfig, method: Method, params) -> np.ndarray:
    """Predicted classes int32 [K, N]."""
    return score_arrays(encoded, data, params, config, method=method).argmax(axis=-1).astype(np.int32)


def _tuned(job: Job, given: TaskData, encoded: Encoded, arm: Arm, cells: Sequence[Cell], folder: pathlib.Path,
           log: MetricsLog) -> Tuned:
    """What the method trains, for every cell."""
    config, method, backbone = job.config.classifier, arm.method, encoded.backbone
    if method.trains.weights and config.backbone.dtype != "float32":
        # Loaded again: the frozen copy is rounded to the compute dtype, which loses what small updates would add to.
        backbone = backbone._replace(theta=load_backbone(config.backbone, job.placement, storage="float32").theta)
    arrays = functools.partial(encoded.arrays, bare=method.trains.bare)
    data = {"real": [arrays(cell.split.train, f"train {cell.seed} {method.full}") for cell in cells]}
    if cells[0].synthetic:
        data["synthetic"] = [arrays(cell.synthetic.examples, cell.synthetic.digest) for cell in cells]
    dev = [arrays(cell.split.dev, f"dev {cell.seed}") for cell in cells]
    starts = [cell.source.prompt if cell.source else start_prompt(backbone, config, method.trains, cell.seed)
              for cell in cells]  # each draws its own rows, whatever seeds are tuned with it
    return tune(method.trains, np.stack(starts), backbone, data, dev,
                method.stages(config, len(given.task.labels)), config=config, label_ids=encoded.label_ids,
                tail=encoded.tail, contexts=encoded.contexts, placement=job.placement,
                seeds=[cell.seed for cell in cells], folder=folder, title=f"{given.task.name} {arm}", metrics_log=log)


def start_prompt(backbone: Backbone, config: ClassifierConfig, trained: Trained, seed: int) -> np.ndarray:
    """The prompt [P, H] that tuning starts from: the first vocabulary rows, or rows drawn by ``seed``.

    It is empty, [0, H], if the method trains no prompt: then no vocabulary is too small for one.
    """
    if "prompt_length" not in trained.fields:
        return np.zeros((0, backbone.model.width), np.float32)
    return prompts.vocabulary_prompt(
        backbone.theta, backbone.format.word_start_ids(), config.prompt_length, model=backbone.model,
        seed=None if config.prompt_init == "vocabulary" else seed)


def _rows(job: Job, given: TaskData, arm: Arm, cell: Cell, predicted: np.ndarray, label: np.ndarray, trainable: int,
          seconds: float, extras: dict) -> list[Row]:
    """The rows of a cell: accuracy and F1, and for two classes the accuracy with the label words exchanged."""
    task = given.task
    scored = metrics.scores(task, predicted, label)
    row = Row(
        task=task.name, backbone=job.config.classifier.backbone.label, method=arm.method.name, metric="accuracy",
        value=scored["accuracy"], n_test=len(label), seed=cell.seed,
        generator=arm.generator, generator_backbone=cell.synthetic.generator_backbone if cell.synthetic else "",
        k_shot="full" if arm.method.full else given.k,
        variant=cell.variant, settings=cell.settings, data=given.digest,
        class_counts={name: int((label == index).sum()) for index, name in enumerate(task.labels)},
        split_source=cell.split.source, trainable_parameters=int(trainable), wall_seconds=round(seconds, 2),
        config_hash=cell.key, versions=versions(),
        extras=extras | {"predicted_counts": np.bincount(predicted, minlength=len(task.labels)).tolist()},
    )
    if len(task.labels) == 2:
        row.extras["accuracy_words_exchanged"] = metrics.accuracy(1 - predicted, label)
    return [row, dataclasses.replace(row, metric="f1", value=scored["f1"])]


def _wrong_examples(task: Task, test: Sequence[Example], label: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """The confusion matrix (a row a true label), and the first test examples of each kind of mistake."""
    examples, seen = [], Counter()
    for index in np.flatnonzero(predicted != label):
        kind = (int(label[index]), int(predicted[index]))
        seen[kind] += 1
        if seen[kind] <= _EACH and len(examples) < _IN_ALL:
            texts = {field: texts[0][:_CHARACTERS] for field, texts in
                     zip(task.fields, texts_of(task, [test[index]]), strict=True)}
            examples.append(texts | {"label": task.labels[kind[0]], "predicted": task.labels[kind[1]]})
    counts = metrics.confusion(predicted, label, len(task.labels))
    return {"labels": list(task.labels), "confusion": counts.tolist(), "examples": examples}


def _fill(folder: pathlib.Path, *, rows: list[Row], lines: list[dict], predicted: np.ndarray, wrong: dict[str, Any],
          stored: Stored | None, adapter: Adapter, inside: bool) -> None:
    if stored:
        write_classifier(folder, stored)
        if isinstance(stored.params, np.ndarray):
            adapters.write_prompt(folder / "peft", stored.params, stored.config.backbone.path, adapter, stored.task,
                                  rows[0], inside=inside)
    write_file(folder / "metrics.jsonl", metrics_log.text(lines))
    write_json(folder / "predictions.json", predicted.tolist())
    write_json(folder / "wrong_examples.json", wrong)
    write_cell(folder / "result.json", rows)
