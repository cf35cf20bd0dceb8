"""Few-shot splits: k examples per class for tuning and k others for selection (dev).

The paper's splits are LM-BFF's: NumPy's legacy generator, seeded, shuffles all training lines; the first k of each
class are the training set and the next k the dev set. On the complete RTE and MRPC this reproduces LM-BFF's files line
by line. SICK (``Task.draw = 'classes'``) follows OPTIMA: each class is shuffled separately, as ``datasets`` shuffles.

``Departure:`` if an example is repeated (ignoring case, extra spaces and Unicode forms), only the first occurrence in
the shuffled order can be sampled, so that no example is used for both tuning and selection. Of the complete pools, RTE
has 2 repeats and SICK 30; none of the paper's seeds samples one.

References: Gao, Fisch, Chen, *Making pre-trained language models better few-shot learners*
(https://arxiv.org/abs/2012.15723, 2021).
"""

from __future__ import annotations

import itertools
import logging
import os
import pathlib
from collections import Counter
from typing import NamedTuple

import numpy as np

from dawgen_jax.config import DataConfig
from dawgen_jax.data.pools import Example, alike, classified, distinct, labelled, overlap, preset
from dawgen_jax.data.records import records
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import SAMPLE_DATA, Task

__all__ = ["READY", "RESAMPLED", "Split", "draw_split", "few_shot", "read_split"]

log = logging.getLogger(__name__)
READY = "lm-bff files"
SHIPPED = "shipped sample"
RESAMPLED = "resampled"


class Split(NamedTuple):
    """A few-shot split; ``source`` is the ``split_source`` of result rows: READY, SHIPPED or RESAMPLED."""

    train: list[Example]
    dev: list[Example]
    source: str


def draw_split(task: Task, data: DataConfig, pool: list[Example], seed: int) -> Split:
    """The split of ``seed``: from fixed files if ``data.kshot`` has the task, otherwise sampled from ``pool``.

    Raises:
      UserError: the task's fixed files lack this k or seed, or a class has too few examples.
    """
    if data.kshot and not os.path.isdir(data.kshot):
        raise UserError(f"data.kshot = '{data.kshot}': no such folder; leave it empty to sample splits from the pool.")
    if ready := bool(data.kshot) and (pathlib.Path(data.kshot) / task.data_folder).is_dir():
        halves = read_split(data.kshot, task, data.k, seed)
    else:
        halves = few_shot(pool, task, data.k, seed, where=f"{data.root or 'the mini world'}, {task.name}/train")
    if repeated := overlap(halves[1], halves[0]):  # with another label, since no example is in both halves
        log.warning("%s, seed %d: %d of the %d examples to select on have the texts of one to tune on under another "
                    "label; keep one label per text in the data.", task.name, seed, repeated, len(halves[1]))
    return Split(*halves, (SHIPPED if data.kshot == str(SAMPLE_DATA) else READY) if ready else RESAMPLED)


def few_shot(pool: list[Example], task: Task, k: int, seed: int, *, where: str = "the training pool"
             ) -> tuple[list[Example], list[Example]]:
    """Sample k training and k dev examples per class, all different.

    Args:
      pool: all training examples, in file order.
      task: its classes, and whether they are shuffled separately.
      k: examples per class in each half.
      seed: seed for shuffling.
      where: name of the pool in errors.

    Returns:
      (train, dev), each with classes in the order of ``task.labels``.

    Raises:
      UserError: a class has fewer than 2k different examples.
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
    """Read the fixed split ``folder/TASK/K-SEED/{train,dev}.jsonl`` as (train, dev), in file order.

    Raises:
      UserError: a file is missing or lacks k examples of a class, or an example is in both files.
    """
    task_folder = pathlib.Path(folder) / task.data_folder
    split_folder = task_folder / f"{k}-{seed}"
    if not split_folder.is_dir():
        there = ", ".join(sorted(path.name for path in task_folder.glob("*-*"))) or "none"
        raise UserError(f"{split_folder}: no fixed split for data.k = {k} and seed {seed} (there are: {there}); use "
                        "one of those, or leave data.kshot empty to sample splits from the pool.")
    halves, locations = [], {}
    for path in (split_folder / "train.jsonl", split_folder / "dev.jsonl"):
        located = classified(labelled(records(path), preset(task), task.labels), task)
        for location, example in located:
            if alike(example) in locations:
                raise UserError(f"{location}: repeats the example of {locations[alike(example)]}, and no example "
                                "may be both tuned and selected on; replace it, or leave data.kshot empty.")
        locations = {alike(example): location for location, example in located}
        halves.append([example for _, example in located])
        counts = Counter(example.label for example in halves[-1])
        if wrong := next((label for label in task.labels if counts[label] != k), ""):
            raise UserError(f"{path}: class '{wrong}' has {counts[wrong]} examples, but a {k}-shot split has {k}; fix "
                            "the file or leave data.kshot empty.")
    return halves[0], halves[1]
