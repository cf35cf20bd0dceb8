"""The virtual step and the exact meta-gradient of the weight net by one reverse and one forward pass.

With Q' = Q - a g, g = grad_Q sum_k w_k(omega) NLL_k(Q), and w a function of omega alone,

    d L_disc(Q') / d omega = -a sum_k (d w_k / d omega) s_k,    s_k = <grad NLL_k(Q), v>,    v = grad L_disc(Q').

v is one reverse pass at Q' (over all label rows), all s_k are one Jacobian-vector product at Q along v (over gold rows
only), and what is left is the gradient of -a sum_k w_k(omega) s_k in omega. Nothing is differentiated twice.

References:
  Meng et al.: Tuning Language Models as Training Data Generators, https://arxiv.org/abs/2211.03044, 2023.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dawgen_jax.backbones.base import Model
from dawgen_jax.data.batches import GeneratorBatch
from dawgen_jax.generator import losses, scores, weight_net

__all__ = ["disc_value_and_gradient", "virtual_step", "weight_gradient"]


def virtual_step(label_prompts: dict, gradient: dict, rate: float) -> dict:
    """Q' = Q - a_meta * gradient: plain SGD, the only inner step for which the identity holds as written."""
    return jax.tree.map(lambda prompt, slope: prompt - rate * slope, label_prompts, gradient)


def disc_value_and_gradient(label_prompts: dict, theta, batch: GeneratorBatch, *, form: str, chunks: int,
                            model: Model) -> tuple[jax.Array, dict]:
    """L_disc, the mean over tokens, and v = its gradient in the label prompts.

    L_disc is a sum over examples, so ``chunks`` parts of the batch are taken one after the other.

    Args:
      label_prompts: Q', {'prompt': [L, P, H], 'infix': [L, I, H]}.
      theta: frozen parameters.
      batch: [B, ...]; B a multiple of ``chunks``.
      form: of L_disc, see :func:`losses.disc`.
      chunks: number of parts.
      model: the backbone.

    Returns:
      (scalar, v like ``label_prompts``).
    """
    shifts = range(label_prompts["prompt"].shape[0])
    number = jnp.maximum(jnp.sum(batch.target_mask), 1)

    @jax.value_and_grad
    def part_loss(label_prompts, part):
        hidden = scores.hidden_states(label_prompts, theta, part, shifts, model=model)
        values = losses.disc(scores.disc_scores(theta, hidden, part.target, form=form, model=model), form)
        return jnp.sum(jnp.where(part.target_mask, values, 0)) / number

    if chunks == 1:
        return part_loss(label_prompts, batch)
    # Strided, so that each part has examples of every device's share of a sharded batch.
    parts = jax.tree.map(
        lambda leaf: jnp.swapaxes(leaf.reshape(leaf.shape[0] // chunks, chunks, *leaf.shape[1:]), 0, 1), batch)
    each = jax.lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, part_loss(label_prompts, part)), None),
                        jax.tree.map(jnp.zeros_like, (jnp.sum(label_prompts["prompt"]), label_prompts)), parts)
    return each[0]


def weight_gradient(omega: dict, values: jax.Array, mask: jax.Array, slopes: jax.Array, *, norm: str,
                    rate: float) -> dict:
    """Gradient of -a_meta sum_k w_k(omega) s_k in omega.

    Args:
      omega: the weight net's parameters.
      values: [B, U] disc values at Q, the weight net's input.
      mask: bool [B, U] supervised tokens.
      slopes: s [B, U] = <grad NLL_k(Q), v>.
      norm: of the token weights, 'batch' or 'sentence'.
      rate: a_meta.

    Returns:
      A tree like ``omega``.
    """
    def gain(omega):
        return -rate * jnp.sum(weight_net.token_weights(omega, values, mask, norm) * jnp.where(mask, slopes, 0))

    return jax.grad(gain)(omega)
