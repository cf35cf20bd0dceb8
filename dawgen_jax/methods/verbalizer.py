"""Classification with a verbalizer: class scores are label-word logits at the answer, the loss is over them alone.

``s_y = logit(word_y)``, ``CE = -log softmax(s)_gold``, prediction ``argmax s``. The input is the template and a prompt
in front of it or inside; where the answer is read is the backbone's business.

Functions return per-example values; the mean over a batch is taken by the loss that a step differentiates.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dawgen_jax import prompts
from dawgen_jax.backbones.base import Model
from dawgen_jax.data.batches import ClassifierBatch

__all__ = ["class_scores", "cross_entropy", "weighted_mean"]


def class_scores(prompt, theta, batch: ClassifierBatch, *, model: Model, label_ids: tuple[int, ...],
                 tail: int | None = None):
    """Class scores of a batch.

    Args:
      prompt: [P, H]; P = 0 is prompting without a soft prompt.
      theta: parameters of the backbone.
      batch: tokens and mask [B, T] are read, and the context of texts in front of the prompt where the batch has one.
      model: the backbone.
      label_ids: token ids of the L label words.
      tail: how many tokens of a row stand behind the prompt; None puts it in front.

    Returns:
      float32 [B, L].
    """
    tail = tail if batch.context is None else None  # with a context, all tokens stand behind the prompt
    embeddings, mask = prompts.insert(theta, batch.tokens, batch.mask, prompt, model=model, tail=tail)
    return model.logits(theta, model.answer_states(theta, embeddings, mask, batch.context), jnp.array(label_ids))


def cross_entropy(scores, label, smoothing: float = 0.0):
    """``-sum_y q_y log softmax(scores)_y`` with ``q = (1 - smoothing) onehot(label) + smoothing / L``.

    Args:
      scores: [B, L].
      label: int [B].
      smoothing: label smoothing over the L classes, from 0 to 1.

    Returns:
      [B].
    """
    log_probability = jax.nn.log_softmax(scores, axis=-1)
    gold = -jnp.take_along_axis(log_probability, label[:, None], axis=-1)[:, 0]
    return (1 - smoothing) * gold - smoothing * jnp.mean(log_probability, axis=-1) if smoothing else gold


def weighted_mean(values, weight):
    """``sum w v / sum w`` over [B], 0 where all weights are 0 (a batch of padding)."""
    total = jnp.sum(weight)
    return jnp.sum(values * weight) / jnp.where(total > 0, total, 1)
