"""T5's layers as NNX modules: attention with relative bias, feed-forward, encoder and decoder layer.

A module holds one layer's parameters and computes in the dtype of its input; parameters are cast when they are used.
Norms and softmax are computed in float32, or in float64 if the input is float64.
Heads precede the length ([B, heads, T, d_kv]), which is several times faster in XLA's CPU back end. Norms and gated
activations keep only their inputs for the backward pass and recompute the rest: this is cheap compared with the
products, and halves the memory of a step whose layers are scanned.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dawgen_jax.backbones.layers import RMSNorm, lean, matrix, softmax, wide_dtype
from dawgen_jax.backbones.t5.config import T5Config

__all__ = ["Attention", "DecoderLayer", "EncoderLayer", "FeedForward", "buckets", "norm"]

_ACTIVATIONS = {
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
}


def buckets(relative: np.ndarray, *, config: T5Config, bidirectional: bool) -> np.ndarray:
    """Relative position buckets, computed on the host since accelerators only approximate the logarithm.

    Half of the buckets hold one distance each, the other half grow logarithmically up to
    ``relative_attention_max_distance``; a bidirectional stack uses half of all buckets for keys to the right.

    Args:
      relative: int [...] key position minus query position.
      config: gives the number of buckets and the largest distance.
      bidirectional: True for the encoder, False for the decoder.

    Returns:
      int32 [...] in [0, relative_attention_num_buckets).
    """
    count = config.relative_attention_num_buckets
    offset = np.zeros_like(relative)
    if bidirectional:
        count //= 2
        offset = np.where(relative > 0, count, 0)
        distance = np.abs(relative)
    else:
        distance = np.maximum(-relative, 0)
    exact = count // 2
    # In float32 and in this order, as the checkpoints were trained; the clamp avoids log(0).
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    ratio = ratio / np.float32(np.log(config.relative_attention_max_distance / exact)) * np.float32(count - exact)
    far = np.minimum(exact + ratio.astype(np.int32), count - 1)
    return (offset + np.where(distance < exact, distance, far)).astype(np.int32)


def norm(config: T5Config) -> RMSNorm:
    """A norm over H."""
    return RMSNorm(config.d_model, config.layer_norm_epsilon, remat=config.remat, scan_unroll=config.scan_unroll)


class Attention(nnx.Module):
    """softmax(q k^T + bias) v with several heads and without 1/sqrt(d_kv), which T5 folded into its initialisation."""

    def __init__(self, config: T5Config, *, rngs: nnx.Rngs):
        inner = config.num_heads * config.d_kv
        self.heads = config.num_heads
        self.query = matrix(rngs, config.d_model, inner, (config.d_model * config.d_kv) ** -0.5)
        self.key = matrix(rngs, config.d_model, inner, config.d_model**-0.5)
        self.value = matrix(rngs, config.d_model, inner, config.d_model**-0.5)
        self.output = matrix(rngs, inner, config.d_model, inner**-0.5)

    def split(self, x: jax.Array, kernel: nnx.Param) -> jax.Array:
        """[B, T, H] -> [B, heads, T, d_kv] through one of the kernels."""
        y = x @ kernel[...].astype(x.dtype)
        return y.reshape(*y.shape[:-1], self.heads, -1).swapaxes(1, 2)

    def keys_values(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Keys and values, each [B, heads, T, d_kv], of the attended-to [B, T, H]."""
        return self.split(x, self.key), self.split(x, self.value)

    def __call__(
        self, x: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array, bias: jax.Array | None = None
    ) -> jax.Array:
        """Attend from ``x``.

        Args:
          x: [B, Q, H].
          keys: [B, heads, K, d_kv].
          values: [B, heads, K, d_kv].
          mask: bool, broadcastable to [B, heads, Q, K] (same rank), True where a query attends to a key. A query
            without any key attends to all keys evenly instead of producing NaN.
          bias: broadcastable to [B, heads, Q, K] (same rank), in the dtype of the scores.

        Returns:
          [B, Q, H].
        """
        dtype = wide_dtype(x.dtype)
        scores = jnp.matmul(self.split(x, self.query), keys.swapaxes(-1, -2), preferred_element_type=dtype)
        if bias is not None:
            scores = scores + bias
        return self._join(jnp.matmul(softmax(scores, mask, x.dtype), values))

    def attend(self, x: jax.Array, states: jax.Array, mask: jax.Array) -> jax.Array:
        """Attend from ``x`` to ``states`` without bias, in the cheaper order of products.

        For few queries, the key kernel is applied to the queries and the value kernel to the weighted states, since
        ``q (E W_k)^T = (q W_k^T) E^T`` and ``a (E W_v) = (a E) W_v``: this takes heads Q (d_kv + K) H multiplications
        twice instead of K H heads d_kv twice.

        Args:
          x: [B, Q, H].
          states: [B, K, H].
          mask: as in :meth:`__call__`.

        Returns:
          [B, Q, H].
        """
        queries, count = x.shape[1], states.shape[1]
        width = self.key.shape[1] // self.heads
        if queries * (width + count) >= count * width:
            return self(x, *self.keys_values(states), mask)
        key, value = (kernel[...].astype(x.dtype).reshape(x.shape[-1], self.heads, width)
                      for kernel in (self.key, self.value))
        reading = jnp.einsum("bhqd,nhd->bhqn", self.split(x, self.query), key)
        flat = reading.reshape(x.shape[0], -1, x.shape[-1])  # heads and queries in one matrix: few large products
        scores = jnp.matmul(flat, states.swapaxes(-1, -2), preferred_element_type=wide_dtype(x.dtype))
        weights = softmax(scores.reshape(*reading.shape[:3], count), mask, x.dtype)
        mixed = jnp.matmul(weights.reshape(x.shape[0], -1, count), states).reshape(reading.shape)
        return self._join(jnp.einsum("bhqn,nhd->bhqd", mixed, value))

    def _join(self, mixed: jax.Array) -> jax.Array:
        """[B, heads, T, d_kv] -> [B, T, H] through the output kernel."""
        merged = mixed.swapaxes(1, 2)
        return merged.reshape(*merged.shape[:2], -1) @ self.output[...].astype(mixed.dtype)


class FeedForward(nnx.Module):
    """v1.0: act(x wi) wo; v1.1 (gated): (act(x wi_0) * (x wi_1)) wo."""

    def __init__(self, config: T5Config, *, rngs: nnx.Rngs):
        self.config = config
        std = config.d_model**-0.5
        if config.gated:
            self.wi_0 = matrix(rngs, config.d_model, config.d_ff, std)
            self.wi_1 = matrix(rngs, config.d_model, config.d_ff, std)
        else:
            self.wi = matrix(rngs, config.d_model, config.d_ff, std)
        self.wo = matrix(rngs, config.d_ff, config.d_model, config.d_ff**-0.5)

    def __call__(self, x: jax.Array) -> jax.Array:
        activate = _ACTIVATIONS[self.config.activation]
        if self.config.gated:
            gate, plain = (x @ kernel[...].astype(x.dtype) for kernel in (self.wi_0, self.wi_1))
            hidden = lean(lambda gate, plain: activate(gate) * plain, remat=self.config.remat,
                          scan_unroll=self.config.scan_unroll)(gate, plain)
        else:
            hidden = activate(x @ self.wi[...].astype(x.dtype))
        return hidden @ self.wo[...].astype(x.dtype)


def _bias_table(config: T5Config, rngs: nnx.Rngs) -> nnx.Param:
    return matrix(rngs, config.relative_attention_num_buckets, config.num_heads, config.d_model**-0.5)


class EncoderLayer(nnx.Module):
    """Pre-norm self-attention and feed-forward with residual connections."""

    def __init__(self, config: T5Config, *, rngs: nnx.Rngs):
        self.attention_norm = norm(config)
        self.attention = Attention(config, rngs=rngs)
        self.feed_forward_norm = norm(config)
        self.feed_forward = FeedForward(config, rngs=rngs)
        if config.per_layer_bias:
            self.bias = _bias_table(config, rngs)

    def __call__(self, x: jax.Array, mask: jax.Array, bias: jax.Array) -> jax.Array:
        """[B, T, H] -> [B, T, H]; ``mask`` and ``bias`` as in :class:`Attention`."""
        y = self.attention_norm(x)
        x = x + self.attention(y, *self.attention.keys_values(y), mask, bias)
        return x + self.feed_forward(self.feed_forward_norm(x))


class DecoderLayer(nnx.Module):
    """Causal self-attention, cross-attention (which has no relative bias) and feed-forward."""

    def __init__(self, config: T5Config, *, rngs: nnx.Rngs):
        self.attention_norm = norm(config)
        self.attention = Attention(config, rngs=rngs)
        self.cross_norm = norm(config)
        self.cross = Attention(config, rngs=rngs)
        self.feed_forward_norm = norm(config)
        self.feed_forward = FeedForward(config, rngs=rngs)
        if config.per_layer_bias:
            self.bias = _bias_table(config, rngs)

    def __call__(
        self, x: jax.Array, mask: jax.Array, bias: jax.Array, encoded: jax.Array, encoder_mask: jax.Array
    ) -> jax.Array:
        """[B, U, H] -> [B, U, H] given ``encoded`` [B, T, H]; masks and bias as in :class:`Attention`."""
        y = self.attention_norm(x)
        x = x + self.attention(y, *self.attention.keys_values(y), mask, bias)
        x = x + self.cross.attend(self.cross_norm(x), encoded, encoder_mask)
        return x + self.feed_forward(self.feed_forward_norm(x))
