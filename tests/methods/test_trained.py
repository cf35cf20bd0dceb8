"""What each method trains: which parameters, how many at T5-large, with which optimiser, from which start."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dawgen_jax.backbones.base import Backbone
from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.config import ClassifierConfig, FineTuningConfig, LoraConfig
from dawgen_jax.data.batches import ClassifierBatch, stack
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.methods.base import Stage
from dawgen_jax.methods.trained import LOW_RANK, PROMPT, WEIGHTS, WEIGHTS_AND_HEAD, WEIGHTS_AND_PROMPT
from dawgen_jax.methods.tune import begin, tune
from dawgen_jax.methods.verbalizer import cross_entropy, weighted_mean
from dawgen_jax.surgery import aggregator
from dawgen_jax.training.optimisers import adafactor
from dawgen_jax.training.placement import Placement
from dawgen_jax.training.step import train_step
from tests import tiny

CONFIG = ClassifierConfig(learning_rate=0.1)
LARGE = T5Config(vocab_size=32128, d_model=1024, d_kv=64, d_ff=2816, num_layers=24, num_decoder_layers=24,
                 num_heads=16, activation="gelu_new", gated=True, tied_head=False, scale_decoder_outputs=False)


def backbone(theta=None, model=tiny.MODEL):
    return Backbone(model, None, tiny.theta() if theta is None else theta, "tiny", "")


def prompt():
    return np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)


def start(trained, theta=None, config=CONFIG):
    return trained.init(backbone(theta), config, 3, prompt(), 0)


def loss_of(trained, config=CONFIG, model=tiny.MODEL):
    def loss(params, theta, batch):
        scores = trained.scores(params, theta, batch, model=model, label_ids=tiny.LABEL_IDS, config=config)
        return weighted_mean(cross_entropy(scores, batch.label), batch.weight)

    return loss


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def zeros(shapes):
    """Arrays of these shapes that take no memory."""
    return jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), np.float32), leaf.shape), shapes)


def test_parameters_at_t5_large():
    """T5 v1.1 large has 783,150,080 parameters; the paper's 770M is the rounded size that the T5 paper gives large."""
    theta = zeros(model.abstract(LARGE))
    large = backbone(theta, T5(LARGE, 32099))
    soft = np.zeros((100, 1024), np.float32)
    assert count(PROMPT.init(large, CONFIG, 3, soft, 0)) == 102_400
    assert count(theta) == 783_150_080
    by_hand = 2 * 32128 * 1024 + 24 * (3 * 1024 * 2816 + 4 * 1024 * 1024 + 2 * 1024) + 2 * 32 * 16 + 2 * 1024
    by_hand += 24 * (3 * 1024 * 2816 + 8 * 1024 * 1024 + 3 * 1024)
    assert count(theta) == by_hand
    starts = {trained: trained.init(large, CONFIG, 3, soft, 0)
              for trained in (WEIGHTS, WEIGHTS_AND_HEAD, WEIGHTS_AND_PROMPT)}  # views of one number: no copies
    assert count(starts[WEIGHTS]) == 783_150_080
    assert count(starts[WEIGHTS_AND_HEAD]) == 783_150_080 + 3 * 1024
    assert count(starts[WEIGHTS_AND_PROMPT]) == 783_150_080 + 102_400
    factors = LOW_RANK.init(large, CONFIG, 3, soft, 0)
    assert count(factors) == 72 * 2 * 8 * (1024 + 1024)  # 72 attentions, query and value, rank 8


def gradient(trained, params, batch):
    return jax.jit(jax.grad(loss_of(trained)))(params, (), batch)


def untouched(tree):
    """Paths of leaves whose gradient is zero everywhere."""
    return {jax.tree_util.keystr(path) for path, leaf in jax.tree.leaves_with_path(tree) if not np.any(leaf)}


def test_prompt_based_fine_tuning_touches_all_weights_and_no_prompt():
    params = start(WEIGHTS)
    assert set(params) == {"theta"}
    assert untouched(gradient(WEIGHTS, params, tiny.classifier_set(9, 1))) == set()


def test_fine_tuning_touches_its_head_and_the_weights_but_not_the_word_head():
    params = start(WEIGHTS_AND_HEAD)
    assert set(params) == {"theta", "head"} and params["head"].shape == (16, 3) and not params["head"].any()
    first = gradient(WEIGHTS_AND_HEAD, params, tiny.classifier_set(9, 1))
    assert first["head"].any() and not any(np.any(leaf) for leaf in jax.tree.leaves(first["theta"]))
    params["head"] = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    later = untouched(gradient(WEIGHTS_AND_HEAD, params, tiny.classifier_set(9, 1)))
    # One decoder token: its self-attention has nothing to choose from.
    unused = {f"['theta']['decoder']['layers']['attention']['{name}']" for name in ("query", "key")}
    assert later == {"['theta']['head']", "['theta']['decoder']['bias']", *unused}


def test_the_new_head_starts_without_a_preference():
    scores = WEIGHTS_AND_HEAD.scores(start(WEIGHTS_AND_HEAD), (), tiny.classifier_set(4, 0), model=tiny.MODEL,
                                     label_ids=tiny.LABEL_IDS, config=CONFIG)
    np.testing.assert_array_equal(scores, 0)


def test_a_prompt_and_all_weights_have_an_optimiser_each():
    params, batch = start(WEIGHTS_AND_PROMPT), tiny.classifier_set(9, 1)
    assert set(params) == {"theta", "prompt"}
    grads = gradient(WEIGHTS_AND_PROMPT, params, batch)
    assert untouched(grads) == set()
    rate = 1e-3
    both, alone, weights = (WEIGHTS_AND_PROMPT.optimiser(CONFIG, 10, rate), adafactor(CONFIG, 10),
                            WEIGHTS.optimiser(CONFIG, 10, rate))
    states = both.init(params), alone.init(params["prompt"]), weights.init({"theta": params["theta"]})
    for _ in range(2):
        updates, state = both.update(grads, states[0], params)
        of_prompt, prompt_state = alone.update(grads["prompt"], states[1], params["prompt"])
        of_weights, weight_state = weights.update({"theta": grads["theta"]}, states[2], {"theta": params["theta"]})
        states = state, prompt_state, weight_state
        chex.assert_trees_all_close(updates, {"prompt": of_prompt, **of_weights}, rtol=1e-6)
        params = optax.apply_updates(params, updates)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(of_weights))
    assert np.abs(of_prompt).max() > 10 * largest


def test_no_step_passes_a_frozen_copy_of_trained_weights():
    assert [trained.weights for trained in (PROMPT, LOW_RANK, WEIGHTS, WEIGHTS_AND_HEAD, WEIGHTS_AND_PROMPT)] == [
        False, False, True, True, True]


@pytest.mark.parametrize("trained", [WEIGHTS, WEIGHTS_AND_HEAD, WEIGHTS_AND_PROMPT])
def test_a_bfloat16_backbone_is_trained_in_float32(trained):
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny.theta())
    narrow = T5(dataclasses.replace(tiny.T5, dtype="bfloat16"), mask_id=39)
    tx = optax.chain(aggregator("sum"), trained.optimiser(CONFIG, 4, 1e-5))
    state = begin([trained.init(backbone(rounded, narrow), CONFIG, 3, prompt(), 0)], tx=tx)
    state = jax.tree.map(lambda leaf: leaf[0], state)  # of the one seed
    params = jax.tree.map(np.asarray, state.params)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    step = jax.jit(functools.partial(train_step, loss_fn=loss_of(trained, model=narrow), tx=tx))
    batch = stack([tiny.classifier_set(6, 0)])
    for _ in range(2):  # a new head is zero in the first update, and with it the gradient of all below
        state, _ = step(state, (), batch)
    chex.assert_trees_all_equal_dtypes(state.params, params)
    moved = jax.tree.map(lambda new, old: float((np.asarray(new) != old).mean()), state.params["theta"],
                         params["theta"])
    layers = jax.tree.leaves(moved["encoder"])
    assert min(layers) > 0 and float(np.mean(layers)) > 0.5


def separable(examples: int, seed: int) -> ClassifierBatch:
    """The class is the token at the second place."""
    data = tiny.classifier_set(examples, seed)
    tokens = data.tokens.copy()
    tokens[:, 1] = 10 + data.label
    return data._replace(tokens=tokens)


@pytest.mark.parametrize("trained", [WEIGHTS_AND_HEAD, LOW_RANK])
def test_a_separable_set_is_fitted_and_the_given_weights_stay(trained, tmp_path):
    theta, train = tiny.theta(), separable(12, 0)
    before = jax.tree.map(np.array, theta)
    config = ClassifierConfig(fine_tuning=FineTuningConfig(learning_rates=(1e-6, 1e-2)), pad_multiple=8,
                              lora=LoraConfig(rank=4, learning_rate=3e-2, targets=("query", "key", "value", "output")))
    tuned = tune(trained, prompt()[None], backbone(theta), {"real": [train]}, [train],
                 [Stage((("real",),), "sum", 80, 12, 40)], config=config, label_ids=tiny.LABEL_IDS,
                 placement=Placement.on(1), seeds=(0,), folder=tmp_path, title="test",
                 metrics_log=MetricsLog(tmp_path / "metrics.jsonl"))
    chex.assert_trees_all_equal(theta, before)
    assert tuned.accuracy[0] > 0.9 and tuned.rate == (1e-2 if trained is WEIGHTS_AND_HEAD else 0.0)
