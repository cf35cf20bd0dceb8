"""One update of the generator's label prompts and of the weight net (paper section 'DawGen generator tuning').

On one batch, in FewGen's order:
 1. score it under all label prompts Q; disc values, detached, give the token weights W = w(omega);
 2. virtual step Q' = Q - a_meta grad sum W NLL;
 3. omega <- Adam(meta-gradient of L_disc(Q')), see :mod:`dawgen_jax.generator.meta`;
 4. W again with the new omega; Q <- AdamW(clip(grad(sum W NLL + lambda L_dist))).

With lambda = 0 this is FewGen, and with uniform weights 2. and 3. fall away (L_gen).

Departures: no dropout, so that 1. and 4. share their scores at Q; L_dist stands in 4. only. Departure: scoring at Q
takes two passes, over the [B] gold rows and the [(L-1) B] wrong ones, instead of one over [L B]: only the gold rows
are differentiated for L_wGen and the slopes, and the wrong ones then keep no activations (but for L_dist (B)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from dawgen_jax.backbones.base import Model
from dawgen_jax.config import GeneratorConfig
from dawgen_jax.data.batches import GeneratorBatch
from dawgen_jax.generator import losses, meta, scores, weight_net
from dawgen_jax.training.step import commit

__all__ = ["GeneratorState", "generator_step", "init_state"]


@flax.struct.dataclass
class GeneratorState:
    """State of generator tuning.

    Attributes:
      step: int32, updates done.
      label_prompts: Q, {'prompt': [L, P, H], 'infix': [L, I, H]}.
      weight_net: omega, the weight net's parameters.
      opt_state: of the prompts' AdamW.
      weight_opt_state: of the weight net's Adam.
    """

    step: jax.Array
    label_prompts: Any
    weight_net: Any
    opt_state: Any
    weight_opt_state: Any
    ok: jax.Array


def init_state(label_prompts: dict, key: jax.Array, *, config: GeneratorConfig, num_steps: int) -> GeneratorState:
    """The state before the first update.

    Args:
      label_prompts: {'prompt': [L, P, H], 'infix': [L, I, H]}.
      key: of the weight net's start.
      config: learning rates.
      num_steps: length of the linear decay.
    """
    label_prompts = jax.tree.map(jnp.asarray, label_prompts)
    omega = weight_net.init(key, dtype=label_prompts["prompt"].dtype)
    tx, weight_tx = _optimisers(config, num_steps)
    return GeneratorState(jnp.zeros((), jnp.int32), label_prompts, omega, tx.init(label_prompts), weight_tx.init(omega),
                          jnp.array(True))


def generator_step(state: GeneratorState, theta, batch: GeneratorBatch, *, config: GeneratorConfig, model: Model,
                   num_steps: int) -> tuple[GeneratorState, dict]:
    """One update on one batch; the state comes back unchanged when anything is not finite.

    Args:
      state: prompts, weight net, optimisers.
      theta: frozen parameters of the generator's backbone.
      batch: [B, ...]; padding rows have no supervised token.
      config: rates, forms and weights of the losses.
      model: the backbone.
      num_steps: length of the linear decay.

    Returns:
      (next state, metrics). Scalars: ``loss`` (what is descended), ``gen`` (sum W NLL), ``nll`` (token mean),
      ``disc`` (L_disc at Q), ``disc_virtual`` (at Q'; uniform weights: at Q), ``dist``, ``dist_active`` (share of
      active hinges), ``grad_norm``, ``meta_grad_norm``, ``prompt_norm``, ``finite``; ``token_weights`` [B, U].
    """
    Q, omega, mask = state.label_prompts, state.weight_net, batch.target_mask
    tx, weight_tx = _optimisers(config, num_steps)
    scored = _score(Q, theta, batch, config=config, model=model)
    nll = losses.nll(scored.log_prob)

    disc = disc_virtual = losses.token_mean(scored.values, mask)
    weights = weight_net.uniform_weights(mask, config.weight_norm, nll.dtype)
    new_omega, weight_opt_state, meta_gradient = omega, state.weight_opt_state, jax.tree.map(jnp.zeros_like, omega)
    if config.weighting == "meta":
        weights = weight_net.token_weights(omega, scored.values, mask, config.weight_norm)
        disc_virtual, meta_gradient = _meta_gradient(Q, omega, weights, scored, theta, batch, config=config,
                                                     model=model)
        updates, weight_opt_state = weight_tx.update(meta_gradient, state.weight_opt_state, omega)
        new_omega = optax.apply_updates(omega, updates)
        weights = weight_net.token_weights(new_omega, scored.values, mask, config.weight_norm)

    gradient, dist, dist_active = _real_gradient(weights, scored, batch, config=config)
    gen = jnp.sum(weights * jnp.where(mask, nll, 0))
    loss = gen + config.dist_weight * dist
    updates, opt_state = tx.update(gradient, state.opt_state, Q)

    new = GeneratorState(state.step + 1, optax.apply_updates(Q, updates), new_omega, opt_state, weight_opt_state, state.ok)
    finite = [jnp.isfinite(leaf).all() for leaf in
              jax.tree.leaves((loss, disc, disc_virtual, gradient, meta_gradient, new.label_prompts, new_omega))]
    finite = jnp.stack(finite).all()
    new = commit(state, new, finite)
    metrics = {
        "loss": loss, "gen": gen, "nll": losses.token_mean(nll, mask), "disc": disc, "disc_virtual": disc_virtual,
        "dist": dist, "dist_active": dist_active, "grad_norm": optax.tree.norm(gradient),
        "meta_grad_norm": optax.tree.norm(meta_gradient), "prompt_norm": optax.tree.norm(new.label_prompts),
        "finite": finite, "token_weights": weights,
    }
    return new, metrics


class _Scored(NamedTuple):
    """A batch under all label prompts Q, and the maps that differentiate it; gold rows are rolled to the front.

    Attributes:
      log_prob: log p of each target token under its gold label's prompt, [1, B, U].
      values: disc values, [B, U].
      hidden: last decoder states under each prompt, [L, B, U, H], gold first.
      push: dQ -> (d log_prob, d hidden of the gold rows); linear.
      pull: its transpose.
      wrong_pull: cotangent of the other prompts' hidden states -> that of Q; None where L_dist does not reach them.
    """

    log_prob: jax.Array
    values: jax.Array
    hidden: jax.Array
    push: Callable
    pull: Callable
    wrong_pull: Callable | None


def _score(Q, theta, batch: GeneratorBatch, *, config: GeneratorConfig, model: Model) -> _Scored:
    """1. One linearisation of the gold rows serves two pull-backs and one push-forward."""
    def gold(Q):
        hidden = scores.hidden_states(Q, theta, batch, range(1), model=model)
        return scores.log_prob(theta, hidden, batch.target, model=model), hidden

    def wrong(Q):
        return scores.hidden_states(Q, theta, batch, range(1, Q["prompt"].shape[0]), model=model)

    pulls_wrong = config.dist_weight > 0 and config.dist_reading == "B"
    (log_prob, gold_hidden), push = jax.linearize(gold, Q)
    wrong_hidden, wrong_pull = jax.vjp(wrong, Q) if pulls_wrong else (wrong(Q), None)
    rest = scores.disc_scores(theta, wrong_hidden, batch.target, form=config.disc, model=model)
    raw = config.disc == "ce_rawlogit"
    own = scores.gold_logit(theta, gold_hidden, batch.target, model=model) if raw else log_prob
    return _Scored(log_prob, losses.disc(jnp.concatenate([own, rest]), config.disc),
                   jnp.concatenate([gold_hidden, wrong_hidden]), push, jax.linear_transpose(push, Q), wrong_pull)


def _meta_gradient(Q, omega, weights: jax.Array, scored: _Scored, theta, batch: GeneratorBatch, *,
                   config: GeneratorConfig, model: Model):
    """2. and 3. L_disc at Q', and its gradient with respect to omega through the virtual step."""
    (inner,) = scored.pull((-weights[None], jnp.zeros_like(scored.hidden[:1])))
    virtual = meta.virtual_step(Q, inner, config.meta_learning_rate)
    disc_virtual, v = meta.disc_value_and_gradient(virtual, theta, batch, form=config.disc, model=model,
                                                   chunks=_chunks(config, batch, Q))
    slopes = -scored.push(v)[0][0]
    return disc_virtual, meta.weight_gradient(omega, scored.values, batch.target_mask, slopes,
                                              norm=config.weight_norm, rate=config.meta_learning_rate)


def _real_gradient(weights: jax.Array, scored: _Scored, batch: GeneratorBatch, *, config: GeneratorConfig):
    """4. grad(sum W NLL + lambda L_dist), W held fixed; L_dist; its share of active hinges."""
    mask = batch.target_mask

    def dist_loss(hidden):
        pooled = losses.pool(hidden, weights, mask)
        hinges, active, paired = losses.dist(pooled, batch.label, mask.any(axis=1), reading=config.dist_reading,
                                             similarity=config.dist_similarity, margin=config.dist_margin)
        return losses.example_mean(hinges, paired), losses.example_mean(active, paired)

    (dist, dist_active), slope = jax.value_and_grad(dist_loss, has_aux=True)(scored.hidden)
    gold_slope = config.dist_weight * slope[:1] if config.dist_weight > 0 else jnp.zeros_like(slope[:1])
    (gradient,) = scored.pull((-weights[None], gold_slope))
    if scored.wrong_pull is not None:
        gradient = jax.tree.map(jnp.add, gradient, scored.wrong_pull(config.dist_weight * slope[1:])[0])
    return gradient, dist, dist_active


def _chunks(config: GeneratorConfig, batch: GeneratorBatch, label_prompts: dict) -> int:
    """Parts of the batch for v: the most that are equal and not more than asked for.

    By default as many as labels are asked for, so that one part has as many rows as the gold pass.
    """
    asked, examples = config.disc_chunks or label_prompts["prompt"].shape[0], batch.label.shape[0]
    return next(chunks for chunks in range(min(asked, examples), 0, -1) if examples % chunks == 0)


def _optimisers(config: GeneratorConfig, num_steps: int):
    """AdamW (no decay) on clipped gradients for the prompts; Adam with L2 decay for the weight net; rates fall to 0."""
    def rate(start):
        return optax.linear_schedule(start, 0.0, num_steps)

    prompts = optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(rate(config.learning_rate)))
    weights = optax.chain(optax.add_decayed_weights(config.weight_decay), optax.adam(rate(config.weight_learning_rate)))
    return prompts, weights
