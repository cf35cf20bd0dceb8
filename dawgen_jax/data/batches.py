"""Rectangular batches of token ids as NumPy arrays, deterministic in (seed, step).

Axes: B batch, T input tokens, U target tokens; leading axes (S sources, K seeds) stack them.

The examples of a batch are a function of (seed, step) and do not depend on earlier batches: a stopped run resumes with
the same batches, and every process computes the same global batch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from dawgen_jax.errors import UserError

__all__ = [
    "ClassifierBatch", "GeneratorBatch", "SourceBatch", "class_balanced", "concatenate", "epoch_batches", "pad_rows",
    "stack", "take", "trim",
]


class ClassifierBatch(NamedTuple):
    """Templated examples for the classifier, or a stack of them with leading axes.

    Attributes:
      tokens: int32 [B, T] token ids of the backbone's input, padded with 0.
      mask: bool [B, T], True at tokens.
      label: int32 [B], positions in ``Task.labels``.
      weight: float32 [B], weight of the example in the loss; 0 for padding examples.
      context: cached results of the texts in front of a soft prompt, leaves [B, T', ...]; ``tokens`` are then only the
        tokens after the prompt. None without a cache.
    """

    tokens: np.ndarray
    mask: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    context: Any = None


class GeneratorBatch(NamedTuple):
    """Pairs for the generator: sentence 1 is the condition, sentence 2 is supervised.

    Attributes:
      source: int32 [B, T], tokens of sentence 1, a position (any id) per infix row, end of sequence; padded with 0.
      source_mask: bool [B, T], True at tokens and infix positions.
      slots: int32 [B, T], index of the infix row at the position, -1 for text.
      target: int32 [B, U], tokens of sentence 2 and end of sequence, padded with 0.
      target_mask: bool [B, U], True at supervised tokens.
      label: int32 [B], positions in ``Task.labels``.
    """

    source: np.ndarray
    source_mask: np.ndarray
    slots: np.ndarray
    target: np.ndarray
    target_mask: np.ndarray
    label: np.ndarray


class SourceBatch(NamedTuple):
    """First sentences for synthesis; all labels use the same rows.

    Attributes:
      source: int32 [B, T]; see :class:`GeneratorBatch`.
      source_mask: bool [B, T], True at tokens and infix positions.
      slots: int32 [B, T], index of the infix row at the position, -1 for text.
      cut: bool [B], True if sentence 1 exceeded its budget.
    """

    source: np.ndarray
    source_mask: np.ndarray
    slots: np.ndarray
    cut: np.ndarray


def epoch_batches(n: int, batch: int, seed: int, step: int) -> np.ndarray:
    """Indices of batch ``step``: consecutive slices of endless shuffled epochs.

    Every example is used once per epoch; a batch may span two epochs (small sets repeat).

    Args:
      n: size of the set.
      batch: number of examples per batch.
      seed: seed for shuffling; each epoch has a separate permutation.
      step: index of the batch, from 0.

    Returns:
      [B] indices below n.

    >>> sorted(np.concatenate([epoch_batches(6, 2, 0, step) for step in range(3)]).tolist())
    [0, 1, 2, 3, 4, 5]
    """
    epochs, places = np.divmod(np.arange(step * batch, (step + 1) * batch), n)
    return np.concatenate([_permutation(n, seed, int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)])


def class_balanced(labels: np.ndarray, per_label: int, seed: int, step: int) -> np.ndarray:
    """Indices of batch ``step`` with ``per_label`` distinct examples of each class, classes in ascending order.

    Each class is visited in shuffled epochs of whole batches, so that no example is twice in a batch.

    Args:
      labels: [N] class of each example.
      per_label: number of examples per class.
      seed: seed for shuffling; each epoch and class has a separate permutation.
      step: index of the batch, from 0.

    Returns:
      [L * per_label] indices.

    Raises:
      UserError: a class has fewer than ``per_label`` examples.
    """
    drawn = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        per_epoch = len(members) // per_label
        if per_epoch:
            epoch, part = divmod(step, per_epoch)
            order = _permutation(len(members), seed, epoch, int(label))[part * per_label : (part + 1) * per_label]
        else:
            lower = f" or lower generator.examples_per_label to {len(members)}" * (len(members) > 1)
            raise UserError(f"Class {label} (counted from 0) has {len(members)} example(s), but a batch takes "
                            f"{per_label} different examples per class: raise data.k{lower}.")
        drawn.append(members[order])
    return np.concatenate(drawn)


Batch = TypeVar("Batch", ClassifierBatch, GeneratorBatch)


def take(batch: Batch, index) -> Batch:
    """The examples ``index`` of a batch [N, ...]."""
    return jax.tree.map(lambda leaf: leaf[index], batch)


def trim(batch: ClassifierBatch, multiple: int) -> ClassifierBatch:
    """Remove token columns that are padding in every row, down to a multiple of ``multiple``; any leading axes."""
    width = batch.mask.shape[-1]
    used = np.flatnonzero(batch.mask.reshape(-1, width).any(axis=0))
    need = int(used[-1]) + 1 if used.size else 1
    keep = min(width, -(-need // multiple) * multiple)
    return batch._replace(tokens=batch.tokens[..., :keep], mask=batch.mask[..., :keep])


def pad_rows(batch: ClassifierBatch, rows: int) -> ClassifierBatch:
    """Pad a batch [B, ...] to ``rows`` examples with copies of the last one, with weight 0."""
    padded = take(batch, np.minimum(np.arange(rows), len(batch.label) - 1))
    return padded._replace(weight=padded.weight * (np.arange(rows) < len(batch.label)).astype(np.float32))


def stack(parts: Sequence[Batch]) -> Batch:
    """Stack batches on a new leading axis, padding their token axes to the widest."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *_same_width(parts))


def concatenate(parts: Sequence[Batch]) -> Batch:
    """Concatenate sets into one [N_1 + N_2 + ..., ...], padding their token axes to the widest."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *_same_width(parts))


def _same_width(parts: Sequence[Batch]) -> list[Batch]:
    columns = [field for field in parts[0]._fields if field not in ("label", "weight", "context")]
    width = {field: max(getattr(part, field).shape[-1] for part in parts) for field in columns}

    def widen(field: str, leaf: np.ndarray) -> np.ndarray:
        padding = [(0, 0)] * (leaf.ndim - 1) + [(0, width[field] - leaf.shape[-1])]
        return np.pad(leaf, padding, constant_values=-1 if field == "slots" else 0)

    return [part._replace(**{field: widen(field, getattr(part, field)) for field in columns}) for part in parts]


@functools.lru_cache(maxsize=64)
def _permutation(n: int, *seeds: int) -> np.ndarray:
    order = np.random.default_rng(seeds).permutation(n)
    order.flags.writeable = False  # shared by all callers through the cache
    return order
