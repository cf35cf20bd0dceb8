"""Classification with a verbalizer: class scores are label-word logits at the mask, the loss is over them alone.

The encoder reads ``[prompt ; template]`` with the mask as <extra_id_0>; the decoder reads ``[start, <extra_id_0>]``
and the logits at the second position, for the L label words only, are the class scores:
``s_y = logit(word_y)``, ``CE = -log softmax(s)_gold``, prediction ``argmax s``. (OpenPrompt also feeds end of
sequence as a third decoder token; the decoder is causal, so it changes nothing.)

Functions return per-example values; the mean over a batch is the step's.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dawgen_jax import prompts
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.t5 import model
from dawgen_jax.t5.config import T5Config

__all__ = ["Verbalizer", "class_scores", "cross_entropy", "weighted_mean"]


class Verbalizer(NamedTuple):
    """Token ids of a task on a tokenizer: ``label_ids`` [L] of the label words and the ``mask_id`` of <extra_id_0>."""

    label_ids: tuple[int, ...]
    mask_id: int


def class_scores(prompt, theta, batch: ClassifierBatch, *, t5: T5Config, verbalizer: Verbalizer):
    """Class scores of a batch.

    Args:
      prompt: [P, H]; P = 0 is prompting without a soft prompt.
      theta: frozen parameters of the backbone.
      batch: tokens and mask are read, [B, T].
      t5: the backbone's configuration.
      verbalizer: label words and mask.

    Returns:
      float32 [B, L].
    """
    embeddings, mask = prompts.insert(theta, batch.tokens, batch.mask, prompt, t5=t5)
    encoded = model.encode(theta, embeddings, mask, config=t5)
    start = jnp.array([[t5.decoder_start_id, verbalizer.mask_id]], jnp.int32)
    decoder_tokens = jnp.broadcast_to(start, (batch.tokens.shape[0], 2))
    hidden = model.decode(theta, decoder_tokens, encoded, mask, config=t5)
    return model.label_logits(theta, hidden[:, 1], jnp.array(verbalizer.label_ids), config=t5)


def cross_entropy(scores, label):
    """``-log softmax(scores)_label`` for scores [B, L] and int labels [B]; returns [B]."""
    log_probability = jax.nn.log_softmax(scores, axis=-1)
    return -jnp.take_along_axis(log_probability, label[:, None], axis=-1)[:, 0]


def weighted_mean(values, weight):
    """``sum w v / sum w`` over [B], 0 where all weights are 0 (a batch of padding)."""
    total = jnp.sum(weight)
    return jnp.sum(values * weight) / jnp.where(total > 0, total, 1)
