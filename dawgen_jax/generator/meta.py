"""The virtual step, and the exact meta-gradient of the weight net from one reverse and one forward pass.

With the virtual step Q' = Q - a grad_Q L(Q; w(omega)), where L(Q; w) is L_DawGen with W in both of its terms,

  d L_disc(Q') / d omega = -a d/d omega JVP_Q[L(Q; w(omega))](v),    v = grad L_disc(Q').

v takes one reverse pass at Q' over all label prompts. L depends on Q only through the log-probabilities and the decoder
states Z, so its derivative along v is a small function of these, of their derivatives along v and of w(omega). One
Jacobian-vector product at Q gives the derivatives along v, which do not depend on omega. Only sum_k w_k s_k, with
s_k = <grad NLL_k(Q), v>, and the tangent of L_dist on pooled states [L, B, H] are then differentiated with respect to
omega. No pass through the backbone is differentiated twice.

References:
  Meng et al.: Tuning Language Models as Training Data Generators, https://arxiv.org/abs/2211.03044, 2023.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dawgen_jax.backbones.base import Model
from dawgen_jax.data.batches import GeneratorBatch
from dawgen_jax.generator import losses, scores

__all__ = ["disc_value_and_gradient", "virtual_step", "weight_gradient"]


def virtual_step(label_prompts: dict, gradient: dict, rate: float) -> dict:
    """Q' = Q - a_meta * gradient: plain SGD, the only inner step for which the identity above holds."""
    return jax.tree.map(lambda prompt, slope: prompt - rate * slope, label_prompts, gradient)


def disc_value_and_gradient(label_prompts: dict, theta, batch: GeneratorBatch, *, form: str, chunks: int,
                            model: Model) -> tuple[jax.Array, dict]:
    """L_disc, the mean over tokens, and v, its gradient with respect to the label prompts.

    L_disc is a sum over examples, so the batch is processed in ``chunks`` parts, one after the other.

    Args:
      label_prompts: Q', {'prompt': [L, P, H], 'infix': [L, I, H]}.
      theta: frozen parameters.
      batch: [B, ...]; B is a multiple of ``chunks``.
      form: form of L_disc; see :func:`losses.disc`.
      chunks: number of parts.
      model: the backbone.

    Returns:
      (scalar, v like ``label_prompts``).
    """
    shifts = range(label_prompts["prompt"].shape[0])
    number = jnp.maximum(jnp.sum(batch.target_mask, dtype=label_prompts["prompt"].dtype), 1)

    @jax.value_and_grad
    def part_loss(label_prompts, part):
        hidden = scores.hidden_states(label_prompts, theta, part, shifts, model=model)
        values = losses.disc(scores.disc_scores(theta, hidden, part.target, form=form, model=model), form)
        return jnp.sum(jnp.where(part.target_mask, values, 0)) / number

    if chunks == 1:
        return part_loss(label_prompts, batch)
    # Strided, so that each part has examples from every device of a sharded batch.
    parts = jax.tree.map(
        lambda leaf: jnp.swapaxes(leaf.reshape(leaf.shape[0] // chunks, chunks, *leaf.shape[1:]), 0, 1), batch)
    each = jax.lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, part_loss(label_prompts, part)), None),
                        jax.tree.map(jnp.zeros_like, (jnp.sum(label_prompts["prompt"]), label_prompts)), parts)
    return each[0]


def weight_gradient(omega: dict, loss: Callable, points: tuple, tangents: tuple, *, rate: float) -> dict:
    """Gradient of -a_meta JVP[loss(omega, .)](tangents) with respect to omega.

    Args:
      omega: the weight net's parameters.
      loss: ``(omega, *points) -> scalar``, the inner loss L as a function of the backbone's outputs.
      points: the outputs at Q.
      tangents: their derivatives along v, like ``points``.
      rate: a_meta.

    Returns:
      A tree like ``omega``.
    """
    def gain(omega):
        return -rate * jax.jvp(lambda *points: loss(omega, *points), points, tangents)[1]

    return jax.grad(gain)(omega)
