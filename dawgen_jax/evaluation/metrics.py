"""Accuracy and F1 from integer predictions, on the host.

With n_lp the number of rows of class l that are predicted as p:

    accuracy = sum_l n_ll / sum_lp n_lp
    F1_l     = 2 n_ll / (sum_p n_lp + sum_p n_pl)          (2 TP / (2 TP + FN + FP))
    macro F1 = mean of F1_l over all labels of the task

F1_l is 0 if class l neither occurs nor is predicted. All values are in [0, 1].
"""

from __future__ import annotations

import numpy as np

from dawgen_jax.tasks import Task

__all__ = ["accuracy", "confusion", "f1", "scores"]


def confusion(predictions, labels, num_labels: int) -> np.ndarray:
    """The matrix n_lp: number of rows of class l (row) that are predicted as p (column).

    Args:
      predictions: int [B] predicted positions in ``Task.labels``.
      labels: int [B] true positions.
      num_labels: L.

    Returns:
      int [L, L].

    Raises:
      ValueError: the shapes differ, a position is outside of 0..L-1, or there is no row.

    >>> confusion([0, 1, 1], [0, 1, 0], 2)
    array([[1, 1],
           [0, 1]])
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if labels.ndim != 1 or predictions.shape != labels.shape:
        raise ValueError(f"predictions {predictions.shape} and labels {labels.shape} must be vectors of one length.")
    if not labels.size:
        raise ValueError("There is no row: there is nothing to score.")
    positions = np.stack([labels, predictions])
    if positions.min() < 0 or positions.max() >= num_labels:
        raise ValueError(f"Labels and predictions must be in 0..{num_labels - 1}.")
    return np.bincount(labels * num_labels + predictions, minlength=num_labels**2).reshape(num_labels, num_labels)


def accuracy(predictions, labels) -> float:
    """Share of correct predictions; arguments as in :func:`confusion`.

    >>> accuracy([0, 1, 1], [0, 1, 0])
    0.6666666666666666
    """
    counts = confusion(predictions, labels, 1 + max(np.max(predictions, initial=0), np.max(labels, initial=0)))
    return float(np.trace(counts) / counts.sum())


def f1(predictions, labels, num_labels: int, *, positive: int | None = None) -> float:
    """F1 of the class ``positive``, or by default the macro average over all ``num_labels`` classes.

    See :func:`confusion` for the other arguments.

    >>> f1([1, 1, 0], [1, 0, 1], 2, positive=1), f1([1, 1, 0], [1, 0, 1], 2)
    (0.5, 0.25)
    """
    counts = confusion(predictions, labels, num_labels)
    both = counts.sum(0) + counts.sum(1)
    each = 2 * np.diag(counts) / np.where(both > 0, both, 1)
    return float(each.mean() if positive is None else each[positive])


def scores(task: Task, predictions, labels) -> dict[str, float]:
    """Accuracy, and F1 of ``task.positive`` or the macro average.

    Args:
      task: its ``labels`` define the order of classes.
      predictions, labels: see :func:`confusion`.

    Returns:
      {'accuracy': ..., 'f1': ...}, each in [0, 1].
    """
    positive = task.labels.index(task.positive) if task.positive else None
    return {"accuracy": accuracy(predictions, labels),
            "f1": f1(predictions, labels, len(task.labels), positive=positive)}
