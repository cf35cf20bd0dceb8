"""Distances from real sentences: closed forms, sums written out, and SciPy's permutation test."""

import math

import numpy as np
import pytest
from scipy import stats

from dawgen_jax.evaluation.fidelity import divergence, two_sample

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)), RNG.normal(0.7, 1, size=(9, 3))


def test_divergence_matches_the_closed_form():
    # p = (1, 0), q = (1/2, 1/2): m = (3/4, 1/4).
    expected = 0.5 * math.log2(4 / 3) + 0.5 * (0.5 * math.log2(2 / 3) + 0.5 * math.log2(2))
    assert divergence({"a": 3}, {"a": 1, "b": 1}) == pytest.approx(expected)
    assert divergence({"a": 1, "b": 1}, {"a": 3}) == pytest.approx(expected)
    with pytest.raises(ValueError, match="not empty"):
        divergence({}, {"a": 1})


def mmd(x, y, width):
    """The three sums, term by term."""
    def kernel(a, b):
        return math.exp(-sum((a - b) ** 2) / (2 * width**2))

    m, n = len(x), len(y)
    return (sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
            + sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
            - 2 * sum(kernel(a, b) for a in x for b in y) / (m * n))


def width_of(points):
    return np.median([np.linalg.norm(points[i] - points[j]) for i in range(len(points)) for j in range(i)])


def test_mmd_is_its_three_sums():
    assert two_sample(X, Y).value == pytest.approx(mmd(X, Y, width_of(np.concatenate([X, Y]))), rel=1e-10)
    # Two points a side, by hand: distances 1, 1, 3, 4, 4, 5 have the median 3.5.
    one, other = np.array([[0.0], [1.0]]), np.array([[4.0], [5.0]])

    def k(distance):
        return math.exp(-distance**2 / (2 * 3.5**2))

    assert two_sample(one, other, permutations=1).value == pytest.approx(2 * k(1) - (k(3) + 2 * k(4) + k(5)) / 2)


def test_its_p_value_is_scipys():
    points = np.concatenate([X, Y])
    width = width_of(points)

    def statistic(first, second):
        return mmd(points[first.astype(int)], points[second.astype(int)], width)

    scipys = stats.permutation_test((np.arange(12.0), np.arange(12.0, 21.0)), statistic, n_resamples=400,
                                    vectorized=False, alternative="greater", rng=np.random.default_rng(1))
    ours = two_sample(X, Y, permutations=4000)
    assert scipys.statistic == pytest.approx(ours.value)
    assert abs(scipys.pvalue - ours.p) < 4 * math.sqrt(ours.p * (1 - ours.p) / 400)
    assert ours.chance == pytest.approx(np.quantile(scipys.null_distribution, 0.95), abs=0.02)


def test_equal_distributions_are_told_apart_as_often_as_alpha_says():
    rng = np.random.default_rng(2)
    p = np.array([two_sample(rng.normal(size=(20, 2)), rng.normal(size=(30, 2)), permutations=99, seed=i).p
                  for i in range(400)])
    assert abs(np.mean(p <= 0.05) - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 400)
    assert abs(np.mean(p <= 0.5) - 0.5) < 4 * math.sqrt(0.5 * 0.5 / 400)


def test_different_distributions_are_told_apart_whatever_their_scale():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(100, 4)), rng.normal(1.0, 1.0, size=(100, 4))
    tested = two_sample(x, y)
    assert tested.p == 0.001 and tested.value > 5 * tested.chance
    scaled = two_sample(1e4 * x + 1e3, 1e4 * y + 1e3)
    assert scaled == pytest.approx(tested, rel=1e-6)


def test_points_that_are_all_one_differ_by_nothing():
    tested = two_sample(np.ones((5, 2)), np.ones((4, 2)))
    assert tested.value == pytest.approx(0.0) and tested.p == 1.0
    mostly = two_sample(np.ones((30, 2)), np.concatenate([np.ones((28, 2)), np.zeros((2, 2))]))
    assert np.isfinite(mostly).all()
    with pytest.raises(ValueError, match="at least two"):
        two_sample(np.ones((1, 2)), np.ones((4, 2)))
