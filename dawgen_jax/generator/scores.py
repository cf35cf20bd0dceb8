"""Scores of sentence 2 under label prompts: log-probabilities, raw logits and states of gold tokens.

The model reads [Q_l ; sentence 1 ; infix_l] and is teacher forced on sentence 2 and its end of sequence. To avoid
[rows, U, V] logits, log Pr = gold logit - log sum exp, where the second term is computed for a few tokens at a time,
together with its gradient (one vector [H] per token) if a derivative is needed.

Departure: the prompt is at the model's input, whereas FewGen has keys and values at every layer.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from dawgen_jax import prompts
from dawgen_jax.backbones.base import Model
from dawgen_jax.data.batches import GeneratorBatch

__all__ = ["disc_scores", "gold_logit", "gold_nll", "hidden_states", "log_normalizer", "log_prob"]

LOGITS_AT_ONCE = 2**23
"""Number of logits in memory at a time (32 MiB in float32), which costs one small loop."""


def hidden_states(label_prompts: dict, theta, batch: GeneratorBatch, shifts: range, *, model: Model) -> jax.Array:
    """States Z of each example under some of the label prompts.

    Args:
      label_prompts: Q, {'prompt': [L, P, H], 'infix': [L, I, H]}.
      theta: frozen parameters.
      batch: [B, ...].
      shifts: which prompts, in gold-first order: shift k is the prompt of label (y_b + k) mod L.
      model: the backbone.

    Returns:
      [len(shifts), B, U, H] after the final norm, before any head scaling.
    """
    number = len(shifts)
    # Rows b * number + k keep each example on one device if the batch is sharded.
    labels = (batch.label[:, None] + jnp.array(shifts, batch.label.dtype)[None, :]) % label_prompts["prompt"].shape[0]
    batch = jax.tree.map(lambda leaf: jnp.repeat(leaf, number, axis=0), batch)
    prompt, infix = (label_prompts[name][labels.reshape(-1)] for name in ("prompt", "infix"))
    embeddings, mask = prompts.insert(theta, batch.source, batch.source_mask, prompt, model=model, head=model.head,
                                      infix=infix, slots=batch.slots)
    hidden = model.target_states(theta, embeddings, mask, batch.target)
    return jnp.moveaxis(hidden.reshape(-1, number, *hidden.shape[1:]), 1, 0)


def gold_nll(label_prompts: dict, theta, batch: GeneratorBatch, *, model: Model) -> jax.Array:
    """-log Pr(x_j | x_<j, sentence 1; Q_y) of every token under the prompt of its example's label.

    Returns:
      [B, U]; 0 at unsupervised tokens.
    """
    hidden = hidden_states(label_prompts, theta, batch, range(1), model=model)
    return jnp.where(batch.target_mask, -log_prob(theta, hidden, batch.target, model=model)[0], 0)


def disc_scores(theta, hidden: jax.Array, target: jax.Array, *, form: str, model: Model) -> jax.Array:
    """Scores that L_disc compares across prompts: raw logits for 'ce_rawlogit', otherwise log-probabilities."""
    return (gold_logit if form == "ce_rawlogit" else log_prob)(theta, hidden, target, model=model)


def log_prob(theta, hidden: jax.Array, target: jax.Array, *, model: Model) -> jax.Array:
    """log Pr(x_j | x_<j, sentence 1; Q) of gold tokens.

    Args:
      theta: frozen parameters.
      hidden: [k, B, U, H] from :func:`hidden_states`.
      target: int [B, U] gold tokens.
      model: the backbone.

    Returns:
      [k, B, U] in float32 (or wider).
    """
    return gold_logit(theta, hidden, target, model=model) - log_normalizer(theta, hidden, model=model)


def gold_logit(theta, hidden: jax.Array, target: jax.Array, *, model: Model) -> jax.Array:
    """Unnormalised logit of gold tokens; see :func:`log_prob` for arguments and result."""
    number, *shape = hidden.shape[:-1]
    ids = jnp.broadcast_to(target[None], (number, *shape)).reshape(-1, 1)
    return jax.vmap(lambda row, token: model.logits(theta, row, token)[0])(
        hidden.reshape(-1, hidden.shape[-1]), ids).reshape(number, *shape)


def log_normalizer(theta, hidden: jax.Array, *, model: Model) -> jax.Array:
    """log sum over the vocabulary of exp(logit).

    Args:
      theta: frozen parameters, without gradient.
      hidden: [k, B, U, H].
      model: the backbone.

    Returns:
      [k, B, U].
    """
    number, rows, tokens, width = hidden.shape
    # Tokens come first, so that chunks never split the rows, which may be sharded.
    first = jnp.moveaxis(hidden, 2, 0).reshape(tokens, number * rows, width)
    result = _log_normalizer(model, first, jax.lax.stop_gradient(theta))
    return jnp.moveaxis(result.reshape(tokens, number, rows), 0, 2)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_normalizer(model: Model, hidden: jax.Array, theta) -> jax.Array:
    return _chunked(lambda part: jax.nn.logsumexp(model.logits(theta, part), axis=-1), hidden, model)


@_log_normalizer.defjvp
def _log_normalizer_jvp(model: Model, primals, tangents):
    hidden, theta = primals

    def both(part):
        logits, pull = jax.vjp(lambda states: model.logits(theta, states), part)
        normalizer = jax.nn.logsumexp(logits, axis=-1)
        return normalizer, pull(jnp.exp(logits - normalizer[..., None]))[0]

    value, gradient = _chunked(both, hidden, model)
    return value, jnp.sum(gradient.astype(value.dtype) * tangents[0].astype(value.dtype), axis=-1)


def _chunked(function, hidden: jax.Array, model: Model):
    """Apply ``function`` over [U, rows, H] with at most LOGITS_AT_ONCE logits at a time."""
    tokens = max(LOGITS_AT_ONCE // (hidden.shape[1] * model.vocab_size), 1)
    if tokens >= hidden.shape[0]:
        return function(hidden)

    def one(part):  # with [rows, H], XLA would choose a head layout that suits only a few rows
        return jax.tree.map(lambda value: value[0], function(part[None]))

    return jax.lax.map(one, hidden, batch_size=tokens)
