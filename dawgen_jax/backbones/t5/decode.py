"""Cached decoding of a T5; :mod:`dawgen_jax.backbones.engine` handles slots, sampling and queues.

Parameters are unstacked, as :func:`dawgen_jax.backbones.t5.model.unstack` returns them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax.backbones.base import Cache, Prefilled
from dawgen_jax.backbones.engine import write
from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config

__all__ = ["empty", "prefill", "step"]


def empty(slots: int, source: int, new_tokens: int, *, config: T5Config) -> Cache:
    """A cache of zeros.

    Args:
      slots: B, number of samples.
      source: T', encoder positions, soft rows included.
      new_tokens: U, tokens per sample.
      config: the model.
    """

    def pairs(length: int) -> list:
        shape = slots, config.num_heads, length, config.d_kv
        return [tuple(jnp.zeros(shape, config.dtype) for _ in range(2)) for _ in range(config.num_decoder_layers)]

    first = jnp.zeros((slots, config.d_model), config.dtype)
    return Cache(Prefilled(pairs(source), jnp.zeros((slots, source), bool), first), pairs(new_tokens))


def prefill(layers, embeddings: jax.Array, mask: jax.Array, *, config: T5Config) -> Prefilled:
    """Encode R inputs and project them to the cross-attention keys and values of every decoder layer.

    Args:
      layers: parameters.
      embeddings: [R, T', H].
      mask: bool [R, T'].
      config: the model.
    """
    encoded = model.encode(layers, embeddings, mask, config=config)
    modules = (model.merge("decoder", parameters, config=config) for parameters in layers["decoder"]["layers"])
    start = jnp.full(len(embeddings), config.decoder_start_id, jnp.int32)
    first = model.embed(layers, start, config=config)
    return Prefilled([module.cross.keys_values(encoded) for module in modules], mask, first)


def step(layers, cache: Cache, inputs: jax.Array, position: jax.Array, *, config: T5Config) -> tuple[jax.Array, list]:
    """Decoder states [B, H] of ``inputs`` [B, H] at ``position`` int32 [B], and the samples' new keys and values."""
    length = cache.own[0][0].shape[2]
    visible = (jnp.arange(length, dtype=jnp.int32)[None] <= position[:, None])[:, None, None, :]
    cross_mask = cache.inputs.mask[:, None, None, :]

    def bias(table):
        grid = model.relative_bias(table, np.arange(length), length, config=config, bidirectional=False)
        return jnp.take(grid.swapaxes(0, 1), position, axis=0)[:, :, None, :]

    x, own = inputs[:, None], []
    shared = None if config.per_layer_bias else bias(layers["decoder"]["bias"])
    for parameters, old, cross in zip(layers["decoder"]["layers"], cache.own, cache.inputs.layers, strict=True):
        module = model.merge("decoder", parameters, config=config)
        y = module.attention_norm(x)
        pair = tuple(write(*parts, position) for parts in zip(old, module.attention.keys_values(y), strict=True))
        x = x + module.attention(y, *pair, visible, bias(parameters["bias"]) if config.per_layer_bias else shared)
        x = x + module.cross(module.cross_norm(x), *cross, cross_mask)
        x = x + module.feed_forward(module.feed_forward_norm(x))
        own.append(pair)
    return model.merge("norm", layers["decoder"]["norm"], config=config)(x)[:, 0], own
