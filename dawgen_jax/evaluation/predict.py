"""Scoring a data set with tuned parameters: batches sorted by length, the last one padded with rows of weight 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from dawgen_jax.data.batches import ClassifierBatch, pad_rows, take, trim
from dawgen_jax.errors import UserError

__all__ = ["class_scores", "length_batches"]


def length_batches(data: ClassifierBatch, size: int, multiple: int) -> Iterator[tuple[np.ndarray, ClassifierBatch]]:
    """Batches of ``size`` rows of similar length, with the positions of their rows in ``data``.

    Sorting by length keeps padding small and the number of compiled shapes at most max_tokens / multiple; padding
    never changes a score, so the order is of no consequence.
    """
    order = np.argsort(data.mask.sum(axis=1), kind="stable")
    for start in range(0, len(order), size):
        chosen = order[start:start + size]
        yield chosen, trim(pad_rows(take(data, chosen), size), multiple)


def class_scores(score: Callable, params, theta, data: ClassifierBatch, *, size: int, multiple: int) -> np.ndarray:
    """Class scores of a data set under K sets of parameters.

    Args:
      score: compiled ``(params [K, ...], theta, batch) -> [K, B, L]``.
      params: K sets, scored on the same examples.
      theta: frozen parameters.
      data: leaves [N, ...], N > 0.
      size: rows of a batch, a multiple of the mesh's data axis.
      multiple: of the token axis.

    Returns:
      float [K, N, L], in the order of ``data``.

    Raises:
      UserError: a score is not finite, of which no class is the highest.
    """
    scored: list[np.ndarray] = []
    order: list[np.ndarray] = []
    for chosen, batch in length_batches(data, size, multiple):
        scored.append(np.asarray(score(params, theta, batch))[:, :len(chosen)])
        order.append(chosen)
    scores = np.concatenate(scored, axis=1)[:, np.argsort(np.concatenate(order))]
    if odd := int((~np.isfinite(scores)).any(axis=(0, 2)).sum()):
        raise UserError(f"{odd} of {scores.shape[1]} examples have class scores that are not finite: numbers of the "
                        "backbone, or of what was tuned, are too large for its compute dtype; check the checkpoint, or "
                        "tune again at a lower rate.")
    return scores
