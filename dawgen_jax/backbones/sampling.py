"""Sampling of the next token: repetition penalty, bans, minimum length, temperature, top-k, top-p.

Every setting is an array over rows, so that rows of different tasks and labels share a batch. Thresholds of top-k and
top-p are found by bisection over the bits of a float32 instead of sorting 32,128 scores: the result is exact, the code
is the same on every platform, and on CPU it is several times faster than a sort. Ties at the threshold are all kept.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Sampling", "greedy", "next_tokens", "penalise", "truncate"]


class Sampling(NamedTuple):
    """Decoding settings of one sample, or arrays [B] of settings.

    Attributes:
      temperature: 0 is greedy; otherwise 1e-4 or more.
      top_k: sample among the k best tokens; 0 disables.
      top_p: sample among the fewest tokens whose probabilities reach p, in (0, 1]; 1 disables. Applied after top-k.
      repetition_penalty: CTRL's, over the row's penalised tokens; 1 disables.
      min_new_tokens: the end of sequence is not allowed before this many tokens.
      max_new_tokens: the row ends after this many tokens, including the end of sequence.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    max_new_tokens: int = 50


def greedy(scores: jax.Array) -> jax.Array:
    """The first index of the maximum over the last axis of [B, V].

    Two plain reductions, which vectorise; ``argmax`` reduces over pairs, which XLA does not vectorise on CPU.
    """
    best = jnp.max(scores, axis=-1, keepdims=True)
    index = jax.lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1)
    return jnp.minimum(jnp.min(jnp.where(scores == best, index, scores.shape[-1]), axis=-1), scores.shape[-1] - 1)


def penalise(logits: jax.Array, seen: jax.Array, penalty: jax.Array) -> jax.Array:
    """CTRL's repetition penalty: l / p where l > 0 and l * p elsewhere, for the tokens in ``seen``.

    Args:
      logits: l [B, V].
      seen: bool [B, V].
      penalty: p [B]; 1 leaves the row unchanged.

    References:
      Keskar et al., CTRL: A Conditional Transformer Language Model for Controllable Generation,
      https://arxiv.org/abs/1909.05858, 2019.
    """
    factor = jnp.where(logits > 0, 1 / penalty[:, None], penalty[:, None])
    return jnp.where(seen, logits * factor, logits)


def _ordered(scores: jax.Array) -> jax.Array:
    """uint32 keys in the order of float32 scores; -inf is the lowest."""
    bits = jax.lax.bitcast_convert_type(scores.astype(jnp.float32), jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(1 << 31))


def _threshold(ordered: jax.Array, enough) -> jax.Array:
    """The largest t [B] for which the entries of ``ordered`` [B, V] that are at least t satisfy ``enough``."""

    def bit(i, low):
        trial = low | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
        return jnp.where(enough(ordered >= trial[:, None]), trial, low)

    return jax.lax.fori_loop(0, 32, bit, jnp.zeros(ordered.shape[0], jnp.uint32))


def truncate(scores: jax.Array, top_k: jax.Array, top_p: jax.Array) -> jax.Array:
    """``scores`` [B, V] with -inf outside of top-k and then outside of top-p (the nucleus).

    Args:
      scores: log-probabilities up to a constant per row, already divided by the temperature.
      top_k: int [B]; 0 disables.
      top_p: [B] in (0, 1]; 1 disables.

    References:
      Holtzman et al., The Curious Case of Neural Text Degeneration, https://arxiv.org/abs/1904.09751, 2020.
    """

    def best_k(scores):
        ordered = _ordered(scores)
        wanted = jnp.where(top_k > 0, top_k, scores.shape[-1])
        low = _threshold(ordered, lambda kept: jnp.sum(kept, axis=-1, dtype=jnp.int32) >= wanted)
        return jnp.where(ordered >= low[:, None], scores, -jnp.inf)

    def nucleus(scores):
        ordered, weights = _ordered(scores), jax.nn.softmax(scores, axis=-1)
        low = _threshold(ordered, lambda kept: jnp.sum(jnp.where(kept, weights, 0), axis=-1) >= top_p)
        kept = (ordered >= low[:, None]) | (top_p[:, None] >= 1)
        return jnp.where(kept, scores, -jnp.inf)

    scores = jax.lax.cond(jnp.any(top_k > 0), best_k, lambda scores: scores, scores)
    return jax.lax.cond(jnp.any(top_p < 1), nucleus, lambda scores: scores, scores)


def _sample(scores: jax.Array, sampling: Sampling, keys: jax.Array) -> jax.Array:
    """Sample by Gumbel-max with one key per row; rows with temperature 0 are greedy."""
    drawn = sampling.temperature > 0
    scaled = scores / jnp.where(drawn, sampling.temperature, 1)[:, None]
    kept = truncate(scaled, jnp.where(drawn, sampling.top_k, 0), jnp.where(drawn, sampling.top_p, 1))
    noise = jax.vmap(lambda key: jax.random.gumbel(key, scores.shape[-1:], scores.dtype))(keys)
    return greedy(jnp.where(drawn[:, None], kept + noise, scores))


def next_tokens(
    logits: jax.Array,
    sampling: Sampling,
    *,
    keys: jax.Array,
    position: jax.Array,
    banned: jax.Array,
    eos_id: int,
    seen: jax.Array | None = None,
    draw: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Choose one token per row.

    The order is: repetition penalty on raw logits, banned tokens and minimum length, temperature, top-k, top-p.

    Args:
      logits: [B, V] float32.
      sampling: settings [B].
      keys: one key per row and position; used if the temperature is not 0.
      position: int [B], number of tokens generated so far.
      banned: bool [V], tokens that are never chosen; at least one other token than the end must remain.
      eos_id: end of sequence.
      seen: bool [B, V] penalised tokens, or None if no row has a penalty.
      draw: False compiles greedy decoding only; every row must be greedy.

    Returns:
      (tokens int32 [B], healthy bool [B]: False if the logits hold NaN or no finite score).
    """
    scores = logits if seen is None else penalise(logits, seen, sampling.repetition_penalty)
    ends = jnp.arange(logits.shape[-1], dtype=jnp.int32) == eos_id
    early = (position < sampling.min_new_tokens)[:, None] & ends[None]
    scores = jnp.where(banned[None] | early, -jnp.inf, scores)
    if draw:
        drawn = jnp.any(sampling.temperature > 0)
        tokens = jax.lax.cond(drawn, lambda: _sample(scores, sampling, keys), lambda: greedy(scores))
    else:
        tokens = greedy(scores)
    return tokens, jnp.isfinite(jnp.max(scores, axis=-1))
