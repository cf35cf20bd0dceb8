"""Building blocks of layers that all families share: dtypes, masked softmax, initial matrices, RMSNorm.

Norms and softmax are computed in float32, or in float64 if the input is float64. Parameters are cast to the dtype of
the input when they are used.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

__all__ = ["RMSNorm", "lean", "matrix", "project", "softmax", "wide_dtype"]


def wide_dtype(dtype) -> jnp.dtype:
    """The dtype of norms, softmax, logits and losses for activations of ``dtype``: float32 or wider."""
    # Not jnp.promote_types, which refuses bfloat16 with float32 under strict dtype promotion.
    return jnp.dtype(jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32)


def softmax(scores: jax.Array, mask: jax.Array, dtype) -> jax.Array:
    """Attention weights in ``dtype`` of float32 or wider ``scores`` over the last axis, where ``mask`` is True.

    A query without any key attends to all keys evenly instead of producing NaN.
    """
    return jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min), axis=-1).astype(dtype)


def matrix(rngs: nnx.Rngs, rows: int, columns: int, std: float) -> nnx.Param:
    """A random matrix [rows, columns] with standard deviation ``std``."""
    return nnx.Param(std * jax.random.normal(rngs.params(), (rows, columns), jnp.float32))


def lean(function: Callable, *, remat: bool, scan_unroll: int) -> Callable:
    """Wrap ``function`` so that it keeps only its inputs for the backward pass, unless the layer is rematerialised."""
    # Without a loop between the two passes, the compiler would merge the recomputation with the forward pass.
    return function if remat else jax.checkpoint(function, prevent_cse=scan_unroll == 0)


def project(hidden: jax.Array, rows: jax.Array) -> jax.Array:
    """Scores [..., n] of ``hidden`` [..., H] with the rows [n, H] of a head, in float32 or wider."""
    rows, dtype = rows.astype(hidden.dtype), wide_dtype(hidden.dtype)
    if hidden.ndim == 2:
        # The long side comes first: for the few rows of a decoding step, this is a fifth faster in XLA's CPU back end.
        return jax.lax.dot_general(rows, hidden, (((1,), (1,)), ((), ())), preferred_element_type=dtype).T
    return jax.lax.dot_general(hidden, rows, (((hidden.ndim - 1,), (1,)), ((), ())), preferred_element_type=dtype)


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + epsilon) * scale over the last axis, without mean subtraction or bias."""

    def __init__(self, width: int, epsilon: float, *, remat: bool = False, scan_unroll: int = 0):
        self.epsilon, self.remat, self.scan_unroll = epsilon, remat, scan_unroll
        self.scale = nnx.Param(jnp.ones((width,), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return lean(self._normed, remat=self.remat, scan_unroll=self.scan_unroll)(x, self.scale[...])

    def _normed(self, x: jax.Array, scale: jax.Array) -> jax.Array:
        y = x.astype(wide_dtype(x.dtype))
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.epsilon)
        return y.astype(x.dtype) * jnp.broadcast_to(scale.astype(x.dtype), x.shape)
