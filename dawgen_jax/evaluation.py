"""Scoring a data set with tuned prompts: batches sorted by length, the last one padded with rows of weight 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from dawgen_jax.data.batches import ClassifierBatch

__all__ = ["length_batches", "pad_rows", "predict", "trim"]


def trim(batch: ClassifierBatch, multiple: int) -> ClassifierBatch:
    """Cut token columns that are padding in every row, to a multiple of ``multiple``; leading axes are free."""
    width = batch.mask.shape[-1]
    used = np.flatnonzero(batch.mask.reshape(-1, width).any(axis=0))
    need = int(used[-1]) + 1 if used.size else 1
    keep = min(width, -(-need // multiple) * multiple)
    return batch._replace(tokens=batch.tokens[..., :keep], mask=batch.mask[..., :keep])


def pad_rows(batch: ClassifierBatch, rows: int) -> ClassifierBatch:
    """Pad a batch [B, ...] to ``rows`` examples with copies of its last one at weight 0."""
    index = np.minimum(np.arange(rows), len(batch.label) - 1)
    padded = ClassifierBatch(*(leaf[index] for leaf in batch))
    return padded._replace(weight=padded.weight * (np.arange(rows) < len(batch.label)).astype(np.float32))


def length_batches(data: ClassifierBatch, size: int, multiple: int) -> Iterator[tuple[np.ndarray, ClassifierBatch]]:
    """Batches of ``size`` rows of similar length, with the positions of their rows in ``data``.

    Sorting by length keeps padding small and the number of compiled shapes at most max_tokens / multiple; padding
    never changes a score, so the order is of no consequence.
    """
    order = np.argsort(data.mask.sum(axis=1), kind="stable")
    for start in range(0, len(order), size):
        chosen = order[start:start + size]
        yield chosen, trim(pad_rows(ClassifierBatch(*(leaf[chosen] for leaf in data)), size), multiple)


def predict(score: Callable, prompts, theta, data: ClassifierBatch, *, size: int, multiple: int) -> np.ndarray:
    """Predicted classes of a data set under several prompts.

    Args:
      score: compiled ``(prompts [K, P, H], theta, batch) -> [K, B, L]``.
      prompts: K prompts, scored on the same examples.
      theta: frozen parameters.
      data: leaves [N, ...].
      size: rows of a batch, a multiple of the mesh's data axis.
      multiple: of the token axis.

    Returns:
      int [K, N], in the order of ``data``.
    """
    predicted = np.empty((len(prompts), len(data.label)), np.int32)
    for chosen, batch in length_batches(data, size, multiple):
        scores = np.asarray(score(prompts, theta, batch))
        predicted[:, chosen] = scores.argmax(axis=-1)[:, :len(chosen)]
    return predicted
