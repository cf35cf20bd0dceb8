"""Weights of S gradients computed from their Gramian, ``[S, S] -> [S]``.

Each function takes the Gramian of *unit* gradients u_s = d_s / a_s and the scales a_s (None: all ones, for a plain
Gramian), and returns the weights w of the direction sum_s w_s u_s. All can be jitted and vmapped.

Surgery and PCGrad are linear in the scale of each source and never divide one scale by another. MGDA, CAGrad and UPGrad
compare sources: they use the Gramian with one common scale, so in float32 a source about 1e19 times smaller than the
largest counts as zero.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dawgen_jax.surgery.gramian import matmul

__all__ = ["cagrad", "mgda", "pcgrad", "surgery", "total", "upgrad"]


def total(gramian: jax.Array, scales: jax.Array | None = None, *, epsilon: jax.typing.ArrayLike = 1.0,
          reference: jax.typing.ArrayLike = 0) -> jax.Array:
    """Weighted sum without projection, the paper's (Real, Syn).

    d = d_r + epsilon * sum_{s != r} d_s

    Args:
      gramian: [S, S] inner products of the unit gradients; only its shape and dtype are used.
      scales: [S] a_s; None is ones.
      epsilon: weight of all sources except the reference.
      reference: index r of the real source.

    Returns:
      [S] weights of the unit gradients.

    >>> total(jnp.eye(2), epsilon=0.5).tolist()
    [1.0, 0.5]
    """
    others = jnp.arange(gramian.shape[0]) != reference
    return jnp.where(others, jnp.asarray(epsilon, gramian.dtype), 1) * _scales(gramian, scales)


def surgery(gramian: jax.Array, scales: jax.Array | None = None, *, epsilon: jax.typing.ArrayLike = 1.0,
            reference: jax.typing.ArrayLike = 0) -> jax.Array:
    """Algorithm 2: synthetic gradients lose their component against the real gradient, which is never changed.

    d = d_r + epsilon * sum_{s != r} d_s'    with    d_s' = d_s - min(<d_s, d_r>, 0) / <d_r, d_r> * d_r

    A zero d_r projects nothing: d = epsilon * sum_s d_s.

    Departure: the paper gives no else-branch; without conflict d_s' = d_s.

    Args:
      gramian: [S, S] inner products of the unit gradients.
      scales: [S] a_s; None is ones.
      epsilon: weight of the projected gradients d_s'.
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
    scales, epsilon = _scales(gramian, scales), jnp.asarray(epsilon, gramian.dtype)
    square = gramian[reference, reference]
    share = jnp.where(square > 0, jnp.minimum(gramian[reference], 0) / jnp.where(square > 0, square, 1), 0)
    others = jnp.arange(gramian.shape[0]) != reference
    removed = jnp.sum(jnp.where(others, epsilon * scales * share, 0))
    return jnp.where(others, epsilon * scales, scales - removed)


def pcgrad(gramian: jax.Array, scales: jax.Array | None = None, *, order: jax.Array | None = None) -> jax.Array:
    """PCGrad: project each gradient off every other gradient that it conflicts with, in turn, and sum the results.

    d = sum_s d_s'    with    d_s' <- d_s' - min(<d_s', d_t>, 0) / <d_t, d_t> * d_t    for t in order[s], t != s

    Args:
      gramian: [S, S] inner products of the unit gradients.
      scales: [S] a_s; None is ones.
      order: [S, S], where row s is a permutation: the order in which gradient s is projected; None is 0, 1, ... With
        two sources the order has no effect.

    Returns:
      [S] weights of the unit gradients.

    >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    >>> (pcgrad(rows @ rows.T) @ rows).round(4)
    Array([0.5848, 3.8012, 3.8012], dtype=float32)

    References:
      Yu et al.: Gradient Surgery for Multi-Task Learning, https://arxiv.org/abs/2001.06782, 2020.
    """
    number = gramian.shape[0]
    scales = _scales(gramian, scales)
    order = jnp.tile(jnp.arange(number), (number, 1)) if order is None else order

    def project(weights, other, this):
        inner, square = matmul(gramian[other], weights), gramian[other, other]
        conflict = (inner < 0) & (square > 0) & (other != this)
        return weights.at[other].add(-jnp.where(conflict, inner / jnp.where(square > 0, square, 1), 0)), None

    def projected(this):
        start = jnp.zeros(number, gramian.dtype).at[this].set(1)
        return jax.lax.scan(lambda weights, other: project(weights, other, this), start, order[this])[0]

    return jnp.sum(scales[:, None] * jax.vmap(projected)(jnp.arange(number)), axis=0)


def mgda(gramian: jax.Array, scales: jax.Array | None = None, *, tolerance: float = 1e-3,
         num_steps: int = 100) -> jax.Array:
    """MGDA: the convex combination of least norm, by Frank-Wolfe steps.

    d = sum_s w_s d_s    with    w = argmin_w w'Gw,  w >= 0,  sum_s w_s = 1

    For two sources, one step is exact.

    Args:
      gramian: G [S, S] inner products of the unit gradients.
      scales: [S] a_s; None is ones.
      tolerance: stop when the line search moves by less than this.
      num_steps: stop after this many steps.

    Returns:
      [S] weights of the unit gradients.

    >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    >>> (mgda(rows @ rows.T) @ rows).round(4) + 0.0
    Array([0., 1., 1.], dtype=float32)

    References:
      Sener, Koltun: Multi-Task Learning as Multi-Objective Optimization, https://arxiv.org/abs/1810.04650, 2018.
    """
    common, scales = _common(gramian, scales)
    number = common.shape[0]

    def body(carry):
        weights, _, step = carry
        corner = jax.nn.one_hot(jnp.argmin(matmul(common, weights)), number, dtype=common.dtype)
        row, mixed = matmul(corner, common), matmul(weights, common)
        across, here, there = matmul(row, weights), matmul(mixed, weights), matmul(row, corner)
        bend = here + there - 2 * across
        inside = (here - across) / jnp.where(bend > 0, bend, 1)
        move = jnp.where(there <= across, 1.0, jnp.where(here <= across, 0.0, inside))
        return (1 - move) * weights + move * corner, move, step + 1

    start = jnp.full(number, 1 / number, common.dtype), jnp.ones((), common.dtype), 0
    going = lambda carry: (carry[1] >= tolerance) & (carry[2] < num_steps)  # noqa: E731
    return jax.lax.while_loop(going, body, start)[0] * scales


def cagrad(gramian: jax.Array, scales: jax.Array | None = None, *, radius: float = 0.5,
           smallest: float = 1e-4) -> jax.Array:
    """CAGrad: the direction in a ball around the mean gradient that most improves the worst source.

    ``d = g_0 + c |g_0| g_w / |g_w|`` with ``g_0 = sum_s d_s / S`` and ``g_w = sum_s w_s d_s``.

    w minimises ``F(w) = <g_w, g_0> + c |g_0| |g_w|`` over the simplex, by Newton steps along a logarithmic barrier. F
    is convex; the final gap is S times the last barrier weight.

    Args:
      gramian: [S, S] inner products of the unit gradients.
      scales: [S] a_s; None is ones.
      radius: c, radius of the ball relative to ``|g_0|``.
      smallest: if ``|g_w|`` is below this share of the root of the Gramian's trace, the point is Pareto: zero weights.

    Returns:
      [S] weights of the unit gradients.

    >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    >>> [round(float(value), 3) for value in cagrad(rows @ rows.T) @ rows]
    [0.184, 1.204, 1.204]

    References:
      Liu et al.: Conflict-Averse Gradient Descent for Multi-task Learning, https://arxiv.org/abs/2110.14048, 2021.
    """
    common, scales = _common(gramian, scales)
    number = common.shape[0]
    trace = jnp.trace(common)
    common = common / jnp.where(trace > 0, trace, 1)
    accuracy = jnp.finfo(common.dtype).eps
    slope = matmul(common, jnp.full(number, 1 / number, common.dtype))
    reach = radius * jnp.sqrt(jnp.maximum(jnp.mean(slope), 0))

    def newton(weights, barrier):
        product = matmul(common, weights)
        length = jnp.sqrt(jnp.maximum(matmul(weights, product), 0) + accuracy**2)
        gradient = slope + reach * product / length
        gradient = gradient - matmul(weights, gradient)  # subtract the constraint's multiplier early: no cancellation
        hessian = reach * (common / length - jnp.outer(product, product) / length**3)
        scaled = jnp.outer(weights, weights) * hessian / barrier + jnp.eye(number, dtype=common.dtype)
        step, back = jnp.linalg.solve(scaled, jnp.stack([1 - weights * gradient / barrier, weights], axis=1)).T
        step = step - matmul(weights, step) / matmul(weights, back) * back
        moved = weights * (1 + jnp.minimum(1, 0.9 / jnp.maximum(-jnp.min(step), accuracy)) * step)
        return moved / jnp.sum(moved), None

    barriers = jnp.repeat(jnp.geomspace(1.0, accuracy**0.75, 50, dtype=common.dtype), 2)
    weights, _ = jax.lax.scan(newton, jnp.full(number, 1 / number, common.dtype), barriers)
    length = jnp.sqrt(jnp.maximum(matmul(matmul(weights, common), weights), 0))
    pareto = length < smallest
    weights = 1 / number + reach / jnp.where(pareto, 1, length) * weights
    return jnp.where(pareto, 0, weights) * scales


def upgrad(gramian: jax.Array, scales: jax.Array | None = None, *, ridge: float = 1e-4) -> jax.Array:
    """UPGrad: the mean of the projections of each gradient onto the cone of directions without any conflict.

    d = 1/S sum_i sum_s v_is d_s    with    v_i = argmin_v v'Gv,  v >= e_i

    e_i is the i-th unit vector. The problem is solved by principal pivoting.

    Args:
      gramian: G [S, S] inner products of the unit gradients.
      scales: [S] a_s; None is ones.
      ridge: share of the Gramian's trace that is added to its diagonal, so that the minimiser is unique.

    Returns:
      [S] weights of the unit gradients.

    >>> rows = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    >>> [round(float(value), 3) for value in upgrad(rows @ rows.T) @ rows]
    [0.293, 1.9, 1.9]

    References:
      Quinton, Rey: Jacobian Descent for Multi-Objective Optimization, https://arxiv.org/abs/2406.16232, 2024.
    """
    common, scales = _common(gramian, scales)
    number = common.shape[0]
    trace = jnp.trace(common)
    common = common / jnp.where(trace > 0, trace, 1) + ridge * jnp.eye(number, dtype=common.dtype)
    slack = 4 * jnp.finfo(common.dtype).eps

    def project(lower):
        # Complementarity: v = lower where bound, (Gv)_s = 0 where free; flip the last index that violates its sign.
        def solve(free):
            matrix = jnp.where(free[:, None], common, jnp.eye(number, dtype=common.dtype))
            weights = jnp.linalg.solve(matrix, jnp.where(free, 0, lower))
            return weights, jnp.where(free, weights - lower, matmul(common, weights)) < -slack

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
