"""Class scores of examples under what was tuned, or under nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax.config import ClassifierConfig, digest
from dawgen_jax.data.pools import Example
from dawgen_jax.evaluation.predict import class_scores
from dawgen_jax.methods.trained import PROMPT, Trained
from dawgen_jax.methods.tune import compiled_scores
from dawgen_jax.pipeline.inputs import Encoded
from dawgen_jax.training.placement import Placement

__all__ = ["score_examples"]


def score_examples(encoded: Encoded, examples: Sequence[Example], params: Any, config: ClassifierConfig, *,
                   trained: Trained = PROMPT) -> np.ndarray:
    """Class scores, float [N, L].

    Args:
      encoded: of the task and the backbone, on whose devices this runs.
      examples: N of them; their labels are not read.
      params: what ``trained`` tunes: a prompt [P, H], low-rank factors; None for the backbone alone.
      config: of the classifier.
      trained: what ``params`` are.
    """
    backbone, placement = encoded.backbone, Placement.of(encoded.backbone.theta)
    params = np.zeros((0, backbone.model.width), np.float32) if params is None else params
    scores = compiled_scores(trained, config, backbone.model, encoded.label_ids, placement, shared=True,
                             tail=encoded.tail)
    return class_scores(scores, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], params), backbone.theta,
                        encoded.arrays(examples, digest(examples), bare=trained.bare),
                        size=placement.rows(config.eval_batch_size), multiple=config.pad_multiple)[0]
