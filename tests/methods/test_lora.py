"""Low-rank updates: nothing at the start, merged equals apart, only factors move."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dawgen_jax.backbones.base import Backbone
from dawgen_jax.config import ClassifierConfig, LoraConfig
from dawgen_jax.data import batches
from dawgen_jax.errors import ConfigError
from dawgen_jax.methods import lora
from dawgen_jax.methods.trained import LOW_RANK
from dawgen_jax.methods.verbalizer import class_scores, cross_entropy, weighted_mean
from dawgen_jax.surgery import aggregator
from dawgen_jax.training.step import init_state, train_step
from tests import tiny

CONFIG = ClassifierConfig(lora=LoraConfig(rank=3, alpha=6.0, targets=("query", "value"), learning_rate=1e-2))


def start(theta, config=CONFIG):
    return LOW_RANK.init(Backbone(tiny.MODEL, None, theta, "tiny", ""), config, 3, None, 0)


def scores_of(factors, theta, batch, config=CONFIG):
    return LOW_RANK.scores(factors, theta, batch, model=tiny.MODEL, label_ids=tiny.LABEL_IDS, config=config)


def filled(factors):
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32) / 4, factors)


def test_the_first_scores_are_the_backbones():
    theta, batch = tiny.theta(), tiny.classifier_set(6, 0)
    plain = class_scores(jnp.zeros((0, 16)), theta, batch, model=tiny.MODEL, label_ids=tiny.LABEL_IDS)
    factors = start(theta)
    np.testing.assert_array_equal(scores_of(factors, theta, batch), plain)
    assert all((factor["b"] == 0).all() and np.ptp(factor["a"]) > 0 for factor in factors.values())
    assert np.abs(scores_of(filled(factors), theta, batch) - plain).max() > 1e-2


def test_the_factored_kernels_are_those_asked_for():
    paths = ("encoder/layers/attention/{}", "decoder/layers/attention/{}", "decoder/layers/cross/{}")
    assert set(start(tiny.theta())) == {path.format(name) for path in paths for name in ("query", "value")}
    every = dataclasses.replace(CONFIG, lora=dataclasses.replace(CONFIG.lora, targets=("query", "key", "output")))
    assert set(start(tiny.theta(), every)) == {path.format(name) for path in paths
                                               for name in ("query", "key", "output")}
    with pytest.raises(ConfigError, match="no attention projection of these names"):
        lora.init(tiny.theta(), [], 3, 0)


def test_a_starts_within_one_over_the_root_of_the_fan_in_and_differs_by_seed():
    factors = start(tiny.theta())
    assert all(np.abs(factor["a"]).max() <= factor["a"].shape[1] ** -0.5 for factor in factors.values())
    other = lora.init(tiny.theta(), [("encoder", "layers", "attention", "query")], 3, 1)
    assert (other["encoder/layers/attention/query"]["a"] != factors["encoder/layers/attention/query"]["a"]).all()


def test_merged_equals_apart():
    """x (W + s A B) == x W + s (x A) B."""
    theta, scale = tiny.theta(), CONFIG.lora.alpha / CONFIG.lora.rank
    factors = filled(start(theta))
    merged = lora.merge(theta, factors, scale)
    random = np.random.default_rng(2)
    for name, factor in factors.items():
        kernel, new = theta, merged
        for part in name.split("/"):
            kernel, new = kernel[part], new[part]
        for layer in range(len(kernel)):
            x = random.normal(size=(5, kernel.shape[1])).astype(np.float32)
            apart = x @ kernel[layer] + scale * (x @ factor["a"][layer]) @ factor["b"][layer]
            np.testing.assert_allclose(x @ new[layer], apart, rtol=1e-4, atol=1e-5)


def test_the_scale_of_a_method_is_alpha_over_the_rank():
    theta, batch = tiny.theta(), tiny.classifier_set(6, 0)
    factors = filled(start(theta))
    expected = class_scores(jnp.zeros((0, 16)), lora.merge(theta, factors, 6.0 / 3), batch, model=tiny.MODEL,
                            label_ids=tiny.LABEL_IDS)
    np.testing.assert_array_equal(scores_of(factors, theta, batch), expected)


def test_merging_changes_the_factored_kernels_only_and_keeps_their_dtype():
    theta = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny.theta())
    factors = filled(start(theta))
    merged = lora.merge(theta, factors, 2.0)
    chex.assert_trees_all_equal_shapes_and_dtypes(merged, theta)
    moved = {"/".join(key.key for key in path) for path, same in jax.tree.leaves_with_path(
        jax.tree.map(lambda new, old: bool((new == old).all()), merged, theta)) if not same}
    assert moved == set(factors)


def test_only_factors_move_and_surgery_takes_their_gradients():
    theta = tiny.theta()
    before, factors = jax.tree.map(np.array, theta), start(theta)

    def loss(params, theta, batch):
        return weighted_mean(cross_entropy(scores_of(params, theta, batch), batch.label), batch.weight)

    tx = optax.chain(aggregator("surgery"), LOW_RANK.optimiser(CONFIG, 10, 0.0))
    step, state = jax.jit(functools.partial(train_step, loss_fn=loss, tx=tx)), init_state(factors, tx)
    real, synthetic = tiny.classifier_set(4, 1), tiny.classifier_set(4, 1)
    synthetic = synthetic._replace(label=(synthetic.label + 1) % 3)
    batch = batches.stack([real, synthetic])
    for _ in range(3):
        state, metrics = step(state, theta, batch)
    chex.assert_trees_all_equal(theta, before)
    assert jax.tree.structure(state.params) == jax.tree.structure(factors) and metrics["loss"].shape == (2,)
    seen = optax.tree.get(state.opt_state, "AggregatorState")
    assert seen.conflicts > 0 and seen.count == 3
    assert all((np.asarray(new["b"]) != 0).any() and (np.asarray(new["a"]) != factors[name]["a"]).any()
               for name, new in state.params.items())
