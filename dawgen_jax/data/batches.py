"""Rectangular batches of token ids, as plain NumPy, deterministic in (seed, step).

Axes: B batch, T encoder tokens, U decoder tokens; leading axes (S sources, K seeds) stack them.

Which examples stand in a batch is a function of (seed, step) alone and not of the batches before: a run that was
stopped goes on with the same batches, and every process computes the same global batch.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from dawgen_jax.config import UserError

__all__ = ["ClassifierBatch", "GeneratorBatch", "SourceBatch", "class_balanced", "epoch_batches"]


class ClassifierBatch(NamedTuple):
    """Templated pairs for the classifier (or any stack of them on leading axes).

    Attributes:
      tokens: int32 [B, T] encoder token ids, the mask as <extra_id_0>, end of sequence last, padded with 0.
      mask: bool [B, T] True at tokens.
      label: int32 [B] position in ``Task.labels``.
      weight: float32 [B] weight of the example in the loss; 0 pads a batch to its rectangle.
    """

    tokens: np.ndarray
    mask: np.ndarray
    label: np.ndarray
    weight: np.ndarray


class GeneratorBatch(NamedTuple):
    """Pairs for the generator: sentence 1 conditions, sentence 2 is supervised.

    Attributes:
      source: int32 [B, T] sentence 1's tokens, one place for each infix row (any id), end of sequence; padded with 0.
      source_mask: bool [B, T] True at tokens and infix places.
      slots: int32 [B, T] index of the infix row that stands there, -1 elsewhere.
      target: int32 [B, U] sentence 2's tokens and end of sequence, padded with 0.
      target_mask: bool [B, U] True at supervised tokens.
      label: int32 [B] position in ``Task.labels``.
    """

    source: np.ndarray
    source_mask: np.ndarray
    slots: np.ndarray
    target: np.ndarray
    target_mask: np.ndarray
    label: np.ndarray


class SourceBatch(NamedTuple):
    """First sentences for synthesis; the same rows serve every label.

    Attributes:
      source: int32 [B, T] as in :class:`GeneratorBatch`.
      source_mask: bool [B, T] True at tokens and infix places.
      slots: int32 [B, T] index of the infix row that stands there, -1 elsewhere.
      penalised: int32 [B, T] ids under the repetition penalty, sentence 1's own tokens, -1 elsewhere.
      cut: bool [B] True where sentence 1 was longer than its budget.
    """

    source: np.ndarray
    source_mask: np.ndarray
    slots: np.ndarray
    penalised: np.ndarray
    cut: np.ndarray


def epoch_batches(n: int, batch: int, seed: int, step: int) -> np.ndarray:
    """Indices of batch ``step``: consecutive pieces of endless shuffled epochs.

    Every example is drawn once an epoch; a batch may span the end of one (small sets repeat).

    Args:
      n: size of the set.
      batch: examples in a batch.
      seed: of the shuffles; each epoch has its own permutation.
      step: number of the batch, from 0.

    Returns:
      [B] indices below n.

    >>> sorted(np.concatenate([epoch_batches(6, 2, 0, step) for step in range(3)]).tolist())
    [0, 1, 2, 3, 4, 5]
    """
    epochs, places = np.divmod(np.arange(step * batch, (step + 1) * batch), n)
    return np.concatenate([_permutation(n, seed, int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)])


def class_balanced(labels: np.ndarray, per_label: int, seed: int, step: int, *, repeat: bool = False) -> np.ndarray:
    """Indices of batch ``step`` with ``per_label`` distinct examples of each class, classes in ascending order.

    Each class is walked through in shuffled epochs of whole batches, so that no example stands twice in a batch.

    Args:
      labels: [N] class of each example.
      per_label: examples of each class in a batch.
      seed: of the shuffles; each epoch and class has its own permutation.
      step: number of the batch, from 0.
      repeat: let a class with fewer than ``per_label`` examples repeat them.

    Returns:
      [L * per_label] indices.

    Raises:
      UserError: a class has fewer than ``per_label`` examples and ``repeat`` is off.
    """
    drawn = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        per_epoch = len(members) // per_label
        if per_epoch:
            epoch, place = divmod(step, per_epoch)
            order = _permutation(len(members), seed, epoch, int(label))[place * per_label : (place + 1) * per_label]
        elif repeat:
            order = epoch_batches(len(members), per_label, seed, step)
        else:
            raise UserError(f"Class {label} (counted from 0) has {len(members)} example(s), but a batch takes "
                            f"{per_label} different ones of each: raise data.k or lower generator.examples_per_label.")
        drawn.append(members[order])
    return np.concatenate(drawn)


@functools.lru_cache(maxsize=64)
def _permutation(n: int, *seeds: int) -> np.ndarray:
    order = np.random.default_rng(seeds).permutation(n)
    order.flags.writeable = False  # shared by all callers through the cache
    return order
