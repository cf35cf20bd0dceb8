"""The layer of a decoder-only model as NNX modules: rotary attention with shared key heads, and a gated feed-forward.

A module holds one layer's parameters and computes in the dtype of its input; parameters are cast when they are used.
Heads precede the length ([B, heads, T, d]), which is several times faster in XLA's CPU back end. Query heads that share
a key head are laid along the length ([B, kv heads, group x T, d]), so that keys and values are never copied.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dawgen_jax.backbones.decoder_only.config import DecoderConfig
from dawgen_jax.backbones.layers import RMSNorm, lean, matrix, softmax, wide_dtype

__all__ = ["Attention", "FeedForward", "Layer", "norm", "rotary", "rotate"]


def norm(config: DecoderConfig, width: int) -> RMSNorm:
    """A norm over the last axis of size ``width``."""
    return RMSNorm(width, config.norm_epsilon, remat=config.remat, scan_unroll=config.scan_unroll)


def rotary(config: DecoderConfig, length: int) -> np.ndarray:
    """Cosines and sines [2, length, head_dim / 2] of the rotary angles at positions 0 .. length - 1.

    Computed on the host, since accelerators only approximate them, and in float32, as the models were trained.

    References:
      Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, https://arxiv.org/abs/2104.09864, 2021.
    """
    exponent = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequency = np.float32(1) / np.float32(config.rope_theta) ** exponent
    if scaling := config.rope_scaling:
        wavelength = np.float32(2 * np.pi) / frequency
        low, high = np.float32(scaling.low_freq_factor), np.float32(scaling.high_freq_factor)
        turns = np.float32(scaling.original_length) / wavelength
        # 1 keeps a frequency, 0 divides it by the factor.
        kept = np.clip((turns - low) / (high - low), 0, 1) if high > low else (turns > high).astype(np.float32)
        frequency = (1 - kept) * frequency / np.float32(scaling.factor) + kept * frequency
    angles = np.arange(length, dtype=np.float32)[:, None] * frequency[None]
    return np.stack([np.cos(angles), np.sin(angles)])


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
    """Rotate the two halves of each head by the angles, in float32 or wider.

    Args:
      x: [B, heads, T, d].
      angles: cosines and sines [2, B, T, d / 2].

    Returns:
      [B, heads, T, d] in the dtype of ``x``.
    """
    cos, sin = angles[:, :, None].astype(wide_dtype(x.dtype))
    first, second = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


class Attention(nnx.Module):
    """softmax(q k^T / sqrt(d)) v with rotated q and k, where groups of query heads share a key and value head."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        inner, shared = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        std = config.width**-0.5
        self.query = matrix(rngs, config.width, inner, std)
        self.key = matrix(rngs, config.width, shared, std)
        self.value = matrix(rngs, config.width, shared, std)
        self.output = matrix(rngs, inner, config.width, inner**-0.5)
        if config.projection_bias:
            self.query_bias, self.key_bias, self.value_bias = (
                nnx.Param(jnp.zeros(width)) for width in (inner, shared, shared))
        if config.head_norms:
            self.query_norm, self.key_norm = norm(config, config.head_dim), norm(config, config.head_dim)

    def _heads(self, x: jax.Array, name: str) -> jax.Array:
        """[B, T, H] -> [B, heads, T, d] through the kernel ``name`` and its bias, if it has one."""
        y = x @ getattr(self, name)[...].astype(x.dtype)
        if self.config.projection_bias:
            y = y + jnp.broadcast_to(getattr(self, f"{name}_bias")[...].astype(x.dtype), y.shape)
        return y.reshape(*y.shape[:-1], -1, self.config.head_dim).swapaxes(1, 2)

    def queries(self, x: jax.Array, angles: jax.Array) -> jax.Array:
        """Rotated queries [B, heads, T, d] of [B, T, H]."""
        y = self._heads(x, "query")
        return rotate(self.query_norm(y) if self.config.head_norms else y, angles)

    def keys_values(self, x: jax.Array, angles: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Rotated keys, and values, each [B, kv heads, T, d], of [B, T, H]."""
        y = self._heads(x, "key")
        return rotate(self.key_norm(y) if self.config.head_norms else y, angles), self._heads(x, "value")

    def __call__(self, x: jax.Array, angles: jax.Array, *attended: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        """Attend from ``x``.

        Args:
          x: [B, Q, H].
          angles: cosines and sines [2, B, Q, d / 2] at the positions of ``x``.
          *attended: one or more blocks of (keys [B, kv heads, K, d], values [B, kv heads, K, d], mask bool [B, Q, K]
            or [B, 1, K]). Each query must attend to at least one key.

        Returns:
          [B, Q, H].
        """
        batch, length = x.shape[:2]
        shared, group = self.config.num_kv_heads, self.config.num_heads // self.config.num_kv_heads
        grouped = self.queries(x, angles).reshape(batch, shared, group * length, -1)
        scores, masks = [], []
        for keys, _, mask in attended:
            scores.append(jnp.matmul(grouped, keys.swapaxes(-1, -2), preferred_element_type=wide_dtype(x.dtype))
                          .reshape(batch, shared, group, length, -1))
            masks.append(jnp.broadcast_to(mask, (batch, length, mask.shape[-1])))
        # Scores are concatenated, not keys: while decoding, the cache would be copied for every token.
        weights = softmax(jnp.concatenate(scores, -1) * self.config.head_dim**-0.5,
                          jnp.concatenate(masks, -1)[:, None, None], x.dtype)
        weights = weights.reshape(batch, shared, group * length, -1)
        ends = np.cumsum([keys.shape[2] for keys, _, _ in attended])[:-1]
        mixed = sum(jnp.matmul(part, values) for part, (_, values, _) in
                    zip(jnp.split(weights, ends, axis=-1), attended, strict=True))
        mixed = mixed.reshape(batch, shared * group, length, -1).swapaxes(1, 2)
        return mixed.reshape(batch, length, -1) @ self.output[...].astype(x.dtype)


class FeedForward(nnx.Module):
    """(silu(x gate) * (x up)) down."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.gate = matrix(rngs, config.width, config.d_ff, config.width**-0.5)
        self.up = matrix(rngs, config.width, config.d_ff, config.width**-0.5)
        self.down = matrix(rngs, config.d_ff, config.width, config.d_ff**-0.5)

    def __call__(self, x: jax.Array) -> jax.Array:
        gate, up = (x @ kernel[...].astype(x.dtype) for kernel in (self.gate, self.up))
        gated = lean(lambda gate, up: jax.nn.silu(gate) * up, remat=self.config.remat,
                     scan_unroll=self.config.scan_unroll)
        return gated(gate, up) @ self.down[...].astype(x.dtype)


class Layer(nnx.Module):
    """Pre-norm attention and feed-forward with residual connections."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.attention_norm = norm(config, config.width)
        self.attention = Attention(config, rngs=rngs)
        self.feed_forward_norm = norm(config, config.width)
        self.feed_forward = FeedForward(config, rngs=rngs)

    def __call__(self, x: jax.Array, angles: jax.Array, *attended: tuple[jax.Array, jax.Array, jax.Array],
                 own: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Apply the layer to a text.

        Args:
          x: [B, T, H].
          angles: cosines and sines [2, B, T, d / 2].
          *attended: blocks of earlier keys and values with their masks, as in :class:`Attention`.
          own: bool [B, T, T], the mask among the positions of ``x``.

        Returns:
          (x [B, T, H], keys and values [B, kv heads, T, d] of these positions).
        """
        y = self.attention_norm(x)
        keys_values = self.attention.keys_values(y, angles)
        x = x + self.attention(y, angles, *attended, (*keys_values, own))
        return x + self.feed_forward(self.feed_forward_norm(x)), keys_values
