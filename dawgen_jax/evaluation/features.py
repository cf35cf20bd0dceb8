"""Sentences in a backbone's feature space."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from dawgen_jax.backbones.base import Backbone, Model
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.data.encoding import rectangle
from dawgen_jax.evaluation.predict import length_batches
from dawgen_jax.training.placement import Placement

__all__ = ["features"]

_TOKENS = 128
_MULTIPLE = 32


def _mean_states(params, theta, batch: ClassifierBatch, *, model: Model):
    del params
    states = model.input_states(theta, model.embed(theta, batch.tokens), batch.mask).astype(jnp.float32)
    mask = batch.mask[..., None].astype(jnp.float32)
    return jnp.sum(states * mask, axis=1) / jnp.sum(mask, axis=1)


@functools.lru_cache(maxsize=4)
def _compiled(model: Model, placement: Placement) -> Callable:
    return placement.compile_score(functools.partial(_mean_states, model=model), batch_axis=0, model=model)


def features(sentences: Sequence[str], backbone: Backbone, placement: Placement, *, batch_size: int = 64
             ) -> np.ndarray:
    """The mean of a backbone's input states over the tokens of each sentence, as a generator reads it.

    Args:
      sentences: N of them; tokens after the 127th are cut.
      backbone: frozen.
      placement: devices.
      batch_size: sentences encoded together.

    Returns:
      float32 [N, H].
    """
    compiled = _compiled(backbone.model, placement)
    rows = backbone.format.source_rows(list(sentences), 0, _TOKENS - 1).rows
    tokens, mask = rectangle(rows, _MULTIPLE)
    data = ClassifierBatch(tokens, mask, np.zeros(len(rows), np.int32), np.ones(len(rows), np.float32))
    result = np.zeros((len(rows), backbone.model.width), np.float32)
    for chosen, batch in length_batches(data, placement.rows(batch_size), _MULTIPLE):
        result[chosen] = np.asarray(compiled((), backbone.theta, batch))[:len(chosen)]
    return result
