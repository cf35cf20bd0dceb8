"""Accuracy and F1 from integer predictions, on the host; padded rows have weight 0.

With n_lp the weight of the rows of class l that are predicted as p:

    accuracy = sum_l n_ll / sum_lp n_lp
    F1_l     = 2 n_ll / (sum_p n_lp + sum_p n_pl)          (2 TP / (2 TP + FN + FP))
    macro F1 = mean of F1_l over all labels of the task

F1_l is 0 if class l neither occurs nor is predicted. All values are in [0, 1].
"""

from __future__ import annotations

import numpy as np

from dawgen_jax.tasks import Task

__all__ = ["accuracy", "confusion", "f1", "scores"]


def confusion(predictions, labels, num_labels: int, weights=None) -> np.ndarray:
    """The matrix n_lp: weight of the rows of class l (row) that are predicted as p (column).

    Args:
      predictions: int [B] predicted positions in ``Task.labels``.
      labels: int [B] true positions.
      num_labels: L.
      weights: [B] weight of each row, 0 for padding; 1 by default. Rows with weight 0 may hold any values.

    Returns:
      float64 [L, L].

    Raises:
      ValueError: the shapes differ, a counted position is outside of 0..L-1, a weight is negative or not finite, or no
        row has a positive weight.

    >>> confusion([0, 1, 1, 7], [0, 1, 0, 0], 2, weights=[1, 1, 1, 0])
    array([[1., 1.],
           [0., 1.]])
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    weights = np.ones(labels.shape) if weights is None else np.asarray(weights, np.float64)
    if labels.ndim != 1 or not predictions.shape == labels.shape == weights.shape:
        raise ValueError(f"predictions {predictions.shape}, labels {labels.shape} and weights {weights.shape} "
                         "must be vectors of one length.")
    if not np.all(np.isfinite(weights) & (weights >= 0)):
        raise ValueError("Every weight must be finite and at least 0.")
    counted = weights > 0
    predictions, labels, weights = predictions[counted], labels[counted], weights[counted]
    if not labels.size:
        raise ValueError("No row has a weight above 0: there is nothing to score.")
    positions = np.stack([labels, predictions])
    if positions.min() < 0 or positions.max() >= num_labels:
        raise ValueError(f"Labels and predictions must be in 0..{num_labels - 1}.")
    flat = np.bincount(labels * num_labels + predictions, weights, num_labels * num_labels)
    return flat.reshape(num_labels, num_labels)


def _accuracy(counts: np.ndarray) -> float:
    return float(np.trace(counts) / counts.sum())


def _f1(counts: np.ndarray, positive: int | None) -> float:
    both = counts.sum(0) + counts.sum(1)
    each = 2 * np.diag(counts) / np.where(both > 0, both, 1)
    return float(each.mean() if positive is None else each[positive])


def accuracy(predictions, labels, weights=None) -> float:
    """Weighted share of correct predictions, sum_i w_i [p_i = l_i] / sum_i w_i; arguments as in :func:`confusion`.

    >>> accuracy([0, 1, 1, 0], [0, 1, 0, 1], weights=[1, 1, 1, 0])
    0.6666666666666666
    """
    num_labels = 1 + max(np.max(predictions, initial=0), np.max(labels, initial=0))
    return _accuracy(confusion(predictions, labels, num_labels, weights))


def f1(predictions, labels, num_labels: int, *, positive: int | None = None, weights=None) -> float:
    """F1 of the class ``positive``, or by default the macro average over all ``num_labels`` classes.

    See :func:`confusion` for the other arguments.

    >>> f1([1, 1, 0], [1, 0, 1], 2, positive=1), f1([1, 1, 0], [1, 0, 1], 2)
    (0.5, 0.25)
    """
    return _f1(confusion(predictions, labels, num_labels, weights), positive)


def scores(task: Task, predictions, labels, weights=None) -> dict[str, float]:
    """Accuracy, and F1 of ``task.positive`` or the macro average.

    Args:
      task: its ``labels`` define the order of classes.
      predictions, labels, weights: see :func:`confusion`.

    Returns:
      {'accuracy': ..., 'f1': ...}, each in [0, 1].
    """
    counts = confusion(predictions, labels, len(task.labels), weights)
    positive = task.labels.index(task.positive) if task.positive else None
    return {"accuracy": _accuracy(counts), "f1": _f1(counts, positive)}
