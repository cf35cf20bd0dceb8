"""The FT baseline: it learns a separable toy set, leaves the pre-trained weights alone, and starts from zero scores."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax import optim, sharding
from dawgen_jax.baselines import finetuning
from dawgen_jax.config import FineTuningConfig
from dawgen_jax.data.batches import ClassifierBatch
from tests import tiny


def separable(examples: int, seed: int) -> ClassifierBatch:
    """The class is the token at the second place."""
    data = tiny.classifier_set(examples, seed)
    tokens = data.tokens.copy()
    tokens[:, 1] = 10 + data.label
    return data._replace(tokens=tokens)


def test_it_fits_a_set_keeps_the_best_rate_and_leaves_the_given_weights():
    theta, train = tiny.theta(), separable(12, 0)
    before = jax.tree.map(np.array, theta)
    config = FineTuningConfig(learning_rates=(1e-6, 1e-2), num_steps=80, batch_size=12, eval_every=40)
    tuned = finetuning.fine_tune(theta, train, train, train, num_labels=3, config=config, t5=tiny.T5,
                                 mesh=sharding.data_mesh(1), seed=0, eval_batch_size=12, pad_multiple=8, title="test")
    chex.assert_trees_all_equal(theta, before)
    assert tuned.learning_rate == 1e-2 and tuned.accuracy > 0.9
    assert (tuned.predicted == train.label).mean() == tuned.accuracy


def test_the_new_head_starts_without_a_preference():
    params = {"theta": tiny.theta(), "head": jnp.zeros((16, 3))}
    np.testing.assert_array_equal(finetuning.head_scores(params, tiny.classifier_set(4, 0), t5=tiny.T5), 0)


def test_a_bfloat16_backbone_is_trained_in_float32():
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny.theta())
    t5 = dataclasses.replace(tiny.T5, dtype="bfloat16")
    tx = optim.adamw(FineTuningConfig(num_steps=4), 1e-5)
    state = finetuning.init_state(rounded, 3, tx)
    before = jax.tree.map(np.array, state.params["theta"])
    step = jax.jit(functools.partial(finetuning.fine_tune_step, t5=t5, tx=tx))
    for _ in range(2):  # the head is zero in the first update, and with it the gradient of all below
        state, _ = step(state, separable(6, 0))
    chex.assert_trees_all_equal_dtypes(state.params["theta"], before)
    moved = jax.tree.map(lambda new, old: float((np.asarray(new) != old).mean()), state.params["theta"], before)
    layers = jax.tree.leaves(moved["encoder"])
    assert min(layers) > 0 and float(np.mean(layers)) > 0.5
