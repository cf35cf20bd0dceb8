"""Inner products between the gradients of several sources, safe at any scale.

The Gramian G of S gradients holds every inner product that an aggregation needs: G[s, t] = <d_s, d_t>. Squares of
small or large gradients leave float32 long before the gradients do, so each source is first divided by a power of
two next to its largest magnitude (exact in binary floating point). No constant is added to any denominator.

Departure: the paper does not say how the inner products are computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

__all__ = ["combine", "gramian", "units"]


def units(leaves: Sequence[jax.Array], kept: int) -> tuple[list[jax.Array], jax.Array]:
    """Gradients rescaled by a power of two: u_s = d_s / a_s, whose largest magnitude is in [1, 2).

    Args:
      leaves: gradients [S, *kept axes, ...], any floating dtype; all leaves together are one gradient.
      kept: number of axes after S whose entries are gradients of their own (0: the whole leaf is one).

    Returns:
      The rescaled gradients, in float32 or wider, and the scales a [*kept axes, S]; a zero gradient has scale 1. In
      float32 a_s is at most 2^126, and the largest magnitude of a gradient above it is below 4.
    """
    wide = [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in leaves]
    largest = [jnp.max(jnp.abs(leaf), axis=tuple(range(1 + kept, leaf.ndim))) for leaf in wide]
    largest = jnp.max(jnp.stack(largest), axis=0)
    # 1 / a_s must be a normal number too: XLA multiplies by it, and one that is subnormal may be flushed to zero.
    limits = jnp.finfo(largest.dtype)
    exponent = jnp.clip(jnp.frexp(largest)[1] - 1, limits.minexp, limits.maxexp - 2)
    scale = jnp.where(largest > 0, jnp.ldexp(jnp.ones_like(largest), exponent), 1)
    return [leaf / _stretch(scale, leaf.ndim) for leaf in wide], jnp.moveaxis(scale, 0, -1)


def gramian(leaves: Sequence[jax.Array], kept: int) -> jax.Array:
    """G[..., s, t] = <d_s, d_t>, summed over the leaves and all axes but S and the kept ones.

    Args:
      leaves: gradients [S, *kept axes, ...].
      kept: number of kept axes after S.

    Returns:
      [*kept axes, S, S].
    """
    flat = (jnp.moveaxis(leaf.reshape(*leaf.shape[: 1 + kept], -1), 0, -2) for leaf in leaves)
    products = [jnp.matmul(leaf, leaf.mT, precision=jax.lax.Precision.HIGHEST) for leaf in flat]
    return sum(products)  # pyrefly: ignore  (there is a leaf, so that it is no 0)


def combine(leaves: Sequence[jax.Array], weights: jax.Array) -> list[jax.Array]:
    """The direction sum_s w_s d_s of each leaf.

    Args:
      leaves: gradients [S, *kept axes, ...].
      weights: [*kept axes, S].

    Returns:
      Leaves [*kept axes, ...].
    """
    weights = jnp.moveaxis(weights, -1, 0)
    return [jnp.sum(_stretch(weights, leaf.ndim) * leaf, axis=0) for leaf in leaves]


def _stretch(array: jax.Array, ndim: int) -> jax.Array:
    return array.reshape(array.shape + (1,) * (ndim - array.ndim))
