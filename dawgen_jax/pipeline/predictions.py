"""Class scores of examples under what was tuned, or under nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax.config import ClassifierConfig, digest
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.data.pools import Example
from dawgen_jax.evaluation.predict import class_scores
from dawgen_jax.methods.base import Method
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.methods.trained import PROMPT
from dawgen_jax.methods.tune import compiled_scores
from dawgen_jax.pipeline.inputs import Encoded
from dawgen_jax.training.placement import Placement

__all__ = ["score_arrays", "score_examples"]

_NOTHING = METHODS["Prompting (zero-shot)"]


def score_examples(encoded: Encoded, examples: Sequence[Example], params: Any, config: ClassifierConfig, *,
                   method: Method = _NOTHING) -> np.ndarray:
    """Class scores, float [N, L].

    Args:
      encoded: of the task and the backbone, on whose devices this runs.
      examples: N of them; their labels are not read.
      params: what the method tunes: a prompt [P, H], low-rank factors; None for the backbone alone.
      config: of the classifier.
      method: which tuned ``params``.
    """
    params = np.zeros((0, encoded.backbone.model.width), np.float32) if params is None else params
    data = encoded.arrays(examples, digest(examples), bare=bool(method.trains and method.trains.bare))
    return score_arrays(encoded, data, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], params), config,
                        method=method)[0]


def score_arrays(encoded: Encoded, data: ClassifierBatch, params: Any, config: ClassifierConfig, *, method: Method
                 ) -> np.ndarray:
    """Class scores of encoded examples [N, ...] under K sets of parameters, float [K, N, L].

    A calibrated method subtracts the logarithm of the class probabilities of inputs without content (their mean).
    """
    backbone, placement, trained = encoded.backbone, Placement.of(encoded.backbone.theta), method.trains or PROMPT
    score = compiled_scores(trained, config, backbone.model, encoded.label_ids, placement, shared=True,
                            tail=encoded.tail)

    def of(data: ClassifierBatch) -> np.ndarray:
        return class_scores(score, placement.put(params, backbone.model), () if trained.weights else backbone.theta,
                            data, size=placement.rows(config.eval_batch_size), multiple=config.pad_multiple)

    if not method.calibrated:
        return of(data)
    probabilities = jax.nn.softmax(of(encoded.without_content()), axis=-1)
    return of(data) - np.log(np.mean(probabilities, axis=1, keepdims=True))
