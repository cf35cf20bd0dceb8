"""One update of the generator's label prompts and of the weight net (paper section 'DawGen generator tuning').

Each batch is processed in the order of the paper's Algorithm 1, with L_DawGen(Q; W) = sum W NLL + lambda L_dist(Q; W):
 1. score it under all label prompts Q; compute W = w(omega) from detached scores, see
    :mod:`dawgen_jax.generator.weight_net`;
 2. virtual step Q' = Q - a_meta grad L_DawGen(Q; W);
 3. omega <- Adam(meta-gradient of L_disc(Q')), see :mod:`dawgen_jax.generator.meta`;
 4. compute W with the new omega and hold it fixed; Q <- AdamW(clip(grad L_DawGen(Q; W))).

:mod:`dawgen_jax.generator.variants` has FewGen's settings. With uniform weights, steps 2 and 3 are omitted (L_gen).

``Departure:`` there is no dropout, so steps 1 and 4 share their scores at Q. Only the rows that a loss depends on are
differentiated: all rows for L_dist in reading B, otherwise the gold rows. A separate pass scores the other rows without
keeping activations.
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
from dawgen_jax.training.step import commit, transformed

__all__ = ["GeneratorState", "Scored", "disc_and_meta_gradient", "generator_step", "init_state", "score_batch"]


@flax.struct.dataclass
class GeneratorState:
    """State of generator tuning.

    Attributes:
      step: int32, number of updates done.
      label_prompts: Q, {'prompt': [L, P, H], 'infix': [L, I, H]}.
      weight_net: omega, the weight net's parameters.
      opt_state: state of the prompts' AdamW.
      weight_opt_state: state of the weight net's Adam.
      ok: bool; False after the first update that is not finite. The state no longer changes then: ``step`` is the
        number of the failed update, and the other fields are from before it.
    """

    step: jax.Array
    label_prompts: Any
    weight_net: Any
    opt_state: Any
    weight_opt_state: Any
    ok: jax.Array

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the best update that the host loop keeps: label prompts and weight net."""
        return {"label_prompts": self.label_prompts, "weight_net": self.weight_net}


def init_state(label_prompts: dict, key: jax.Array, *, config: GeneratorConfig, num_steps: int) -> GeneratorState:
    """The state before the first update.

    Args:
      label_prompts: {'prompt': [L, P, H], 'infix': [L, I, H]}.
      key: random key for the weight net's initialisation.
      config: learning rates and the weight net's input.
      num_steps: length of the linear decay.
    """
    label_prompts = jax.tree.map(jnp.asarray, label_prompts)
    prompt = label_prompts["prompt"]
    omega = weight_net.init(key, prompt.shape[-1], config.weight_input, prompt.dtype)
    tx, weight_tx = _optimiser(config, num_steps), weight_net.optimiser(config, num_steps)
    return GeneratorState(jnp.zeros((), jnp.int32), label_prompts, omega, tx.init(label_prompts), weight_tx.init(omega),
                          jnp.array(True))


def generator_step(state: GeneratorState, theta, batch: GeneratorBatch, *, config: GeneratorConfig, model: Model,
                   num_steps: int) -> tuple[GeneratorState, dict]:
    """One update on one batch; if it or an earlier update is not finite, only ``ok`` changes.

    Args:
      state: prompts, weight net, optimisers.
      theta: frozen parameters of the generator's backbone.
      batch: [B, ...]; padding examples have no supervised token.
      config: rates, forms and weights of the losses.
      model: the backbone.
      num_steps: length of the linear decay.

    Returns:
      (next state, metrics). Scalars: ``loss`` (L_DawGen with the new W), ``gen`` (sum W NLL), ``nll`` (token mean),
      ``disc`` (L_disc at Q), ``disc_virtual`` (at Q'; with uniform weights at Q), ``dist``, ``dist_active`` (share of
      active hinges), ``weight_entropy`` (of W; 1 if uniform), ``grad_norm``, ``meta_grad_norm``, ``prompt_norm``;
      ``token_weights`` W [B, U].
    """
    Q, omega, mask = state.label_prompts, state.weight_net, batch.target_mask
    tx, weight_tx = _optimiser(config, num_steps), weight_net.optimiser(config, num_steps)
    scored = score_batch(Q, theta, batch, config=config, model=model)

    disc = disc_virtual = losses.token_mean(scored.values, mask)
    weights = weight_net.uniform_weights(mask, config.weight_norm, scored.values.dtype)
    new_omega, weight_opt_state, meta_gradient = omega, state.weight_opt_state, jax.tree.map(jnp.zeros_like, omega)
    if config.weighting == "meta":
        disc_virtual, meta_gradient = disc_and_meta_gradient(
            Q, omega, scored, theta, batch, rate=config.meta_learning_rate, config=config, model=model)
        updates, weight_opt_state = transformed(weight_tx, meta_gradient, state.weight_opt_state, omega)
        new_omega = optax.apply_updates(omega, updates)
        weights = weight_net.token_weights(new_omega, scored.features, mask, config.weight_norm)

    (loss, parts), slopes = jax.value_and_grad(losses.objective, argnums=(0, 1), has_aux=True)(
        *scored.outputs, weights, batch.label, mask, config=config, dist_weight=config.dist_weight)
    (gradient,) = scored.transpose(slopes)
    updates, opt_state = transformed(tx, gradient, state.opt_state, Q)

    new = GeneratorState(state.step + 1, optax.apply_updates(Q, updates), new_omega, opt_state, weight_opt_state,
                         state.ok)
    finite = [jnp.isfinite(leaf).all() for leaf in
              jax.tree.leaves((loss, disc, disc_virtual, gradient, meta_gradient, new.label_prompts, new_omega))]
    new = commit(state, new, jnp.stack(finite).all())
    metrics = {
        "loss": loss, **parts, "nll": losses.token_mean(losses.nll(scored.outputs[0]), mask), "disc": disc,
        "disc_virtual": disc_virtual, "weight_entropy": weight_net.entropy(weights, mask),
        "grad_norm": optax.tree.norm(gradient), "meta_grad_norm": optax.tree.norm(meta_gradient),
        "prompt_norm": optax.tree.norm(new.label_prompts), "token_weights": weights,
    }
    return new, metrics


class Scored(NamedTuple):
    """A batch scored under all label prompts Q, with the derivatives of its scores.

    Attributes:
      outputs: (log p of each target token under its gold label's prompt [1, B, U], last decoder states under each
        prompt [L, B, U, H], gold first).
      values: [B, U], discriminative loss of each token.
      features: [B, U, D], inputs of the weight net.
      jvp: dQ -> derivatives of ``outputs``; linear.
      transpose: its transpose, cotangents of ``outputs`` -> (cotangent of Q,).
    """

    outputs: tuple[jax.Array, jax.Array]
    values: jax.Array
    features: jax.Array
    jvp: Callable
    transpose: Callable


def score_batch(Q, theta, batch: GeneratorBatch, *, config: GeneratorConfig, model: Model) -> Scored:
    """Step 1: one linearisation at Q gives the gradients of the virtual and the real step and the meta-gradient.

    Args:
      Q: label prompts, {'prompt': [L, P, H], 'infix': [L, I, H]}.
      theta: frozen parameters.
      batch: [B, ...].
      config: forms of the losses.
      model: the backbone.
    """
    labels = Q["prompt"].shape[0]
    reached = labels if config.dist_weight > 0 and config.dist_reading == "B" else 1

    def outputs(Q):
        hidden = scores.hidden_states(Q, theta, batch, range(reached), model=model)
        log_prob = scores.log_prob(theta, hidden[:1], batch.target, model=model)
        if reached < labels:
            rest = scores.hidden_states(jax.lax.stop_gradient(Q), theta, batch, range(reached, labels), model=model)
            hidden = jnp.concatenate([hidden, rest])
        return log_prob, hidden

    (log_prob, hidden), jvp = jax.linearize(outputs, Q)
    rest = scores.disc_scores(theta, hidden[1:], batch.target, form=config.disc, model=model)
    raw = config.disc == "ce_rawlogit"
    own = scores.gold_logit(theta, hidden[:1], batch.target, model=model) if raw else log_prob
    values = losses.disc(jnp.concatenate([own, rest]), config.disc)
    features = weight_net.features(values, hidden[0], config.weight_input)
    return Scored((log_prob, hidden), values, features, jvp, jax.linear_transpose(jvp, Q))


def disc_and_meta_gradient(Q, omega, scored: Scored, theta, batch: GeneratorBatch, *, rate: float | jax.Array,
                           config: GeneratorConfig, model: Model) -> tuple[jax.Array, Any]:
    """Steps 2 and 3: L_disc at Q', and its gradient with respect to omega through the virtual step.

    Args:
      Q: label prompts.
      omega: the weight net's parameters.
      scored: the batch at Q.
      theta: frozen parameters.
      batch: [B, ...].
      rate: a_meta, the rate of the virtual step.
      config: forms and weights of the losses.
      model: the backbone.

    Returns:
      (scalar, a tree like ``omega``).
    """
    mask, dist_weight = batch.target_mask, config.dist_weight if config.dist_in_virtual else 0.0

    def inner(omega, log_prob, hidden):
        weights = weight_net.token_weights(omega, scored.features, mask, config.weight_norm)
        return losses.objective(log_prob, hidden, weights, batch.label, mask, config=config, dist_weight=dist_weight)[0]

    (slope,) = scored.transpose(jax.grad(inner, argnums=(1, 2))(omega, *scored.outputs))
    virtual = meta.virtual_step(Q, slope, rate)
    disc_virtual, v = meta.disc_value_and_gradient(virtual, theta, batch, form=config.disc, model=model,
                                                   chunks=_chunks(config, batch, Q))
    return disc_virtual, meta.weight_gradient(omega, inner, scored.outputs, scored.jvp(v), rate=rate)


def _chunks(config: GeneratorConfig, batch: GeneratorBatch, label_prompts: dict) -> int:
    """The number of equal parts of the batch for v: the largest possible, at most the configured number.

    By default that is the number of labels, so that one part has as many rows as the gold pass.
    """
    asked, examples = config.disc_chunks or label_prompts["prompt"].shape[0], batch.label.shape[0]
    return next(chunks for chunks in range(min(asked, examples), 0, -1) if examples % chunks == 0)


def _optimiser(config: GeneratorConfig, num_steps: int) -> optax.GradientTransformation:
    """AdamW (no decay) on clipped gradients for the prompts; the rate falls linearly to 0."""
    rate = optax.linear_schedule(config.learning_rate, 0.0, num_steps)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(rate))
