"""Inner products between the gradients of several sources, accurate at any scale.

The Gramian of S gradients, ``G[s, t] = <d_s, d_t>``, holds every inner product that an aggregation needs. Squares of
small or large gradients leave the range of float32 long before the gradients do, so each gradient is first divided by
a power of two close to its largest magnitude, which is exact in binary floating point. No constant is added to any
denominator.

Departure: the paper does not say how the inner products are computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

__all__ = ["combine", "gramian", "matmul", "units"]


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """``a @ b`` in full precision, independent of ``jax_default_matmul_precision``.

    The sign of an inner product decides whether a gradient is projected; TPUs and GPUs round its factors by default.
    """
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def units(leaves: Sequence[jax.Array], kept: int) -> tuple[list[jax.Array], jax.Array]:
    """Rescale gradients by a power of two: u_s = d_s / a_s, with the largest magnitude of u_s in [1, 2).

    Args:
      leaves: gradients [S, *kept axes, ...], all float32 or all float64; together they form one gradient.
      kept: number of axes after S whose entries are separate gradients; 0 treats each source as one gradient.

    Returns:
      The rescaled gradients u_s and the scales a [*kept axes, S]. A zero gradient has scale 1. In float32 a_s is at
      most 2^126, so for larger gradients the largest magnitude of u_s is below 4.

    >>> unit, scales = units([jnp.array([[3.0, -6.0], [0.0, 0.0]])], 0)
    >>> unit[0].tolist(), scales.tolist()
    ([[0.75, -1.5], [0.0, 0.0]], [4.0, 1.0])
    """
    largest = [jnp.max(jnp.abs(leaf), axis=tuple(range(1 + kept, leaf.ndim))) for leaf in leaves]
    largest = jnp.max(jnp.stack(largest), axis=0)
    # 1 / a_s must be a normal number too: XLA multiplies by it and may flush a subnormal to zero.
    limits = jnp.finfo(largest.dtype)
    exponent = jnp.clip(jnp.frexp(largest)[1] - 1, limits.minexp, limits.maxexp - 2)
    scale = jnp.where(largest > 0, jnp.ldexp(jnp.ones_like(largest), exponent), 1)
    return [leaf / _stretch(scale, leaf.ndim) for leaf in leaves], jnp.moveaxis(scale, 0, -1)


def gramian(leaves: Sequence[jax.Array], kept: int) -> jax.Array:
    """G[..., s, t] = <d_s, d_t>, summed over the leaves and all axes except S and the kept axes.

    Args:
      leaves: gradients [S, *kept axes, ...], at least one.
      kept: number of kept axes after S.

    Returns:
      [*kept axes, S, S].

    >>> gramian([jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])], 0).tolist()
    [[18.0, -22.0], [-22.0, 38.0]]
    """
    flat = (jnp.moveaxis(leaf.reshape(*leaf.shape[: 1 + kept], -1), 0, -2) for leaf in leaves)
    products = [matmul(leaf, leaf.mT) for leaf in flat]
    return sum(products)  # pyrefly: ignore  (the sum of at least one array is not 0)


def combine(leaves: Sequence[jax.Array], weights: jax.Array) -> list[jax.Array]:
    """The direction sum_s w_s d_s of each leaf.

    Args:
      leaves: gradients [S, *kept axes, ...].
      weights: w [*kept axes, S].

    Returns:
      Leaves [*kept axes, ...].
    """
    weights = jnp.moveaxis(weights, -1, 0)
    return [jnp.sum(_stretch(weights, leaf.ndim) * leaf, axis=0) for leaf in leaves]


def _stretch(array: jax.Array, ndim: int) -> jax.Array:
    return array.reshape(array.shape + (1,) * (ndim - array.ndim))
