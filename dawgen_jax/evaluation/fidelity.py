"""How far synthetic sentences are from real ones: in their counts, and in a backbone's feature space.

    JS(p, q) = KL(p || m)/2 + KL(q || m)/2, m = (p + q)/2, in bits: 0 equal, 1 disjoint

    MMD^2(x, y) = sum_{i != j} k(x_i, x_j) / (m (m - 1)) + sum_{i != j} k(y_i, y_j) / (n (n - 1))
                  - 2 sum_{i, j} k(x_i, y_j) / (m n)

with k(a, b) = exp(-||a - b||^2 / (2 s^2)), s the median distance of two different points of both sets. This estimate is
unbiased: for two samples of one distribution its mean is 0, and half of the time it is negative. How large it is by
chance is told by permutations of the pooled sample, which are exact where the points are independent draws.

References:
  Gretton et al. A Kernel Two-Sample Test. https://jmlr.org/papers/v13/gretton12a.html, 2012.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

__all__ = ["TwoSample", "divergence", "two_sample"]


class TwoSample(NamedTuple):
    """A two-sample test.

    Attributes:
      value: MMD^2.
      p: share of the permutations, the sample itself counted, whose MMD^2 is at least as large.
      chance: the 95 % quantile of MMD^2 under permutation: what a difference has to exceed to be seen.
    """

    value: float
    p: float
    chance: float


def divergence(left: Mapping[Any, float], right: Mapping[Any, float]) -> float:
    """Jensen-Shannon divergence of two counted distributions, in bits.

    p and q are ``left`` and ``right`` divided by their sums. 0 if they are equal, 1 if they share nothing.

    Raises:
      ValueError: one of them is empty.

    >>> divergence({"a": 1, "b": 1}, {"a": 5, "b": 5}), divergence({"a": 1}, {"b": 1})
    (0.0, 1.0)
    """
    support = sorted(left.keys() | right.keys())
    p, q = (np.array([counts.get(item, 0) for item in support], np.float64) for counts in (left, right))
    if not p.sum() or not q.sum():
        raise ValueError("A divergence needs two distributions that are not empty.")
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def relative(part: np.ndarray) -> float:
        seen = part > 0
        return float(np.sum(part[seen] * np.log2(part[seen] / middle[seen])))

    return min(1.0, max(0.0, relative(p) / 2 + relative(q) / 2))


def two_sample(x: np.ndarray, y: np.ndarray, *, permutations: int = 999, seed: int = 0) -> TwoSample:
    """MMD^2 of two sets of points, and its permutation test.

    Args:
      x: [m, D].
      y: [n, D].
      permutations: of the pooled sample, by ``seed``.
      seed: of the permutations.

    Raises:
      ValueError: a set has fewer than two points.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError("MMD needs at least two points on either side.")
    kernel = _kernel(np.concatenate([x, y]).astype(np.float64))
    first = np.arange(len(kernel)) < len(x)
    rng = np.random.default_rng(seed)
    chosen = np.stack([first, *(rng.permutation(first) for _ in range(permutations))])
    value, *null = _mmd(kernel, chosen.astype(np.float64))
    p = (1 + np.sum(np.array(null) >= value - 1e-12)) / (1 + permutations)  # equal splits differ by rounding
    return TwoSample(float(value), float(p), float(np.quantile([value, *null], 0.95)))


def _kernel(points: np.ndarray) -> np.ndarray:
    """k [N, N] with 0 on its diagonal, whose entries no sum takes."""
    centred = points - points.mean(axis=0)
    norms = np.sum(centred**2, axis=1)
    squares = np.maximum(norms[:, None] + norms[None, :] - 2 * centred @ centred.T, 0.0)
    apart = np.sqrt(squares[np.triu_indices(len(points), 1)])
    width = np.median(apart) or np.mean(apart) or 1.0  # most points may be one and the same
    kernel = np.exp(-squares / (2 * width**2))
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _mmd(kernel: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """MMD^2 [B] for the splits ``chosen`` [B, N], 1 for a point of x and 0 for one of y."""
    m = chosen[0].sum()
    n = len(kernel) - m
    sums = chosen @ kernel
    xx, xy = np.sum(sums * chosen, axis=1), np.sum(sums * (1 - chosen), axis=1)
    yy = kernel.sum() - xx - 2 * xy
    return xx / (m * (m - 1)) + yy / (n * (n - 1)) - 2 * xy / (m * n)
