"""Losses in one piece, which the package computes in parts."""

import jax
import jax.numpy as jnp

from dawgen_jax.backbones.base import Model
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.generator.losses import nll
from dawgen_jax.methods.verbalizer import class_scores, cross_entropy, weighted_mean


def sequence_nll(log_prob: jax.Array, mask: jax.Array) -> jax.Array:
    """Terms of L_gen [B]: -sum_j log Pr(x_j | x_<j; Q_y), of log_prob [L, B, U], gold-first, and mask [B, U]."""
    return jnp.sum(jnp.where(mask, nll(log_prob), 0), axis=-1)


def prompt_loss(prompt, theta, batch: ClassifierBatch, *, model: Model, label_ids: tuple[int, ...],
                smoothing: float = 0.0):
    """Mean cross-entropy of a batch under a prompt [P, H]: the loss of a prompt step."""
    scores = class_scores(prompt, theta, batch, model=model, label_ids=label_ids)
    return weighted_mean(cross_entropy(scores, batch.label, smoothing), batch.weight)
