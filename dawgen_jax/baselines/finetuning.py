"""Baseline FT: all weights of the backbone and a new linear head on the first decoder state, no template, no prompt.

``scores = h_1 W`` where h_1 [H] is the decoder's first hidden state (fed with the start token) over the encoded
``{sentence1} {sentence2}``, and W [H, L] starts at zero. Mean cross-entropy, AdamW with linear decay.

``Departure:`` the paper does not say what FT's format is; this is the analogue of LM-BFF's 'finetune'. Dropout is off
(the frozen backbone has none here), and each of ``learning_rates`` is tried, the best on dev kept.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from tqdm import tqdm

from dawgen_jax import optim, sharding
from dawgen_jax.config import FineTuningConfig, UserError
from dawgen_jax.data import batches
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.evaluation import pad_rows, predict
from dawgen_jax.t5 import model
from dawgen_jax.t5.config import T5Config
from dawgen_jax.tuning.losses import cross_entropy, weighted_mean

__all__ = ["FineTuneState", "FineTuned", "fine_tune", "fine_tune_step", "head_scores", "init_state"]


@flax.struct.dataclass
class FineTuneState:
    """``params`` is {"theta": the backbone, "head": [H, L]}, both trained; ``step`` counts updates."""

    step: jax.Array
    params: dict
    opt_state: Any


class FineTuned(NamedTuple):
    """Predictions [N] on the test set of the best parameters, their dev accuracy, step and learning rate."""

    predicted: np.ndarray
    accuracy: float
    step: int
    learning_rate: float


def head_scores(params: dict, batch: ClassifierBatch, *, t5: T5Config):
    """Class scores float32 [B, L] of a batch [B, T]."""
    theta = params["theta"]
    encoded = model.encode(theta, model.embed(theta, batch.tokens, config=t5), batch.mask, config=t5)
    start = jnp.full((batch.tokens.shape[0], 1), t5.decoder_start_id, jnp.int32)
    hidden = model.decode(theta, start, encoded, batch.mask, config=t5)[:, 0]
    return hidden.astype(jnp.float32) @ params["head"]


def init_state(theta, num_labels: int, tx: optax.GradientTransformation) -> FineTuneState:
    """Float32 copies of the pre-trained parameters, whatever they are kept in, and a head [H, L] of zeros.

    In bfloat16 a weight of .05 would not be moved by an update of 1e-4.
    """
    copied = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), theta)
    params = {"theta": copied, "head": jnp.zeros((theta["embedding"].shape[1], num_labels))}
    return FineTuneState(jnp.zeros((), jnp.int32), params, tx.init(params))


def fine_tune_step(state: FineTuneState, batch: ClassifierBatch, *, t5: T5Config,
                   tx: optax.GradientTransformation) -> tuple[FineTuneState, jax.Array]:
    """One update of all weights; returns the next state and the mean cross-entropy."""
    def mean_loss(params):
        return weighted_mean(cross_entropy(head_scores(params, batch, t5=t5), batch.label), batch.weight)

    loss, grads = jax.value_and_grad(mean_loss)(state.params)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    return FineTuneState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), loss


@functools.lru_cache(maxsize=4)
def _compiled_scores(t5: T5Config, mesh: Mesh):
    return sharding.compile_score(lambda params, _, batch: head_scores(params[0], batch, t5=t5)[None], mesh,
                                  batch_axis=0)


@functools.lru_cache(maxsize=8)
def _compiled_step(config: FineTuningConfig, rate: float, t5: T5Config, mesh: Mesh):
    """The step, one program for all seeds and tasks, and its optimiser."""
    tx = optim.adamw(config, rate)
    step = functools.partial(fine_tune_step, t5=t5, tx=tx)
    return sharding.compile_step(step, mesh, batch_axis=0, frozen=False), tx


def fine_tune(theta, train: ClassifierBatch, dev: ClassifierBatch, test: ClassifierBatch, *, num_labels: int,
              config: FineTuningConfig, t5: T5Config, mesh: Mesh, seed: int, eval_batch_size: int, pad_multiple: int,
              title: str) -> FineTuned:
    """Fine-tune on a few-shot set, select on dev, and predict the test set.

    Args:
      theta: the pre-trained parameters; they are copied in float32, not changed.
      train, dev, test: arrays [N, ...] of each set.
      num_labels: L.
      config: rates, steps, batch.
      t5: the backbone's configuration.
      mesh: the data mesh.
      seed: of the batches.
      eval_batch_size: rows scored together.
      pad_multiple: of the token axis in evaluation.
      title: for the progress bar and for errors.

    Raises:
      UserError: a loss is not finite.
    """
    evaluate = functools.partial(predict, _compiled_scores(t5, mesh), theta=None,
                                 size=sharding.rows_for(mesh, eval_batch_size), multiple=pad_multiple)
    rows = sharding.rows_for(mesh, config.batch_size)
    best = FineTuned(np.empty(0), -1.0, 0, 0.0)
    for rate in config.learning_rates:
        step, tx = _compiled_step(config, rate, t5, mesh)
        state = jax.device_put(init_state(theta, num_labels, tx), sharding.replicated(mesh))
        for number in tqdm(range(config.num_steps), desc=f"{title}, rate {rate:g}", unit="step", leave=False):
            index = batches.epoch_batches(len(train.label), config.batch_size, seed, number)
            batch = pad_rows(ClassifierBatch(*(leaf[index] for leaf in train)), rows)
            state, loss = step(state, batch)
            if (number + 1) % config.eval_every and number + 1 != config.num_steps:
                continue
            if not np.isfinite(loss):
                raise UserError(f"{title}: the loss is not finite at update {number + 1}; "
                                "lower classifier.fine_tuning.learning_rates.")
            accuracy = float((evaluate([state.params], data=dev)[0] == dev.label).mean())
            if accuracy > best.accuracy:
                best = FineTuned(evaluate([state.params], data=test)[0], accuracy, number + 1, rate)
    return best
