"""Cached decoding on the device: slots, filling them with encoded work, and one loop that runs until enough are free.

A slot holds one sample: keys and values of its encoder output, computed once, and a preallocated cache of its own
tokens. All slots step together but each stands at its own position, so that a finished one is filled again while the
others go on. What a row computes depends on no other row.

``theta`` is here the unstacked form (:func:`dawgen_jax.backbones.t5.model.unstack`).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from dawgen_jax import prng
from dawgen_jax.backbones.base import EmbedFn, Rows
from dawgen_jax.backbones.sampling import Sampling, next_tokens
from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config

__all__ = ["Encoded", "Slots", "advance", "empty", "encode", "place", "score"]


class Encoded(NamedTuple):
    """What the decoder reads of R encoded rows: keys and values [R, heads, T', d_kv] a layer, and mask bool [R, T']."""

    cross: list[tuple[jax.Array, jax.Array]]
    mask: jax.Array


@struct.dataclass
class Slots:
    """The state of B slots.

    Attributes:
      active: bool [B] a sample is being decoded.
      finished: bool [B] the last sample ended with the end of sequence.
      healthy: bool [B] its scores were finite.
      position: int32 [B] tokens generated.
      tokens: int32 [B, U] these tokens.
      keys: random key [B] of the sample.
      sampling: settings [B].
      seen: bool [B, V] penalised tokens ([B, 0] without a penalty).
      cache: for each layer keys and values [B, heads, U, d_kv] of the slot's own tokens.
      encoded: of the slots' sources.
    """

    active: jax.Array
    finished: jax.Array
    healthy: jax.Array
    position: jax.Array
    tokens: jax.Array
    keys: jax.Array
    sampling: Sampling
    seen: jax.Array
    cache: list[tuple[jax.Array, jax.Array]]
    encoded: Encoded


def empty(source: int, *, config: T5Config, slots: int, new_tokens: int, penalty: bool) -> Slots:
    """``slots`` free slots for ``source`` encoder positions (soft rows included) and ``new_tokens`` tokens."""

    def pairs(length):
        shape = slots, config.num_heads, length, config.d_kv
        return [
            (jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype)) for _ in range(config.num_decoder_layers)
        ]

    zeros = jnp.zeros(slots, jnp.int32)
    return Slots(
        active=zeros > 0,
        finished=zeros > 0,
        healthy=zeros == 0,
        position=zeros,
        tokens=jnp.zeros((slots, new_tokens), jnp.int32),
        keys=jax.random.split(prng.key(0), slots),
        sampling=Sampling(*(jnp.full(slots, value, jnp.float32 if isinstance(value, float) else jnp.int32)
                            for value in Sampling())),
        seen=jnp.zeros((slots, config.vocab_size if penalty else 0), bool),
        cache=pairs(new_tokens),
        encoded=Encoded(pairs(source), jnp.zeros((slots, source), bool)),
    )


def encode(theta, prompts, rows: Rows, *, config: T5Config, embed_fn: EmbedFn) -> Encoded:
    """Run the encoder once and project its output to every decoder layer's cross-attention keys and values."""
    embeddings, mask = embed_fn(theta, prompts, rows)
    encoded = model.encode(theta, embeddings, mask, config=config)
    layers = (model.merge("decoder", parameters, config=config) for parameters in theta["decoder"]["layers"])
    return Encoded([layer.cross.keys_values(encoded) for layer in layers], mask)


def place(
    state: Slots, encoded: Encoded, where: jax.Array, keys: jax.Array, sampling: Sampling, penalised: jax.Array
) -> Slots:
    """Start encoded rows in slots.

    Args:
      state: the slots.
      encoded: R rows of any width up to the slots'.
      where: int32 [R] slot of each row; B or more leaves the row out.
      keys: random key [R] of each sample.
      sampling: settings [R].
      penalised: int32 [R, N] tokens that are penalised from the start; V or more is none.
    """

    def put(old, new):
        widths = [(0, 0)] * new.ndim
        if new.ndim > 1:
            axis = new.ndim - 2 if new.ndim == 4 else 1
            widths[axis] = (0, old.shape[axis] - new.shape[axis])
        return old.at[where].set(jnp.pad(new, widths).astype(old.dtype), mode="drop")

    yes = jnp.ones(where.shape, bool)
    seen = state.seen
    if seen.shape[1]:
        fresh = jnp.zeros((len(where), seen.shape[1]), bool)
        seen = put(seen, fresh.at[jnp.arange(len(where))[:, None], penalised].set(True, mode="drop"))
    return state.replace(
        active=put(state.active, yes),
        finished=put(state.finished, ~yes),
        healthy=put(state.healthy, yes),
        position=put(state.position, jnp.zeros_like(where)),
        keys=state.keys.at[where].set(keys, mode="drop"),
        sampling=jax.tree.map(put, state.sampling, sampling),
        seen=seen,
        encoded=jax.tree.map(put, state.encoded, encoded),
    )


def _hidden(theta, state: Slots, tokens: jax.Array, *, config: T5Config) -> tuple[jax.Array, list]:
    """Hidden states [B, H] at the slots' positions for decoder inputs ``tokens`` [B], and the new cache."""
    length = state.tokens.shape[1]
    x = model.embed(theta, tokens[:, None], config=config)
    here = jnp.minimum(state.position, length - 1)
    visible = (jnp.arange(length, dtype=jnp.int32)[None] <= here[:, None])[:, None, None, :]
    cross_mask = state.encoded.mask[:, None, None, :]

    def bias(table):
        grid = model.relative_bias(table, np.arange(length), length, config=config, bidirectional=False)
        return jnp.take(grid.swapaxes(0, 1), here, axis=0)[:, :, None, :]

    write = jax.vmap(functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=1))
    shared = None if config.per_layer_bias else bias(theta["decoder"]["bias"])
    caches = []
    for parameters, cache, cross in zip(theta["decoder"]["layers"], state.cache, state.encoded.cross, strict=True):
        layer = model.merge("decoder", parameters, config=config)
        y = layer.attention_norm(x)
        new = layer.attention.keys_values(y)
        cache = write(cache[0], new[0], here), write(cache[1], new[1], here)
        x = x + layer.attention(y, *cache, visible, bias(parameters["bias"]) if config.per_layer_bias else shared)
        x = x + layer.cross(layer.cross_norm(x), *cross, cross_mask)
        x = x + layer.feed_forward(layer.feed_forward_norm(x))
        caches.append(cache)
    return model.merge("norm", theta["decoder"]["norm"], config=config)(x)[:, 0], caches


def _step(theta, state: Slots, *, banned: jax.Array, exempt: jax.Array, draw: bool, config: T5Config) -> Slots:
    """One token for every active slot."""
    rows, length = state.tokens.shape
    last = jnp.take_along_axis(state.tokens, jnp.maximum(state.position - 1, 0)[:, None], axis=1)[:, 0]
    inputs = jnp.where(state.position == 0, config.decoder_start_id, last)
    hidden, cache = _hidden(theta, state, inputs, config=config)
    tokens, healthy = next_tokens(
        model.logits(theta, hidden, config=config),
        state.sampling,
        keys=jax.vmap(jax.random.fold_in)(state.keys, state.position),
        position=state.position,
        banned=banned,
        eos_id=config.eos_id,
        seen=state.seen if state.seen.shape[1] else None,
        draw=draw,
    )
    here = (jnp.arange(length, dtype=jnp.int32)[None] == state.position[:, None]) & state.active[:, None]
    seen = state.seen
    if seen.shape[1]:
        repeated = jnp.where(state.active & ~exempt[tokens], tokens, config.vocab_size)
        seen = seen.at[jnp.arange(rows), repeated].set(True, mode="drop")
    finished = state.active & (tokens == config.eos_id)
    position = state.position + state.active.astype(jnp.int32)
    return state.replace(
        active=state.active & ~finished & (position < state.sampling.max_new_tokens),
        finished=state.finished | finished,
        healthy=state.healthy & (healthy | ~state.active),
        position=position,
        tokens=jnp.where(here, tokens[:, None], state.tokens),
        seen=seen,
        cache=cache,
    )


def advance(
    state: Slots, theta, free: jax.Array, *, banned: np.ndarray, exempt: np.ndarray, draw: bool, config: T5Config
) -> Slots:
    """Step until at least ``free`` slots are free.

    Args:
      state: the slots.
      theta: parameters.
      free: int32; B runs all rows to their ends.
      banned: bool [V] never chosen.
      exempt: bool [V] never penalised.
      draw: False where every row is greedy.
      config: the model.
    """
    banned, exempt = jnp.asarray(banned), jnp.asarray(exempt)
    return jax.lax.while_loop(
        lambda state: jnp.sum(~state.active, dtype=jnp.int32) < free,
        lambda state: _step(theta, state, banned=banned, exempt=exempt, draw=draw, config=config),
        state,
    )


def score(
    theta, prompts, rows: Rows, targets: jax.Array, target_mask: jax.Array, *, config: T5Config, embed_fn: EmbedFn
) -> jax.Array:
    """Log-probabilities of each target token under the rows' prompts, teacher forced: log Pr(x_t | x_<t, s; Q_label).

    Args:
      theta: parameters.
      prompts: handed to ``embed_fn``.
      rows: R encoder inputs; a sample is scored under another label by another ``label``.
      targets: int32 [R, U] tokens, the end of sequence included where there is one.
      target_mask: bool [R, U].
      config: the model.
      embed_fn: see :data:`EmbedFn`.

    Returns:
      float32 [R, U], 0 where the mask is False.
    """
    embeddings, mask = embed_fn(theta, prompts, rows)
    encoded = model.encode(theta, embeddings, mask, config=config)
    inputs = jnp.concatenate([jnp.full_like(targets[:, :1], config.decoder_start_id), targets[:, :-1]], axis=1)
    hidden = model.decode(theta, inputs, encoded, mask, config=config)

    def position(pair):
        hidden, target = pair
        scores = model.logits(theta, hidden, config=config)
        gold = jnp.take_along_axis(scores, target[:, None], axis=1)[:, 0]
        return gold - jax.nn.logsumexp(scores, axis=-1)

    # One position at a time: [R, V] scores instead of [R, U, V].
    values = jax.lax.map(position, (hidden.swapaxes(0, 1), targets.swapaxes(0, 1))).swapaxes(0, 1)
    return jnp.where(target_mask, values, 0)
