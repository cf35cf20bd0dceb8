"""FT: it learns a separable toy set, leaves the pre-trained weights alone, and starts from zero scores."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dawgen_jax.backbones.base import Backbone
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.config import ClassifierConfig, FineTuningConfig
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.evaluation.predict import predict
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.methods import trained, tune
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.methods.verbalizer import cross_entropy, weighted_mean
from dawgen_jax.surgery.aggregator import weighted_sum
from dawgen_jax.training.placement import Placement
from dawgen_jax.training.step import init_state, train_step
from tests import tiny


def separable(examples: int, seed: int) -> ClassifierBatch:
    """The class is the token at the second place."""
    data = tiny.classifier_set(examples, seed)
    tokens = data.tokens.copy()
    tokens[:, 1] = 10 + data.label
    return data._replace(tokens=tokens)


def test_it_fits_a_set_keeps_the_best_rate_and_leaves_the_given_weights(tmp_path):
    theta, train, placement = tiny.theta(), separable(12, 0), Placement.on(1)
    before = jax.tree.map(np.array, theta)
    config = ClassifierConfig(pad_multiple=8, fine_tuning=FineTuningConfig(
        learning_rates=(1e-6, 1e-2), num_steps=80, batch_size=12, eval_every=40))
    backbone = Backbone(tiny.MODEL, theta, None, "tiny", "")
    tuned = tune.tune(
        trained.WEIGHTS_AND_HEAD, np.zeros((1, 4, 16), np.float32), backbone, {"real": [train]}, [train],
        METHODS["FT"].phases(config, 3), config=config, label_ids=tiny.LABEL_IDS, placement=placement, seeds=(0,),
        folder=tmp_path, title="test", metrics_log=MetricsLog(tmp_path / "metrics.jsonl"))
    chex.assert_trees_all_equal(theta, before)
    assert tuned.rate == 1e-2 and tuned.accuracy[0] > 0.9
    scores = tune.compiled_scores(trained.WEIGHTS_AND_HEAD, config, tiny.MODEL, tiny.LABEL_IDS, placement, shared=True)
    predicted = predict(scores, jax.tree.map(jnp.asarray, tuned.params), (), train, size=12, multiple=8)[0]
    assert (predicted == train.label).mean() == tuned.accuracy[0]


def test_the_new_head_starts_without_a_preference():
    params = {"theta": tiny.theta(), "head": jnp.zeros((16, 3))}
    np.testing.assert_array_equal(trained.head_scores(params, (), tiny.classifier_set(4, 0), model=tiny.MODEL), 0)


def test_a_bfloat16_backbone_is_trained_in_float32():
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny.theta())
    backbone = Backbone(T5(dataclasses.replace(tiny.T5, dtype="bfloat16"), 39), rounded, None, "tiny", "")
    config = ClassifierConfig()
    tx = optax.chain(weighted_sum(), trained.WEIGHTS_AND_HEAD.optimiser(config, 4, 1e-5))
    state = init_state(trained.WEIGHTS_AND_HEAD.init(backbone, config, 3, None, 0), tx)
    before = jax.tree.map(np.array, state.params["theta"])

    def loss_fn(params, frozen, batch):
        scores = trained.head_scores(params, frozen, batch, model=backbone.model)
        return weighted_mean(cross_entropy(scores, batch.label), batch.weight)

    step = jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=tx))
    batch = jax.tree.map(lambda leaf: leaf[None], separable(6, 0))
    for _ in range(2):  # the head is zero in the first update, and with it the gradient of all below
        state, _ = step(state, (), batch)
    chex.assert_trees_all_equal_dtypes(state.params["theta"], before)
    moved = jax.tree.map(lambda new, old: float((np.asarray(new) != old).mean()), state.params["theta"], before)
    layers = jax.tree.leaves(moved["encoder"])
    assert min(layers) > 0 and float(np.mean(layers)) > 0.5
