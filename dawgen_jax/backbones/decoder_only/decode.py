"""A decoder-only model's part of cached decoding; slots, sampling and queues are :mod:`dawgen_jax.backbones.engine`'s.

Parameters are in the unstacked form of :func:`dawgen_jax.backbones.decoder_only.model.unstack`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dawgen_jax.backbones.base import Cache, Prefilled
from dawgen_jax.backbones.decoder_only import model
from dawgen_jax.backbones.decoder_only.config import DecoderConfig
from dawgen_jax.backbones.engine import write

__all__ = ["empty", "prefill", "step"]


def empty(slots: int, source: int, new_tokens: int, *, config: DecoderConfig) -> Cache:
    """A cache of zeros for B = ``slots`` samples.

    Args:
      slots: B.
      source: T' input positions, soft rows included.
      new_tokens: U tokens per sample.
      config: the model.
    """
    def pairs(length: int) -> list:
        shape = slots, config.num_kv_heads, length, config.head_dim
        return [tuple(jnp.zeros(shape, config.dtype) for _ in range(2)) for _ in range(config.num_layers)]

    first = jnp.zeros((slots, config.width), config.dtype)
    return Cache(Prefilled(pairs(source), jnp.zeros((slots, source), bool), first), pairs(new_tokens))


def prefill(layers, embeddings: jax.Array, mask: jax.Array, *, config: DecoderConfig) -> Prefilled:
    """The keys and values of R inputs, except of each input's last position: the first decoding step computes those.

    Args:
      layers: parameters.
      embeddings: [R, T', H].
      mask: bool [R, T'].
      config: the model.
    """
    x, kept = embeddings.astype(config.dtype), []
    turned, own = model.angles(mask, config=config), model.causal(mask)
    for parameters in layers["layers"][:-1]:
        x, keys_values = model.merge("layer", parameters, config=config)(x, turned, own=own)
        kept.append(keys_values)
    last = model.merge("layer", layers["layers"][-1], config=config)  # of the last layer nothing but these is read
    kept.append(last.attention.keys_values(last.attention_norm(x), turned))
    place = model.last_position(mask)
    first = jnp.take_along_axis(embeddings, place[:, None, None], axis=1, mode="clip")[:, 0]
    return Prefilled(kept, mask & (jnp.arange(mask.shape[1], dtype=jnp.int32)[None] != place[:, None]), first)


def step(layers, cache: Cache, inputs: jax.Array, position: jax.Array, *, config: DecoderConfig
         ) -> tuple[jax.Array, list]:
    """States [B, H] behind ``inputs`` [B, H] at ``position`` int32 [B], and the samples' new keys and values."""
    length = cache.own[0][0].shape[2]
    visible = (jnp.arange(length, dtype=jnp.int32)[None] <= position[:, None])[:, None]
    seen = cache.inputs.mask[:, None]
    turned = model.angles(jnp.ones((len(inputs), 1), bool), config=config, longest=length + seen.shape[-1],
                          start=seen.sum((1, 2), dtype=jnp.int32) + position)
    x, own = inputs.astype(config.dtype)[:, None], []
    for parameters, old, source in zip(layers["layers"], cache.own, cache.inputs.layers, strict=True):
        module = model.merge("layer", parameters, config=config)
        y = module.attention_norm(x)
        pair = tuple(write(*parts, position) for parts in zip(old, module.attention.keys_values(y, turned),
                                                              strict=True))
        x = x + module.attention(y, turned, (*source, seen), (*pair, visible))
        x = x + module.feed_forward(module.feed_forward_norm(x))
        own.append(pair)
    return model.merge("norm", layers["norm"], config=config)(x)[:, 0], own
