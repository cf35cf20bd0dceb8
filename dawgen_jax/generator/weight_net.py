"""The weight net omega: token weights W from each token's discriminative loss (a 1-100-1 perceptron with ReLU).

FewGen's, unchanged: the input is the detached loss of the token, the output goes through a softmax over all
supervised tokens of the batch. Departure: a softmax over each sentence is offered beside it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dawgen_jax.config import check_choice

__all__ = ["init", "token_weights", "uniform_weights"]


def init(key: jax.Array, width: int = 100, dtype=jnp.float32) -> dict[str, jax.Array]:
    """omega at its start: PyTorch's default for linear layers, uniform within 1 / sqrt(fan in).

    Args:
      key: random key.
      width: hidden units.
      dtype: of the parameters.

    Returns:
      {'w1': [width], 'b1': [width], 'w2': [width], 'b2': []}.
    """
    keys = jax.random.split(key, 4)
    bound = 1 / width**0.5
    return {
        "w1": jax.random.uniform(keys[0], (width,), dtype, -1, 1),
        "b1": jax.random.uniform(keys[1], (width,), dtype, -1, 1),
        "w2": jax.random.uniform(keys[2], (width,), dtype, -bound, bound),
        "b2": jax.random.uniform(keys[3], (), dtype, -bound, bound),
    }


def token_weights(weight_net: dict[str, jax.Array], values: jax.Array, mask: jax.Array, norm: str) -> jax.Array:
    """W = softmax over tokens of g_omega(L_disc); no gradient flows into ``values``.

    Args:
      weight_net: omega.
      values: [B, U] discriminative loss of each token.
      mask: bool [B, U] supervised tokens.
      norm: 'batch': W sums to 1 over the batch; 'sentence': over each sentence, and is divided by their number, so
        that in both cases L_wGen = sum W * NLL.

    Returns:
      [B, U]; 0 where not supervised.

    Raises:
      ConfigError: the norm is neither.
    """
    check_choice("norm", norm, "batch", "sentence")
    values = jax.lax.stop_gradient(values)[..., None]
    inner = jax.nn.relu(values * weight_net["w1"][None, None] + weight_net["b1"][None, None])
    scores = jnp.sum(inner * weight_net["w2"][None, None], axis=-1) + weight_net["b2"]
    axes = (0, 1) if norm == "batch" else 1
    lowest = jnp.finfo(scores.dtype).min
    top = jax.lax.stop_gradient(jnp.max(jnp.where(mask, scores, lowest), axis=axes, keepdims=True))
    grown = jnp.where(mask, jnp.exp(jnp.where(mask, scores - top, 0)), 0)
    total = jnp.sum(grown, axis=axes, keepdims=True)
    return grown / jnp.where(total > 0, total, 1) / _sentences(mask, norm)


def uniform_weights(mask: jax.Array, norm: str, dtype=jnp.float32) -> jax.Array:
    """W = 1 / N over the N supervised tokens of the batch, or of each sentence divided by their number.

    Args:
      mask: bool [B, U] supervised tokens.
      norm: 'batch' or 'sentence'.
      dtype: of the weights.

    Returns:
      [B, U]; 0 where not supervised.

    Raises:
      ConfigError: the norm is neither.
    """
    check_choice("norm", norm, "batch", "sentence")
    count = jnp.sum(mask, axis=None if norm == "batch" else 1, keepdims=True)
    return mask.astype(dtype) / jnp.maximum(count, 1).astype(dtype) / _sentences(mask, norm)


def _sentences(mask: jax.Array, norm: str) -> jax.Array | int:
    return 1 if norm == "batch" else jnp.maximum(jnp.sum(jnp.any(mask, axis=1)), 1)
