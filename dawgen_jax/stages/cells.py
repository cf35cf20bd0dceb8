"""Stage 3: one cell a (task, backbone, arm, seed): tune on real and synthetic data, select on dev, score.

An artefact ``cells/TASK-BACKBONE-ARM-SEED-HASH/`` holds result.json (rows), metrics.jsonl, predictions.json and,
where a prompt was tuned, prompt.safetensors.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax import metrics, prompts, sharding
from dawgen_jax.baselines.finetuning import fine_tune
from dawgen_jax.config import Arm, ClassifierConfig, digest
from dawgen_jax.data.features import classifier_arrays
from dawgen_jax.data.fewshot import Split
from dawgen_jax.data.pools import Example
from dawgen_jax.data.tokenizer import label_word_ids, sentinel_id, word_start_ids
from dawgen_jax.evaluation import predict
from dawgen_jax.results.rows import Row, versions, write_cell
from dawgen_jax.stages import inputs
from dawgen_jax.stages.inputs import Backbone
from dawgen_jax.stages.job import Job
from dawgen_jax.stages.store import MetricsLog, artefact, discard, finish, partial, write_json
from dawgen_jax.stages.synthetic import SyntheticSet
from dawgen_jax.tasks import Task
from dawgen_jax.tuning.loop import Tuned, compiled_scores, tune
from dawgen_jax.tuning.losses import Verbalizer
from dawgen_jax.tuning.strategies import Phase, phases

__all__ = ["run_arm"]


class _Cell(NamedTuple):
    """One seed of an arm: its data, what its rows are marked with, and the folder of its artefact."""

    seed: int
    split: Split
    synthetic: SyntheticSet | None
    variant: str
    folder: pathlib.Path
    key: str


def run_arm(job: Job, name: str, arm: Arm, synthetic: Sequence[SyntheticSet] | None) -> list[pathlib.Path]:
    """Run an arm of a task for every seed of the job, or find its cells.

    Args:
      job: configuration, directory, mesh.
      name: of the task.
      arm: method, generator, shots, variant.
      synthetic: the synthetic set of each seed, where the arm has a generator.

    Returns:
      The artefact folders of the cells; zero-shot prompting has one for all seeds.
    """
    config, task = job.config.classifier, inputs.find_task(name)
    backbone = inputs.load_backbone(config.backbone, job.mesh)
    test = inputs.load_pools(name, job.config.data.root).scored(task)
    test = test[:job.config.data.max_test or None]
    plan = phases(arm, config, len(task.labels))
    seeds = job.config.seeds if arm.method != "Prompting (zero-shot)" else (0,)
    cells = []
    for position, seed in enumerate(seeds):
        split = _split(job, name, arm, seed)
        made = synthetic[position] if synthetic else None
        key = _key(job, task, backbone, arm, plan, split, made, test, seed)
        folder = artefact(job.root, "cells", f"{name}-{backbone.label}-{arm}-{seed}", key)
        cells.append(_Cell(seed, split, made, _variant(arm, plan, made, config), folder, key))
    runner = _fine_tuned if arm.method == "FT" else _prompted
    for group in [cells] if config.vmap_seeds and arm.method != "FT" else [[cell] for cell in cells]:
        progress = artefact(job.root, "cells", f"{name}-{backbone.label}-{arm}", digest([cell.key for cell in group]))
        if not all(cell.folder.exists() for cell in group):
            with job.stage(f"run {arm}"):
                runner(job, task, backbone, arm, plan, group, test, progress)
        discard(progress)
    return [cell.folder for cell in cells]


def _split(job: Job, name: str, arm: Arm, seed: int) -> Split:
    if arm.method == "Prompting (zero-shot)":
        return Split([], [], "none")
    split = inputs.load_split(name, job.config.data, seed)
    if not arm.full:
        return split
    held_out = set(split.dev)
    pool = [example for example in inputs.load_pools(name, job.config.data.root).train if example not in held_out]
    return Split(pool, split.dev, split.source)


def _key(job: Job, task: Task, backbone: Backbone, arm: Arm, plan: Sequence[Phase], split: Split,
         made: SyntheticSet | None, test: Sequence[Example], seed: int) -> str:
    config = job.config.classifier
    read: dict[str, Any] = {"max_tokens": config.max_tokens}
    if arm.method == "FT":
        read["fine_tuning"] = dataclasses.asdict(config.fine_tuning)
    if plan:
        read |= {field: getattr(config, field) for field in (
            "prompt_length", "prompt_init", "learning_rate", "factored", "weight_decay", "clip_norm")}
        read["plan"] = [dataclasses.asdict(phase) for phase in plan]
        if any(len(phase.sources) > 1 for phase in plan):
            read |= {"epsilon": config.epsilon, "surgery_scope": config.surgery_scope}
    written = (made.digest, made.generator_backbone, made.variants) if made else ()
    return digest("cell", read, task.labels, task.template, task.label_words, backbone.digest, str(arm),
                  job.config.data.k, split.train, split.dev, written, digest(test), seed)


def _variant(arm: Arm, plan: Sequence[Phase], made: SyntheticSet | None, config: ClassifierConfig) -> str:
    """What sets rows apart from the paper's: the arm's variant, the set's, and how the sources are combined."""
    marks = [arm.variant, *(made.variants if made else ())]
    combined = {phase.aggregator for phase in plan if len(phase.sources) > 1}
    marks += sorted(combined - {"sum", "surgery"})
    if combined and config.epsilon != 1:
        marks.append(f"epsilon={config.epsilon:g}")
    if combined - {"sum"} and config.surgery_scope != "global":
        marks.append(f"scope={config.surgery_scope}")
    return "+".join(mark for mark in marks if mark)


def _prompted(job: Job, task: Task, backbone: Backbone, arm: Arm, plan: Sequence[Phase], cells: Sequence[_Cell],
              test: Sequence[Example], progress: pathlib.Path) -> None:
    """Cells with a soft prompt (or none at all, zero-shot): tuned together, then scored together."""
    config = job.config.classifier
    arrays = functools.partial(classifier_arrays, backbone.tokenizer, task, max_tokens=config.max_tokens,
                               pad_multiple=config.pad_multiple)
    verbalizer = Verbalizer(tuple(label_word_ids(backbone.tokenizer, task).tolist()), sentinel_id(backbone.tokenizer))
    group = partial(progress)
    log, begin, title = MetricsLog(group / "metrics.jsonl"), time.monotonic(), f"{task.name} {arm}"
    if plan:
        # Each seed draws its own rows, so that a cell does not depend on the seeds that are tuned beside it.
        start = np.stack([prompts.vocabulary_prompt(
            backbone.theta, word_start_ids(backbone.tokenizer), config.prompt_length,
            seed=None if config.prompt_init == "vocabulary" else cell.seed) for cell in cells])
        sources = {"real": [arrays(cell.split.train) for cell in cells]}
        if cells[0].synthetic:
            sources["synthetic"] = [arrays(cell.synthetic.examples) for cell in cells]
        tuned = tune(start, backbone.theta, sources, [arrays(cell.split.dev) for cell in cells], plan, config=config,
                     t5=backbone.t5, verbalizer=verbalizer, mesh=job.mesh, seeds=[cell.seed for cell in cells],
                     folder=group, title=title, record=log.record, forget=log.forget)
    else:
        tuned = Tuned(np.zeros((1, 0, backbone.t5.d_model), np.float32), np.zeros(1), np.zeros(1, int))
    scores = compiled_scores(backbone.t5, verbalizer, job.mesh, shared=True)
    data = arrays(test)
    predicted = predict(scores, jnp.asarray(tuned.prompts), backbone.theta, data,
                        size=sharding.rows_for(job.mesh, config.eval_batch_size), multiple=config.pad_multiple)
    seconds = (time.monotonic() - begin) / len(cells)
    for k, cell in enumerate(cells):
        lines = log.of_seed(k)
        extras = {"dev_accuracy": float(tuned.accuracy[k]), "best_step": int(tuned.step[k]),
                  "seeds_in_program": len(cells)} if plan else {}
        conflicts = [line["conflict"] for line in lines if "conflict" in line]
        if conflicts:
            extras |= {"conflict_rate": float(np.mean(conflicts)),
                       "cosine": float(np.mean([line["cosine"] for line in lines if "cosine" in line]))}
        rows = _rows(job, task, backbone, arm, cell, predicted[k], data.label, tuned.prompts[k].size, seconds, extras)
        finish(cell.folder, functools.partial(_fill, rows=rows, lines=lines, predicted=predicted[k],
                                              prompt=tuned.prompts[k] if plan else None))


def _fine_tuned(job: Job, task: Task, backbone: Backbone, arm: Arm, plan: Sequence[Phase], cells: Sequence[_Cell],
                test: Sequence[Example], progress: pathlib.Path) -> None:
    """A cell of the FT baseline."""
    config, (cell,), begin = job.config.classifier, cells, time.monotonic()
    plain = dataclasses.replace(task, template="{sentence1} {sentence2}")
    train, dev, data = (classifier_arrays(backbone.tokenizer, plain, examples, max_tokens=config.max_tokens,
                                          pad_multiple=config.pad_multiple)
                        for examples in (cell.split.train, cell.split.dev, test))
    result = fine_tune(backbone.theta, train, dev, data, num_labels=len(task.labels), config=config.fine_tuning,
                       t5=backbone.t5, mesh=job.mesh, seed=cell.seed, eval_batch_size=config.eval_batch_size,
                       pad_multiple=config.pad_multiple, title=f"{task.name} {arm} {cell.seed}")
    count = sum(leaf.size for leaf in jax.tree.leaves(backbone.theta)) + backbone.t5.d_model * len(task.labels)
    rows = _rows(job, task, backbone, arm, cell, result.predicted, data.label, count, time.monotonic() - begin,
                 {"dev_accuracy": result.accuracy, "best_step": result.step, "learning_rate": result.learning_rate})
    finish(cell.folder, functools.partial(_fill, rows=rows, lines=[], predicted=result.predicted, prompt=None))


def _rows(job: Job, task: Task, backbone: Backbone, arm: Arm, cell: _Cell, predicted: np.ndarray, label: np.ndarray,
          trainable: int, seconds: float, extras: dict) -> list[Row]:
    """The rows of a cell: accuracy and F1, and for two classes the accuracy with the label words exchanged."""
    scored = metrics.scores(task, predicted, label)
    row = Row(
        task=task.name, backbone=backbone.label, method=arm.method, metric="accuracy",
        value=scored["accuracy"], n_test=len(label), seed=cell.seed,
        generator=arm.generator, generator_backbone=cell.synthetic.generator_backbone if cell.synthetic else "",
        k_shot="full" if arm.full else job.config.data.k,
        variant=cell.variant,
        class_counts={name: int((label == index).sum()) for index, name in enumerate(task.labels)},
        split_source=cell.split.source, trainable_parameters=int(trainable), wall_seconds=round(seconds, 2),
        config_hash=cell.key, versions=versions(),
        extras=extras | {"predicted_counts": np.bincount(predicted, minlength=len(task.labels)).tolist()},
    )
    if len(task.labels) == 2:
        row.extras["accuracy_words_exchanged"] = metrics.accuracy(1 - predicted, label)
    return [row, dataclasses.replace(row, metric="f1", value=scored["f1"])]


def _fill(folder: pathlib.Path, *, rows: list[Row], lines: list[dict], predicted: np.ndarray,
          prompt: np.ndarray | None) -> None:
    if prompt is not None:
        prompts.save(folder / "prompt.safetensors", {"prompt": prompt})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    write_json(folder / "predictions.json", predicted.tolist())
    write_cell(folder / "result.json", rows)
