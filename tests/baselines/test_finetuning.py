"""The FT baseline: it learns a separable toy set, leaves the pre-trained weights alone, and starts from zero scores."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax import sharding
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


def test_it_learns_and_the_given_weights_stay():
    theta = tiny.theta()
    before = jax.tree.map(np.array, theta)
    config = FineTuningConfig(learning_rates=(1e-6, 2e-2), num_steps=150, batch_size=12, eval_every=50)
    tuned = finetuning.fine_tune(theta, separable(24, 0), separable(24, 1), separable(30, 2), num_labels=3,
                                 config=config, t5=tiny.T5, mesh=sharding.data_mesh(1), seed=0, eval_batch_size=16,
                                 pad_multiple=8, title="test")
    chex.assert_trees_all_equal(theta, before)
    assert tuned.learning_rate == 2e-2 and tuned.accuracy > 0.8
    assert (tuned.predicted == separable(30, 2).label).mean() > 0.8


def test_the_new_head_starts_without_a_preference():
    params = {"theta": tiny.theta(), "head": jnp.zeros((16, 3))}
    np.testing.assert_array_equal(finetuning.head_scores(params, tiny.classifier_set(4, 0), t5=tiny.T5), 0)
