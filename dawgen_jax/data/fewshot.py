"""Few-shot splits: k examples a class to tune on and k others to select on.

The paper's splits are LM-BFF's: NumPy's legacy generator, seeded, shuffles all training lines; of each class the
first k are the training set and the next k the dev set. On complete RTE and MRPC that gives LM-BFF's files to the
line. SICK (``Task.draw = 'classes'``) follows OPTIMA: each class is shuffled apart, as ``datasets`` shuffles.

``Departure:`` an example that a pool has twice is taken where the shuffle has it first and passed over later, so that
none is both tuned and selected on. Of the complete pools RTE's has 2 repeats and SICK's 30; none of the paper's seeds
draws one.

References: Gao, Fisch, Chen, *Making pre-trained language models better few-shot learners*
(https://arxiv.org/abs/2012.15723, 2021).
"""

from __future__ import annotations

import itertools
import logging
import os
import pathlib
from typing import NamedTuple

import numpy as np

from dawgen_jax.config import DataConfig
from dawgen_jax.data.pools import Example, alike, distinct, located_examples, overlap
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import Task

__all__ = ["READY", "RESAMPLED", "Split", "draw_split", "few_shot", "read_split"]

log = logging.getLogger(__name__)
READY = "lm-bff files"
RESAMPLED = "resampled"


class Split(NamedTuple):
    """A few-shot split; ``source`` is the ``split_source`` of result rows: READY or RESAMPLED."""

    train: list[Example]
    dev: list[Example]
    source: str


def draw_split(task: Task, data: DataConfig, pool: list[Example], seed: int) -> Split:
    """The split of ``seed``: from ready files where ``data.kshot`` has the task, else drawn from ``pool``.

    Raises:
      UserError: the task's ready files lack this k or seed, or a class has too few examples.
    """
    if data.kshot:
        if not os.path.isdir(data.kshot):
            raise UserError(f"data.kshot = '{data.kshot}': no such folder; leave it empty to draw splits from the "
                            "pool.")
        if (pathlib.Path(data.kshot) / task.name).is_dir():
            return _warned(task, seed, Split(*read_split(data.kshot, task, data.k, seed), READY))
    where = f"{data.root or 'the mini world'}, {task.name}/train"
    return _warned(task, seed, Split(*few_shot(pool, task, data.k, seed, where=where), RESAMPLED))


def _warned(task: Task, seed: int, split: Split) -> Split:
    """The split; texts that are in both halves, which are there under different labels, are told."""
    if repeated := overlap(split.dev, split.train):
        log.warning("%s, seed %d: %d of the %d examples to select on have the texts of one to tune on under another "
                    "label; keep one label a text in the data.", task.name, seed, repeated, len(split.dev))
    return split


def few_shot(
    pool: list[Example], task: Task, k: int, seed: int, *, where: str = "the training pool"
) -> tuple[list[Example], list[Example]]:
    """Draws k training and k dev examples of each class, all of them different.

    Args:
      pool: all training examples, in the order of the file.
      task: its classes and way of drawing.
      k: examples a class in each of the two.
      seed: of the shuffle.
      where: names the pool in errors.

    Returns:
      (train, dev), each with classes in the order of ``task.labels``.

    Raises:
      UserError: a class has fewer than 2 k different examples.
    """
    labels = np.array([example.label for example in pool])
    order = np.random.RandomState(seed).permutation(len(pool))
    train, dev = [], []
    for label in task.labels:
        if task.draw == "classes":
            members = np.flatnonzero(labels == label)
            members = members[np.random.default_rng(seed).permutation(len(members))]
        else:
            members = order[labels[order] == label]
        drawn = list(itertools.islice(distinct(pool[i] for i in members), 2 * k))
        if len(drawn) < 2 * k:
            repeats = f" (and {len(members) - len(drawn)} repeats)" if len(drawn) < len(members) else ""
            fit = min(sum(one.label == name for one in distinct(pool)) for name in task.labels) // 2
            lower = f"lower data.k to {fit} or " * (fit > 0)
            raise UserError(f"{where}: class '{label}' of {task.name} has {len(drawn)} examples{repeats}, but data.k = "
                            f"{k} needs {2 * k} ({k} to tune on, {k} for dev): {lower}add examples.")
        train += drawn[:k]
        dev += drawn[k:]
    return train, dev


def read_split(folder: str | pathlib.Path, task: Task, k: int, seed: int) -> tuple[list[Example], list[Example]]:
    """Reads the ready split ``folder/TASK/K-SEED/{train,dev}.jsonl``.

    Returns:
      (train, dev) in the order of the files.

    Raises:
      UserError: the split is not there, a file has not k examples of every class, or an example is in both.
    """
    task_folder = pathlib.Path(folder) / task.name
    split_folder = task_folder / f"{k}-{seed}"
    if not split_folder.is_dir():
        there = ", ".join(sorted(path.name for path in task_folder.glob("*-*"))) or "none"
        raise UserError(f"{split_folder}: no ready split for data.k = {k} and seed {seed} (there are: {there}); take "
                        "one of those, or leave data.kshot empty to draw splits from the pool.")
    splits, places = [], {}
    for name in ("train.jsonl", "dev.jsonl"):
        path = split_folder / name
        located = located_examples(path, task)
        for place, example in located:
            if alike(example) in places:
                raise UserError(f"{place}: is the example of {places[alike(example)]}, and none may be both tuned and "
                                "selected on; put another in its place, or leave data.kshot empty.")
        places = {alike(example): place for place, example in located}
        examples = [example for _, example in located]
        for label in task.labels:
            count = sum(example.label == label for example in examples)
            if count != k:
                raise UserError(f"{path}: class '{label}' has {count} examples, but a {k}-shot split has {k}; "
                                "mend the file or leave data.kshot empty.")
        splits.append(examples)
    return splits[0], splits[1]
