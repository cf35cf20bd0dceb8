"""Cached decoding on the device: slots, filling them with work, and one loop that runs until enough are free.

A slot holds one sample: its encoder's keys and values, computed once when it is filled, and a preallocated cache of
its own. All slots step together but each stands at its own position, so that a finished one is filled again while the
others go on. What a row computes does not depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from dawgen_jax.t5 import model
from dawgen_jax.t5.config import T5Config
from dawgen_jax.t5.modules import wide
from dawgen_jax.t5.sampling import Sampling, next_tokens

__all__ = ["Rows", "Slots", "advance", "empty", "fill", "prepare", "score"]


class Rows(NamedTuple):
    """A rectangle of encoder inputs.

    Attributes:
      source: int32 [R, T] token ids, padded with 0.
      mask: bool [R, T] True at real positions.
      slots: int32 [R, T] index of the soft row that stands there, -1 for the token itself.
      label: int32 [R].
    """

    source: jax.Array
    mask: jax.Array
    slots: jax.Array
    label: jax.Array


EmbedFn = Callable[[Any, Any, Rows], tuple[jax.Array, jax.Array]]
"""(theta, prompts, rows) -> (embeddings [R, T', H], mask bool [R, T']): puts soft prompts into the encoder's input."""


@struct.dataclass
class Slots:
    """The state of B slots.

    Attributes:
      active: bool [B] a sample is being decoded.
      finished: bool [B] the last sample ended with the end of sequence.
      healthy: bool [B] its logits were finite.
      position: int32 [B] tokens generated.
      tokens: int32 [B, U] these tokens.
      keys: random key [B] of the sample.
      sampling: settings [B].
      seen: bool [B, V] penalised tokens ([B, 0] where the decoder has no penalty).
      cache: for each layer keys and values [B, heads, U, d_kv] of the slot's own tokens.
      cross: for each layer keys and values [B, heads, T', d_kv] of its encoder output.
      cross_mask: bool [B, T'].
    """

    active: jax.Array
    finished: jax.Array
    healthy: jax.Array
    position: jax.Array
    tokens: jax.Array
    keys: jax.Array
    sampling: Sampling
    seen: jax.Array
    cache: list
    cross: list
    cross_mask: jax.Array


def prepare(theta, *, config: T5Config):
    """The decoder's parameters as the loop reads them: one tree a layer, in the compute dtype."""
    decoder = jax.tree.map(lambda leaf: leaf.astype(config.dtype), theta["decoder"])
    layers = [jax.tree.map(lambda leaf, i=i: leaf[i], decoder["layers"]) for i in range(config.num_decoder_layers)]
    shared = {name: leaf for name, leaf in theta.items() if name in ("embedding", "head")}
    return {**shared, "layers": layers, "norm": decoder["norm"], "bias": theta["decoder"].get("bias")}


def empty(source: int, *, config: T5Config, slots: int, new_tokens: int, penalty: bool) -> Slots:
    """``slots`` free slots for ``source`` encoder positions (soft rows included) and ``new_tokens`` tokens."""

    def pairs(length):
        shape = slots, config.num_heads, length, config.d_kv
        return [
            (jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype)) for _ in range(config.num_decoder_layers)
        ]

    zeros = jnp.zeros(slots, jnp.int32)
    sampling = Sampling(*(jnp.full(slots, value) for value in Sampling(top_p=1.0)))
    return Slots(
        active=zeros > 0,
        finished=zeros > 0,
        healthy=zeros == 0,
        position=zeros,
        tokens=jnp.zeros((slots, new_tokens), jnp.int32),
        keys=jax.random.split(jax.random.key(0), slots),
        sampling=sampling,
        seen=jnp.zeros((slots, config.vocab_size if penalty else 0), bool),
        cache=pairs(new_tokens),
        cross=pairs(source),
        cross_mask=jnp.zeros((slots, source), bool),
    )


def fill(
    state: Slots,
    theta,
    prepared,
    prompts,
    rows: Rows,
    where: jax.Array,
    keys: jax.Array,
    sampling: Sampling,
    penalised: jax.Array,
    *,
    config: T5Config,
    embed_fn: EmbedFn,
) -> Slots:
    """Encode ``rows`` and start them in the slots ``where``.

    Args:
      state: the slots.
      theta: parameters.
      prepared: from :func:`prepare`.
      prompts: handed to ``embed_fn``.
      rows: R encoder inputs of any width up to the slots'.
      where: int32 [R] slot of each row; B or more drops it (rows that only fill the rectangle).
      keys: random key [R] of each sample.
      sampling: settings [R].
      penalised: int32 [R, N] penalised tokens from the start; V or more is none.
      config: the model.
      embed_fn: see :data:`EmbedFn`.
    """
    embeddings, mask = embed_fn(theta, prompts, rows)
    encoded = model.encode(theta, embeddings, mask, config=config)

    def put(old, new):
        return old.at[where].set(new.astype(old.dtype), mode="drop")

    def padded(old, new, axis):
        widths = [(0, 0)] * new.ndim
        widths[axis] = (0, old.shape[axis] - new.shape[axis])
        return put(old, jnp.pad(new, widths))

    cross = []
    for parameters, old in zip(prepared["layers"], state.cross, strict=True):
        pair = model.merge("decoder", parameters, config=config).cross.keys_values(encoded)
        cross.append(tuple(padded(cache, new, 2) for cache, new in zip(old, pair, strict=True)))
    seen = state.seen
    if seen.shape[1]:
        count = where.shape[0]
        fresh = jnp.zeros((count, seen.shape[1]), bool)
        seen = put(seen, fresh.at[jnp.arange(count)[:, None], penalised].set(True, mode="drop"))
    flags = jnp.ones_like(where, bool)
    return state.replace(
        active=put(state.active, flags),
        finished=put(state.finished, ~flags),
        healthy=put(state.healthy, flags),
        position=put(state.position, jnp.zeros_like(where)),
        keys=state.keys.at[where].set(keys, mode="drop"),
        sampling=jax.tree.map(put, state.sampling, sampling),
        seen=seen,
        cross=cross,
        cross_mask=padded(state.cross_mask, mask, 1),
    )


def _hidden(prepared, state: Slots, tokens: jax.Array, *, config: T5Config) -> tuple[jax.Array, list]:
    """The decoder's hidden states [B, H] at the slots' positions for inputs ``tokens`` [B], and the new cache."""
    length = state.tokens.shape[1]
    x = model.embed(prepared, tokens[:, None], config=config)
    place = jnp.minimum(state.position, length - 1)
    visible = (jnp.arange(length)[None] <= place[:, None])[:, None, None, :]
    cross_mask = state.cross_mask[:, None, None, :]

    def bias(table):
        grid = model.relative_bias(table, np.arange(length), length, config=config, bidirectional=False)
        return jnp.take(grid.swapaxes(0, 1), place, axis=0)[:, :, None, :]

    write = jax.vmap(lambda cache, new, place: jax.lax.dynamic_update_slice(cache, new, (0, place, 0)))
    shared = None if config.per_layer_bias else bias(prepared["bias"])
    caches = []
    for parameters, cache, cross in zip(prepared["layers"], state.cache, state.cross, strict=True):
        layer = model.merge("decoder", parameters, config=config)
        y = layer.attention_norm(x)
        cache = tuple(write(old, new, place) for old, new in zip(cache, layer.attention.keys_values(y), strict=True))
        own = bias(parameters["bias"]) if config.per_layer_bias else shared
        x = x + layer.attention(y, *cache, visible, own)
        x = x + layer.cross(layer.cross_norm(x), *cross, cross_mask)
        x = x + layer.feed_forward(layer.feed_forward_norm(x))
        caches.append(cache)
    return model.merge("norm", prepared["norm"], config=config)(x)[:, 0], caches


def _step(prepared, state: Slots, banned: jax.Array, exempt: jax.Array, *, config: T5Config) -> Slots:
    """One token for every slot."""
    rows, length = state.tokens.shape
    before = jnp.take_along_axis(state.tokens, jnp.maximum(state.position - 1, 0)[:, None], axis=1)[:, 0]
    inputs = jnp.where(state.position == 0, config.decoder_start_id, before)
    hidden, cache = _hidden(prepared, state, inputs, config=config)
    logits = model.logits(prepared, hidden, config=config)
    tokens, healthy = next_tokens(
        logits,
        state.sampling,
        keys=jax.vmap(jax.random.fold_in)(state.keys, state.position),
        position=state.position,
        banned=banned,
        eos_id=config.eos_id,
        seen=state.seen if state.seen.shape[1] else None,
    )
    tokens = jnp.where(state.active, tokens, config.pad_id)
    here = (jnp.arange(length)[None] == state.position[:, None]) & state.active[:, None]
    seen = state.seen
    if seen.shape[1]:
        repeated = jnp.where(state.active & ~exempt[tokens], tokens, config.vocab_size)
        seen = seen.at[jnp.arange(rows), repeated].set(True, mode="drop")
    finished = state.active & (tokens == config.eos_id)
    position = state.position + state.active
    ended = finished | (position >= state.sampling.max_new_tokens)
    return state.replace(
        active=state.active & ~ended,
        finished=state.finished | finished,
        healthy=state.healthy & (healthy | ~state.active),
        position=position,
        tokens=jnp.where(here, tokens[:, None], state.tokens),
        seen=seen,
        cache=cache,
    )


def advance(
    state: Slots, prepared, free: jax.Array, *, banned: np.ndarray, exempt: np.ndarray, config: T5Config
) -> Slots:
    """Step until at least ``free`` slots are free.

    Args:
      state: the slots.
      prepared: from :func:`prepare`.
      free: int32; B runs all rows to their ends.
      banned: bool [V] never chosen.
      exempt: bool [V] never penalised.
      config: the model.
    """
    banned, exempt = jnp.asarray(banned), jnp.asarray(exempt)
    return jax.lax.while_loop(
        lambda state: jnp.sum(~state.active) < free,
        lambda state: _step(prepared, state, banned, exempt, config=config),
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
        scores = model.logits(theta, hidden, config=config).astype(wide(config.dtype))
        gold = jnp.take_along_axis(scores, target[:, None], axis=1)[:, 0]
        return gold - jax.nn.logsumexp(scores, axis=-1)

    values = jax.lax.map(position, (hidden.swapaxes(0, 1), targets.swapaxes(0, 1))).swapaxes(0, 1)
    return jnp.where(target_mask, values, 0)
