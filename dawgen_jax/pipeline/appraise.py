"""Judge a synthetic set that is there: read it, measure it, drop what rules forbid, write what was found.

A folder of findings holds quality.json (every figure), leaks.jsonl (the samples that nearly repeat a test pair, where
test pairs were given) and, where a rule drops samples, filtered/: a set of the same form as the one that was read.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dawgen_jax import miniworld
from dawgen_jax.backbones.base import Backbone
from dawgen_jax.config import ClassifierConfig
from dawgen_jax.data.pools import Example, read_examples
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.evaluation import appraisal, marks
from dawgen_jax.evaluation.appraisal import Figure, Real
from dawgen_jax.evaluation.features import features
from dawgen_jax.evaluation.marks import Mark, Rules
from dawgen_jax.io.files import read_json, write_file, write_json
from dawgen_jax.io.metadata import read_meta
from dawgen_jax.io.store import finish
from dawgen_jax.methods.stored import Stored
from dawgen_jax.pipeline.inputs import Encoded, TaskData, find_task
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.predictions import score_examples
from dawgen_jax.results.rows import versions
from dawgen_jax.synthesis import files
from dawgen_jax.synthesis.filtering import LabelCount, Sample, Selection
from dawgen_jax.tasks import SEVEN, Task
from dawgen_jax.training.placement import Placement

__all__ = ["OWN", "Appraisal", "GivenSet", "appraise", "appraise_written", "predicted_labels", "read_given",
           "write_appraisal"]

OWN = "own"
"""The name of a task of which only the labels are known."""


class GivenSet(NamedTuple):
    """A set as it was found: where, of which task, its samples and its counts by label."""

    path: pathlib.Path
    task: Task
    samples: list[Sample]
    counts: dict[str, LabelCount]


class Appraisal(NamedTuple):
    """What was found of a set.

    Attributes:
      figures: with verdicts.
      marks: one a sample.
      skipped: sentences that say which figures are missing, and what to give for them.
    """

    figures: list[Figure]
    marks: list[Mark]
    skipped: list[str]


def read_given(path: pathlib.Path, name: str = "") -> GivenSet:
    """Read a set folder (train.jsonl, counts.json), or a file of labelled pairs.

    Args:
      path: of the folder or file.
      name: of the task; 'own' for one of which only the labels are known, as the folder's counts.json names them;
        empty for the task that the folder's meta.json names, else 'own'.

    Raises:
      UserError: it cannot be read, its labels or scores are not the task's, or it is empty.
    """
    if path.is_dir():
        if not (path / "counts.json").is_file():
            raise UserError(f"{path}: is no folder of a synthetic set; give one that holds counts.json and "
                            "train.jsonl, RUN/synthetic/NAME for instance.")
        counts = files.read_counts(path)
        meta = read_meta(path)
        samples, known = files.read_set(path), SEVEN | miniworld.TASKS
        name = name or meta.task or OWN
        own = name == OWN or (name == meta.task and name not in known)  # a task of the user's, as meta.json says
        single = bool(samples) and not samples[0].example.sentence1
        task = _own(path.name, tuple(counts), single=single) if own else find_task(name)
    elif name in ("", OWN):
        raise UserError(f"{path}: is no folder of a synthetic set, and a file does not name its labels: give --task "
                        "NAME, or the folder that holds train.jsonl and counts.json.")
    else:
        task = find_task(name)
        samples = [Sample(example, place) for place, example in enumerate(read_examples(path, task))]
        made = Counter(sample.example.label for sample in samples)
        counts = {label: LabelCount(made[label], made[label], made[label], made[label], 0, 0, {})
                  for label in task.labels}
    for row, sample in enumerate(samples, 1):
        if sample.example.label not in task.labels or len(sample.scores) not in (0, len(task.labels)):
            raise UserError(f"{path}: sample {row} has the label '{sample.example.label}' and {len(sample.scores)} "
                            f"scores, but {task.name} has the labels {', '.join(task.labels)}; give the --task that "
                            "the set was written for.")
    if set(counts) != set(task.labels) or not samples:
        raise UserError(f"{path}: holds {len(samples)} samples and counts of {', '.join(counts) or 'no label'}, but "
                        f"{task.name} has the labels {', '.join(task.labels)}; give the --task that the set was "
                        "written for.")
    return GivenSet(path, task, samples, counts)


def _own(name: str, labels: tuple[str, ...], *, single: bool) -> Task:
    try:
        template = "{text} <mask>" if single else "{sentence1} {sentence2} <mask>"
        return Task(name, labels, template, labels, (("", ""),) * len(labels),
                    (1.0,) * len(labels))
    except ConfigError as error:
        raise UserError(f"{name}/counts.json: {error}") from None


def appraise(given: GivenSet, real: Real, test: Sequence[Example], rules: Rules, *, seed: int = 0,
             backbone: Backbone | None = None, placement: Placement | None = None,
             prompt: np.ndarray | None = None, cell: Stored | None = None) -> Appraisal:
    """Measure a set.

    Args:
      given: the set.
      real: shots and held-out pairs.
      test: the pairs that classifiers will be scored on; may be empty.
      rules: what near copies are.
      seed: of all draws.
      backbone: for features and predictions; None leaves these out.
      placement: devices, with a backbone.
      prompt: tuned on real pairs, [P, H]; None leaves predictions out.
      cell: what says how the prompt is read (template, label words); by default as the set's task is.
    """
    task, skipped = given.task, []
    marked = marks.mark(given.samples, task.labels, real.shots, test, rules)
    figures = appraisal.appraise(given.samples, task.labels, real, marked, near=rules.near, tested=bool(test),
                                 seed=seed)
    pairs = [sample.example for sample in given.samples]
    if backbone is None:
        skipped.append("No features and no MMD: name a backbone with --backbone.")
    else:
        sides = [appraisal.one_a_first_sentence(side, seed) for side in (pairs, real.reference)]
        figures.append(appraisal.fidelity(*(features([pair.sentence2 for pair in side], backbone, placement)
                                            for side in sides), seed=seed))
    if prompt is None:
        skipped.append("No agreement with a prompt: give one that was tuned on the shots with --prompt.")
    else:
        unseen = list(real.reference) if real.reference is not real.shots else []
        predicted = predicted_labels([*pairs, *unseen], cell.task if cell else task, backbone, prompt,
                                     cell.config if cell else ClassifierConfig())
        figures.append(appraisal.agreement(
            [pair.label for pair in pairs], predicted[:len(pairs)], [pair.label for pair in unseen],
            predicted[len(pairs):], classes=len(task.labels)))
    if not any(sample.scores for sample in given.samples):
        skipped.append("No label margins: the set has no scores (synthesis.score writes them).")
    if not test:
        skipped.append("No leaks were looked for: give the test pairs with --test.")
    if not real.heldout:
        skipped.append("Compared with the shots alone, which the generator knows: give unseen pairs with --heldout.")
    return Appraisal(figures, marked, skipped)


def appraise_written(job: Job, data: TaskData, seed: int, folder: pathlib.Path) -> list[Figure]:
    """The figures of a set of a run that need no backbone; ``quality/NAME.json`` of the run directory keeps them.

    Args:
      job: whose directory the set is in.
      data: of its task: the shots of the seed, the training pool as unseen pairs, the test pairs.
      seed: of the set.
      folder: of the set.
    """
    given = GivenSet(folder, data.task, files.read_set(folder), files.read_counts(folder))
    real, rules = Real(data.splits[seed].train, data.pools.train), Rules()
    found = appraise(given, real, data.test, rules)
    write_json(job.root / "quality" / f"{folder.name}.json", _findings(given, found, rules))
    return found.figures


def predicted_labels(pairs: Sequence[Example], task: Task, backbone: Backbone, prompt: np.ndarray,
                     config: ClassifierConfig) -> list[str]:
    """The labels that a prompt [P, H] gives pairs."""
    scores = score_examples(Encoded(task, backbone, config), pairs, prompt, config)
    return [task.labels[place] for place in scores.argmax(axis=1)]


def _findings(given: GivenSet, found: Appraisal, rules: Rules) -> dict:
    """What quality.json says: JSON values."""
    return {"set": str(given.path), "task": given.task.name, "n": len(given.samples),
            "rules": dataclasses.asdict(rules), "figures": [figure._asdict() for figure in found.figures],
            "skipped": found.skipped, "versions": versions()}


def write_appraisal(folder: pathlib.Path, given: GivenSet, found: Appraisal, real: Real, test: Sequence[Example],
                    rules: Rules, facts: dict) -> dict[str, Counter[str]]:
    """Write the findings, and the set that the rules leave.

    Args:
      folder: that does not exist yet.
      given: the set.
      found: of :func:`appraise`.
      real: the pairs that were given to it.
      test: likewise.
      rules: what is dropped.
      facts: what else quality.json says (where pairs came from, seeds, ...).

    Returns:
      how many samples of each label were dropped, by reason.

    Raises:
      UserError: the folder is there already, or nothing of a label would be left.
    """
    if folder.exists():
        raise UserError(f"--out {folder}: is there already, and nothing is overwritten; name another folder.")
    kept, dropped = marks.refine(given.samples, given.task.labels, found.marks, rules)
    for label in given.task.labels:
        if rules.active and not any(sample.example.label == label for sample in kept):
            reasons = ", ".join(f"{count} {reason}" for reason, count in dropped[label].items()) or "none was there"
            raise UserError(f"The rules leave no sample of label '{label}' ({reasons}); loosen them.")

    def fill(fresh: pathlib.Path) -> None:
        write_json(fresh / "quality.json", _findings(given, found, rules) | facts | {"dropped": dropped})
        if test:
            rows = marks.leak_rows(given.samples, found.marks, test)
            write_file(fresh / "leaks.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        if rules.active:
            _write_filtered(fresh / "filtered", given, marks.reselect(kept, given.counts, dropped), real, test, rules)

    finish(folder, fill)
    return dropped


def _write_filtered(folder: pathlib.Path, given: GivenSet, left: Selection, real: Real, test: Sequence[Example],
                    rules: Rules) -> None:
    """Write what the rules leave as a set of its own: what is known of the first one, what was done, what it is now."""
    known = read_json(given.path / "meta.json", missing_ok=True) if given.path.is_dir() else None
    meta = {"task": given.task.name, **(known or {}), "filtered_from": given.path.name,
            "rules": dataclasses.asdict(rules)}
    figures = appraise(given._replace(samples=left.samples), real, test, rules).figures
    folder.mkdir()
    files.write_set(folder, given.task, left, {name: value for name, value in meta.items() if name != "seconds"},
                    quality={figure.name: figure.value for figure in figures if figure.value is not None},
                    languages=read_meta(given.path).languages)
    write_json(folder / "meta.json", meta)
