"""Weightings against TorchJD itself and against each problem's optimality conditions, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dawgen_jax.surgery import weightings


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def matrices():
    """Random Jacobians [S, 7] of every rank at scales from 1e-10 to 1e15."""
    random = np.random.RandomState(0)
    for sources in (2, 3, 5):
        for rank in range(1, sources + 1):
            for scale in (1e-10, 1e-3, 1.0, 1e15):
                rows = random.normal(size=(sources, rank)) @ random.normal(size=(rank, 7))
                yield scale, rows


def oracle(name):
    torchjd = pytest.importorskip("torchjd.aggregation")
    return {"mgda": torchjd.MGDA, "pcgrad": torchjd.PCGrad, "upgrad": torchjd.UPGrad,
            "cagrad": lambda: torchjd.CAGrad(c=0.5)}[name]()


@pytest.mark.parametrize(("name", "tolerance"), [("mgda", 1e-9), ("upgrad", 1e-6), ("cagrad", 1e-4)])
def test_torchjd_gives_the_same_direction(name, tolerance):
    peer = oracle(name)
    import torch
    weigh = jax.jit(getattr(weightings, name))
    for scale, rows in matrices():
        gramian = jnp.array((scale * rows) @ (scale * rows).T)
        direction = np.asarray(weigh(gramian)) @ rows
        # TorchJD's UPGrad and CAGrad take a small Gramian for zero, so it is asked at scale 1; ours has no scale.
        expected = peer(torch.tensor(rows)).numpy()
        np.testing.assert_allclose(direction, expected, atol=tolerance * np.abs(rows).max(), err_msg=f"{scale} {rows}")
        if name == "cagrad":  # its solver stops early: what CAGrad maximises is never smaller here
            assert (rows @ direction).min() >= (rows @ expected).min() - 1e-8 * np.abs(rows).max() ** 2


def test_torchjd_gives_the_same_pcgrad_in_every_order(monkeypatch):
    peer = oracle("pcgrad")
    import torch
    weigh = jax.jit(weightings.pcgrad)
    random = np.random.RandomState(1)
    for scale, rows in matrices():
        order = np.stack([random.permutation(len(rows)) for _ in rows])
        draws = iter(order)
        monkeypatch.setattr(torch, "randperm", lambda number, draws=draws: torch.tensor(next(draws)))
        expected = peer(torch.tensor(scale * rows)).numpy()
        weights = weigh(jnp.array((scale * rows) @ (scale * rows).T), order=jnp.array(order))
        np.testing.assert_allclose(weights @ (scale * rows), expected, atol=1e-9 * scale * np.abs(rows).max())


@pytest.mark.parametrize("name", ["surgery", "total", "pcgrad", "mgda", "cagrad", "upgrad"])
def test_scales_stand_for_scaled_rows(name):
    """The weights of unit gradients times their scales are those of the plain gradients."""
    weigh = getattr(weightings, name)
    rows = np.random.RandomState(2).normal(size=(3, 6))
    scales = jnp.array([0.25, 8.0, 1.0])
    direct = weigh(jnp.array(rows * scales[:, None]) @ jnp.array(rows * scales[:, None]).T) @ (rows * scales[:, None])
    np.testing.assert_allclose(weigh(jnp.array(rows @ rows.T), scales) @ rows, direct, rtol=1e-6, atol=1e-9)


def test_upgrad_conflicts_with_no_source_and_mgda_has_the_least_norm():
    upgrad = jax.jit(weightings.upgrad)
    mgda = jax.jit(functools.partial(weightings.mgda, num_steps=3000, tolerance=1e-12))
    for _, rows in matrices():
        gramian = jnp.array(rows @ rows.T)
        weights = upgrad(gramian)
        assert (gramian @ weights + 1e-4 * np.trace(gramian) * weights).min() >= -1e-12  # up to the ridge
        weights = mgda(gramian)
        np.testing.assert_allclose([weights.sum(), min(weights.min(), 0)], [1, 0], atol=1e-12)
        least = weights @ gramian @ weights
        assert (gramian @ weights).min() >= least - 2e-3 * np.trace(gramian)


def test_cagrad_has_no_better_weights_on_the_simplex():
    random = np.random.RandomState(3)
    for _ in range(5):
        rows = random.normal(size=(4, 9)) + 0.3
        gramian = jnp.array(rows @ rows.T)
        mean = rows.mean(0)
        reach = 0.5 * np.linalg.norm(mean)
        direction = np.asarray(weightings.cagrad(gramian)) @ rows
        np.testing.assert_allclose(np.linalg.norm(direction - mean), reach, rtol=1e-9)
        worst = (rows @ direction).min()  # the primal: the worst source's gain within the ball
        for _ in range(200):
            step = random.normal(size=9)
            other = mean + reach * step / np.linalg.norm(step)
            assert (rows @ other).min() <= worst + 1e-9
        others = direction + 0.05 * random.normal(size=(200, 9))
        others = mean + reach * (others - mean) / np.linalg.norm(others - mean, axis=1, keepdims=True)
        assert (others @ rows.T).min(axis=1).max() <= worst + 1e-8
