"""Aggregations of S gradients as weights from their Gramian: ``[S, S] -> [S]``, jit- and vmap-able.

Each function takes the Gramian of *unit* gradients u_s = d_s / a_s and the scales a_s (by default ones: then it is
the plain Gramian) and returns the weights w of the direction sum_s w_s u_s. Surgery and PCGrad are linear in each
source's scale and never divide one scale by another. MGDA, CAGrad and UPGrad compare sources: they see the Gramian
under one common scale, so sources that differ by more than about 1e19 in float32 count as zero beside the largest.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["cagrad", "mgda", "pcgrad", "surgery", "total", "upgrad"]


def total(gramian: jax.Array, scales: jax.Array | None = None, *, epsilon: float = 1.0, reference: int = 0):
    """d = d_r + epsilon * sum of the others: the arm (Real, Syn), no projection.

    Args:
      gramian: [S, S] inner products of the unit gradients (only its shape is used).
      scales: [S] a_s; None is ones.
      epsilon: weight of every source but the reference.
      reference: index r of the real source.

    Returns:
      [S] weights of the unit gradients.

    >>> total(jnp.eye(2), epsilon=0.5).tolist()
    [1.0, 0.5]
    """
    others = jnp.arange(gramian.shape[0]) != reference
    return jnp.where(others, epsilon, 1.0) * _scales(gramian, scales)


def surgery(gramian: jax.Array, scales: jax.Array | None = None, *, epsilon: float = 1.0, reference: int = 0):
    """Algorithm 2: d = d_r + epsilon * sum_s d_s', d_s' = d_s - min(<d_s, d_r>, 0) / <d_r, d_r> * d_r.

    Only the synthetic gradients d_s are altered, the real one d_r (``reference``) never. A zero d_r projects
    nothing: d = epsilon * d_s.

    Departure: the paper gives no else-branch; without conflict d_s' = d_s.

    Args:
      gramian: [S, S] inner products of the unit gradients.
      scales: [S] a_s; None is ones.
      epsilon: weight of the projected gradients.
      reference: index r of the real source.

    Returns:
      [S] weights of the unit gradients.

    >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    >>> surgery(rows @ rows.T).round(4)
    Array([2.2222, 1.    ], dtype=float32)

    References:
      Guo, Du, Li, Miao: Generating Synthetic Datasets for Few-shot Prompt Tuning, 2024,
      https://arxiv.org/abs/2410.10865.
    """
    scales = _scales(gramian, scales)
    square = gramian[reference, reference]
    share = jnp.where(square > 0, jnp.minimum(gramian[reference], 0) / jnp.where(square > 0, square, 1), 0)
    others = jnp.arange(gramian.shape[0]) != reference
    removed = jnp.sum(jnp.where(others, epsilon * scales * share, 0))
    return jnp.where(others, epsilon * scales, scales - removed)


def pcgrad(gramian: jax.Array, scales: jax.Array | None = None, *, order: jax.Array | None = None):
    """PCGrad: every gradient is projected off each other one it conflicts with, in turn; then all are summed.

    Args:
      gramian: [S, S] inner products of the unit gradients.
      scales: [S] a_s; None is ones.
      order: [S, S] row i is the order (a permutation) in which gradient i meets the others; None is 0, 1, ...
        With two sources no order matters.

    Returns:
      [S] weights of the unit gradients.

    References:
      Yu et al.: Gradient Surgery for Multi-Task Learning, https://arxiv.org/abs/2001.06782, 2020.
    """
    number = gramian.shape[0]
    scales = _scales(gramian, scales)
    order = jnp.tile(jnp.arange(number), (number, 1)) if order is None else order

    def project(weights, other, own):
        inner, square = gramian[other] @ weights, gramian[other, other]
        conflict = (inner < 0) & (square > 0) & (other != own)
        return weights.at[other].add(-jnp.where(conflict, inner / jnp.where(square > 0, square, 1), 0)), None

    def projected(own):
        start = jnp.zeros(number, gramian.dtype).at[own].set(1)
        return jax.lax.scan(lambda weights, other: project(weights, other, own), start, order[own])[0]

    return jnp.sum(scales[:, None] * jax.vmap(projected)(jnp.arange(number)), axis=0)


def mgda(gramian: jax.Array, scales: jax.Array | None = None, *, tolerance: float = 1e-3, num_steps: int = 100):
    """MGDA: the convex combination of least norm, min_w w'Gw with w >= 0, sum w = 1, by Frank-Wolfe.

    Exact after one step for two sources.

    Args:
      gramian: [S, S] inner products of the unit gradients.
      scales: [S] a_s; None is ones.
      tolerance: ends once the line search moves by less than this.
      num_steps: and after this many steps.

    Returns:
      [S] weights of the unit gradients.

    References:
      Sener, Koltun: Multi-Task Learning as Multi-Objective Optimization, https://arxiv.org/abs/1810.04650, 2018.
    """
    common, scales = _common(gramian, scales)
    number = common.shape[0]

    def body(carry):
        weights, _, step = carry
        corner = jax.nn.one_hot(jnp.argmin(common @ weights), number, dtype=common.dtype)
        across, here, there = corner @ common @ weights, weights @ common @ weights, corner @ common @ corner
        bend = here + there - 2 * across
        inside = (here - across) / jnp.where(bend > 0, bend, 1)
        move = jnp.where(there <= across, 1.0, jnp.where(here <= across, 0.0, inside))
        return (1 - move) * weights + move * corner, move, step + 1

    start = jnp.full(number, 1 / number, common.dtype), jnp.ones((), common.dtype), 0
    going = lambda carry: (carry[1] >= tolerance) & (carry[2] < num_steps)  # noqa: E731
    return jax.lax.while_loop(going, body, start)[0] * scales


def cagrad(gramian: jax.Array, scales: jax.Array | None = None, *, radius: float = 0.5, smallest: float = 1e-4):
    """CAGrad: d = g_0 + radius |g_0| g_w / |g_w|, g_0 the mean and g_w = sum_s w_s d_s from the dual problem.

    w minimises F(w) = <g_w, g_0> + radius |g_0| |g_w| over the simplex, here by Newton steps along a logarithmic
    barrier (F is convex; the gap at the end is S times the last barrier weight).

    Args:
      gramian: [S, S] inner products of the unit gradients.
      scales: [S] a_s; None is ones.
      radius: c, of the ball around the mean gradient.
      smallest: |g_w| below this share of the root of the Gramian's trace counts as a Pareto point: zero weights.

    Returns:
      [S] weights of the unit gradients.

    References:
      Liu et al.: Conflict-Averse Gradient Descent for Multi-task Learning, https://arxiv.org/abs/2110.14048, 2021.
    """
    common, scales = _common(gramian, scales)
    number = common.shape[0]
    trace = jnp.trace(common)
    common = common / jnp.where(trace > 0, trace, 1)
    accuracy = jnp.finfo(common.dtype).eps
    slope = common @ jnp.full(number, 1 / number, common.dtype)
    reach = radius * jnp.sqrt(jnp.maximum(jnp.mean(slope), 0))

    def newton(weights, barrier):
        product = common @ weights
        length = jnp.sqrt(jnp.maximum(weights @ product, 0) + accuracy**2)
        gradient = slope + reach * product / length
        gradient = gradient - weights @ gradient  # the constraint's multiplier, taken out before it can cancel
        hessian = reach * (common / length - jnp.outer(product, product) / length**3)
        scaled = jnp.outer(weights, weights) * hessian / barrier + jnp.eye(number, dtype=common.dtype)
        step, back = jnp.linalg.solve(scaled, jnp.stack([1 - weights * gradient / barrier, weights], axis=1)).T
        step = step - (weights @ step) / (weights @ back) * back
        moved = weights * (1 + jnp.minimum(1, 0.9 / jnp.maximum(-jnp.min(step), accuracy)) * step)
        return moved / jnp.sum(moved), None

    barriers = jnp.repeat(jnp.geomspace(1.0, accuracy**0.75, 50, dtype=common.dtype), 2)
    weights, _ = jax.lax.scan(newton, jnp.full(number, 1 / number, common.dtype), barriers)
    length = jnp.sqrt(jnp.maximum(weights @ common @ weights, 0))
    pareto = length < smallest
    weights = 1 / number + reach / jnp.where(pareto, 1, length) * weights
    return jnp.where(pareto, 0, weights) * scales


def upgrad(gramian: jax.Array, scales: jax.Array | None = None, *, ridge: float = 1e-4):
    """UPGrad: the mean of the projections of every gradient onto the cone of directions that conflict with none.

    The projection of sum_s u_s d_s has weights argmin v'Gv with v >= u (u = e_s / S), solved by principal pivoting.

    Args:
      gramian: [S, S] inner products of the unit gradients.
      scales: [S] a_s; None is ones.
      ridge: times the Gramian's trace, added to its diagonal, so that the minimiser is unique.

    Returns:
      [S] weights of the unit gradients.

    References:
      Quinton, Rey: Jacobian Descent for Multi-Objective Optimization, https://arxiv.org/abs/2406.16232, 2024.
    """
    common, scales = _common(gramian, scales)
    number = common.shape[0]
    trace = jnp.trace(common)
    common = common / jnp.where(trace > 0, trace, 1) + ridge * jnp.eye(number, dtype=common.dtype)
    slack = 4 * jnp.finfo(common.dtype).eps

    def project(lower):
        # Complementarity: v = lower where bound, (Gv)_s = 0 where free; flip the last index that breaks its sign.
        def solve(free):
            matrix = jnp.where(free[:, None], common, jnp.eye(number, dtype=common.dtype))
            weights = jnp.linalg.solve(matrix, jnp.where(free, 0, lower))
            return weights, jnp.where(free, weights - lower, common @ weights) < -slack

        def body(carry):
            free, _, broken, step = carry
            last = number - 1 - jnp.argmax(broken[::-1])
            free = free ^ (jnp.arange(number) == last)
            return free, *solve(free), step + 1

        free = jnp.zeros(number, bool)
        going = lambda carry: jnp.any(carry[2]) & (carry[3] < 2 ** min(number, 10))  # noqa: E731
        return jax.lax.while_loop(going, body, (free, *solve(free), 0))[1]

    weights = jnp.sum(jax.vmap(project)(jnp.eye(number, dtype=common.dtype) / number), axis=0)
    return weights * scales


def _scales(gramian: jax.Array, scales: jax.Array | None) -> jax.Array:
    return jnp.ones(gramian.shape[0], gramian.dtype) if scales is None else scales


def _common(gramian: jax.Array, scales: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    scales = _scales(gramian, scales)
    relative = scales / jnp.max(scales)
    return gramian * relative[:, None] * relative[None, :], scales
