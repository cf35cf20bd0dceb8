"""Stage 2b: prompts that are trained on something else before the few shots (PPT, SPoT, OPTIMA).

An artefact ``source_prompts/KIND-SOURCE-HASH/`` holds prompt.safetensors, metrics.jsonl and meta.json. It does not
depend on the seed of the few shots: every seed, and every task with the same source, starts from the same prompt
(OPTIMA's sees the target's unlabelled pairs, and is one for each target).
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import time
from typing import Any, NamedTuple

import numpy as np

from dawgen_jax import miniworld, prompts
from dawgen_jax.config import Config, digest
from dawgen_jax.data import documents
from dawgen_jax.data.pools import Example
from dawgen_jax.errors import UserError
from dawgen_jax.io import metrics_log
from dawgen_jax.io.files import write_file, write_json
from dawgen_jax.io.store import Fill, artefact, build
from dawgen_jax.methods.transfer import SOURCES, SourceData, SourceKind, SourceTuned, hold_out, train_source_prompt
from dawgen_jax.miniworld.documents import NEXT_SENTENCE as MINI_NEXT_SENTENCE
from dawgen_jax.miniworld.documents import documents as mini_documents
from dawgen_jax.pipeline.inputs import Encoded, TaskData, content_digest, find_task, load_pools, wording_key
from dawgen_jax.pipeline.job import Job
from dawgen_jax.tasks import Task

__all__ = ["REVISION", "SourcePrompt", "labelled_source", "train_source"]

REVISION = 1
"""Raised by hand when the same inputs give another prompt; see :data:`dawgen_jax.pipeline.generators.REVISION`."""

_SEED = 0
"""Of everything random: the prompt is one for all seeds of the few shots."""


class SourcePrompt(NamedTuple):
    """A prompt to start from.

    Attributes:
      prompt: [P, H].
      digest: of what it was trained on, with which settings.
      settings: the fields that its training read, dotted, with their values.
    """

    prompt: np.ndarray
    digest: str
    settings: dict[str, Any]


def labelled_source(kind: SourceKind, task: Task, config: Config) -> tuple[Task, list[Example]]:
    """The labelled set that a kind of prompt is trained on for a target task.

    Raises:
      UserError: the target has no source task, the source task has no data, or there are no documents.
    """
    if kind.labelled == "task":
        name = kind.source_task(task)
        try:
            return find_task(name), load_pools(name, config.data.root).train
        except UserError as error:
            raise UserError(f"{kind.name} for {task.name} needs the training set of {name}: {error}") from None
    if config.transfer.documents:
        source, found = documents.NEXT_SENTENCE, documents.read_documents(config.transfer.documents)
    elif task.name in miniworld.TASKS:
        source, found = MINI_NEXT_SENTENCE, mini_documents()
    else:
        raise UserError(f"transfer.documents is empty: {kind.name} needs plain documents for {task.name} (a text file, "
                        "a sentence or paragraph a line, a blank line between documents).")
    return source, documents.sentence_pairs(found, config.transfer.ppt_pairs, _SEED)


def train_source(job: Job, given: TaskData, encoded: Encoded, kind_name: str) -> SourcePrompt:
    """Train, or find, the prompt that methods of a kind start from.

    Args:
      job: configuration, directory, devices.
      given: the target task's data.
      encoded: its token arrays.
      kind_name: 'PPT', 'SPoT' or 'OPTIMA'.

    Raises:
      UserError: as :func:`labelled_source`, or a loss is not finite.
    """
    kind, config, backbone = SOURCES[kind_name], job.config, encoded.backbone
    source, examples = labelled_source(kind, given.task, config)
    settings = kind.settings(config) | {"transfer.revision": REVISION}
    if kind.labelled == "documents":
        settings["transfer.documents"] = content_digest(config.transfer.documents)
    target = digest(given.pools.train, given.task.template) if kind.unlabelled else ""
    # Task.causal counts only for the families that read it, and of Task.folder there are the examples.
    fields = {name: value for name, value in dataclasses.asdict(source).items() if name not in ("causal", "folder")}
    key = digest("source prompt", kind.name, settings, fields, digest(examples), target, backbone.digest,
                 *wording_key(backbone.format, source))
    name = f"{kind.name}-{source.name}" + (f"-{given.task.name}" if kind.unlabelled else "")
    folder = artefact(job.root, "source_prompts", name, key)

    def make(_: list[int], work: pathlib.Path) -> list[Fill]:
        with job.stage(f"train {kind.name}"):
            arrays = Encoded(source, backbone, config.classifier)
            train, dev = hold_out(arrays.arrays(examples, "source"), config.transfer.held_out, _SEED)
            unlabelled = encoded.arrays(given.pools.train, "unlabelled pool") if kind.unlabelled else None
            return [_train(job, kind, arrays, SourceData(train, dev, unlabelled), work, name)]

    build([folder], make)
    return SourcePrompt(prompts.load(folder / "prompt.safetensors")["prompt"], key, settings)


def _train(job: Job, kind: SourceKind, arrays: Encoded, data: SourceData, work: pathlib.Path, title: str) -> Fill:
    config, backbone, begin = job.config, arrays.backbone, time.monotonic()
    start = prompts.vocabulary_prompt(
        backbone.theta, backbone.format.word_start_ids(), config.classifier.prompt_length, model=backbone.model,
        seed=None if config.classifier.prompt_init == "vocabulary" else _SEED)
    log = job.metrics_log(work, kind.settings(config), (_SEED,))
    tuned = train_source_prompt(kind, start, backbone, data, config=config, label_ids=arrays.label_ids,
                                tail=arrays.tail, placement=job.placement, seed=_SEED, folder=work, title=title,
                                metrics_log=log)
    log.close()
    return functools.partial(_fill, tuned=tuned, lines=log.lines(), seconds=round(time.monotonic() - begin, 1))


def _fill(folder: pathlib.Path, *, tuned: SourceTuned, lines: list[dict], seconds: float) -> None:
    prompts.save(folder / "prompt.safetensors", {"prompt": tuned.prompt})
    write_file(folder / "metrics.jsonl", metrics_log.text(lines))
    write_json(folder / "meta.json", {"dev_accuracy": tuned.accuracy, "best_step": tuned.step, "seconds": seconds})
