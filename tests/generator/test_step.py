"""Identities of the whole generator step: FewGen, L_gen, padding, labels, seeds, devices, traces, non-finite input."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dawgen_jax.backbones.t5 import model as t5
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.config import GeneratorConfig
from dawgen_jax.data.batches import GeneratorBatch
from dawgen_jax.generator import losses, scores
from dawgen_jax.generator.step import _chunks, generator_step, init_state
from dawgen_jax.generator.variants import fixed_by
from tests.generator import toy

CONFIG = GeneratorConfig(meta_learning_rate=0.5, weight_norm="sentence")
FEWGEN = fixed_by(CONFIG, "FewGen")
NUM_STEPS = 6


def start(config=CONFIG, seed=0):
    return init_state(toy.label_prompts(seed), jax.random.key(seed), config=config, num_steps=NUM_STEPS)


@functools.cache
def step(config=CONFIG):
    return toy.jit(functools.partial(generator_step, config=config, model=toy.MODEL, num_steps=NUM_STEPS))


@pytest.fixture(scope="module")
def theta():
    return toy.theta()


@pytest.fixture(params=[CONFIG, FEWGEN], ids=["dawgen", "fewgen"])
def float64(request):
    """(step, state, theta, batch): even Adam's quotients of small gradients agree to 1e-10."""
    with jax.enable_x64(True):
        model, theta, label_prompts, batch = toy.everything("float64")
        state = init_state(label_prompts, jax.random.key(0), config=request.param, num_steps=NUM_STEPS)
        if request.param == CONFIG:  # away from uniform weights
            state = state.replace(weight_net={"w": jax.random.normal(jax.random.key(1), (toy.SHAPE.d_model,))})
        update = functools.partial(generator_step, config=request.param, model=model, num_steps=NUM_STEPS)
        yield toy.jit(update), state, theta, batch


def close(actual, expected, tolerance=1e-5):
    chex.assert_trees_all_close(jax.tree.map(np.asarray, actual), jax.tree.map(np.asarray, expected),
                                rtol=tolerance, atol=tolerance)


def test_the_defaults_of_jax_do_not_matter(theta):
    expected, expected_metrics = step()(start(), theta, toy.batch())
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        update = toy.jit(functools.partial(generator_step, config=CONFIG, model=toy.MODEL, num_steps=NUM_STEPS))
        after, metrics = update(start(), theta, toy.batch())
    chex.assert_trees_all_equal_shapes_and_dtypes((after, metrics), (expected, expected_metrics))
    chex.assert_trees_all_equal((after, metrics), (expected, expected_metrics))


def test_uniform_weights_are_plain_l_gen(theta):
    config = GeneratorConfig(weighting="uniform", dist_weight=0.0, learning_rate=0.01, clip_norm=1e9)
    batch, state = toy.batch(), start(config)
    after, metrics = step(config)(state, theta, batch)

    def token_mean(Q):
        hidden = scores.hidden_states(Q, theta, batch, range(1), model=toy.MODEL)
        nll = losses.nll(scores.log_prob(theta, hidden, batch.target, model=toy.MODEL))
        return losses.token_mean(nll, batch.target_mask)

    loss, gradient = toy.jit(jax.value_and_grad(token_mean))(state.label_prompts)
    np.testing.assert_allclose([metrics["loss"], metrics["nll"]], [loss, loss], rtol=1e-5)
    close(jax.tree.map(lambda m: 10 * m, after.opt_state[1][0].mu), gradient)
    chex.assert_trees_all_equal(after.weight_net, state.weight_net)


def test_weights_that_stay_uniform_are_plain_l_gen(theta):
    """The linear weight net starts at uniform weights; if it is not trained, neither it nor the virtual step matter."""
    for norm in ("batch", "sentence"):
        config = dataclasses.replace(CONFIG, weight_norm=norm, score_learning_rate=0.0, weight_learning_rate=0.0)
        plain = dataclasses.replace(config, weighting="uniform")
        ours, ours_metrics = step(config)(start(config), theta, toy.batch())
        other, other_metrics = step(plain)(start(plain), theta, toy.batch())
        close(ours.label_prompts, other.label_prompts)
        assert ours_metrics["meta_grad_norm"] > 1e-4 and other_metrics["meta_grad_norm"] == 0
        for name in ("loss", "gen", "dist", "token_weights", "weight_entropy"):
            np.testing.assert_allclose(ours_metrics[name], other_metrics[name], rtol=1e-5, err_msg=name)


def test_fewgen_is_dawgen_without_l_dist_and_with_the_loss_as_the_weight_nets_input():
    differing = {name: value for name, value in vars(FEWGEN).items() if value != getattr(CONFIG, name)}
    assert differing == {"dist_weight": 0.0, "weight_input": "loss"}
    assert set(start(FEWGEN).weight_net) == {"w1", "b1", "w2", "b2"} and set(start().weight_net) == {"w"}


@pytest.mark.parametrize("weight_input", ["hidden", "loss"])
def test_l_dist_in_the_real_step_alone_leaves_the_weight_net_alone_and_adds_a_linear_term(theta, weight_input):
    batch, gradients, nets = toy.batch(), [], []
    for weight in (0.0, 1.0, 2.0):
        config = dataclasses.replace(CONFIG, dist_weight=weight, weight_input=weight_input, dist_in_virtual=False)
        state, metrics = step(config)(start(config), theta, batch)
        np.testing.assert_allclose(metrics["loss"], metrics["gen"] + weight * metrics["dist"], rtol=1e-6)
        clip = jnp.maximum(1, metrics["grad_norm"] / config.clip_norm)
        gradients.append(jax.tree.map(lambda m, clip=clip: 10 * m * clip, state.opt_state[1][0].mu))
        nets.append(state.weight_net)
    close(gradients[1], jax.tree.map(lambda a, b: (a + b) / 2, gradients[0], gradients[2]))
    close(nets[0], nets[1], 1e-6)

    def weighted(Q):  # L_wGen alone
        hidden = scores.hidden_states(Q, theta, batch, range(1), model=toy.MODEL)
        values = losses.nll(scores.log_prob(theta, hidden, batch.target, model=toy.MODEL))
        return jnp.sum(metrics["token_weights"] * values)

    close(gradients[0], toy.jit(jax.grad(weighted))(toy.label_prompts()))


def test_l_dist_in_the_virtual_step_counts(theta):
    real_only = dataclasses.replace(CONFIG, dist_in_virtual=False)
    ours, ours_metrics = step()(start(), theta, toy.batch())
    other, other_metrics = step(real_only)(start(), theta, toy.batch())
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max() / jnp.abs(b).max(), ours.weight_opt_state[1][0].mu,
                         other.weight_opt_state[1][0].mu)
    assert moved["w"] > 0.01
    assert abs(ours_metrics["disc_virtual"] - other_metrics["disc_virtual"]) > 1e-4
    np.testing.assert_allclose(ours_metrics["disc"], other_metrics["disc"], rtol=1e-6)


@pytest.mark.parametrize("weight_input", ["hidden", "loss"])
def test_distance_weight_zero_is_fewgen_step_for_step(theta, monkeypatch, weight_input):
    config = dataclasses.replace(CONFIG, dist_weight=0.0, weight_input=weight_input)
    real_only = dataclasses.replace(config, dist_in_virtual=False)
    assert weight_input == "hidden" or config == FEWGEN
    ours, other, without_dist = start(config), start(config), start(config)
    for seed in range(3):
        ours, metrics = step(config)(ours, theta, toy.batch(seed))
        other, _ = step(real_only)(other, theta, toy.batch(seed))
        assert metrics["dist"] > 0
    chex.assert_trees_all_equal(ours, other)

    def nothing(pooled, label, valid, **options):
        return jnp.zeros(label.shape), jnp.zeros(label.shape), valid

    monkeypatch.setattr(losses, "dist", nothing)
    without = toy.jit(functools.partial(generator_step, config=config, model=toy.MODEL, num_steps=NUM_STEPS))
    for seed in range(3):
        without_dist, metrics = without(without_dist, theta, toy.batch(seed))
        assert metrics["dist"] == 0
    chex.assert_trees_all_equal(ours, without_dist)


def test_padding_tokens_and_rows_never_matter(float64):
    update, state, theta, batch = float64
    after, metrics = update(state, theta, batch)
    random = np.random.default_rng(1)

    def noise(tokens, mask):
        return np.where(mask, tokens, random.integers(2, 30, tokens.shape)).astype(np.int32)

    wide = {name: np.pad(getattr(batch, name), [(0, 0), (0, 2)], constant_values=fill) for name, fill in
            (("source", 0), ("source_mask", False), ("slots", -1), ("target", 0), ("target_mask", False))}
    wide = GeneratorBatch(**wide, label=batch.label)
    wide = wide._replace(source=noise(wide.source, wide.source_mask), target=noise(wide.target, wide.target_mask))
    extra = toy.batch(5, source=8, target=7)
    extra = extra._replace(target_mask=np.zeros_like(extra.target_mask))
    padded = GeneratorBatch(*(np.concatenate(pair) for pair in zip(wide, extra, strict=True)))
    wide_after, wide_metrics = update(state, theta, padded)
    close(wide_after, after, 1e-10)
    close(wide_metrics["token_weights"][:6, :5], metrics["token_weights"], 1e-10)
    assert not wide_metrics["token_weights"][6:].any() and not wide_metrics["token_weights"][:, 5:].any()
    for name in ("loss", "gen", "nll", "disc", "disc_virtual", "dist", "dist_active", "weight_entropy", "grad_norm",
                 "meta_grad_norm"):
        np.testing.assert_allclose(wide_metrics[name], metrics[name], rtol=1e-10, err_msg=name)


def test_swapping_two_labels_swaps_two_prompts(float64):
    update, state, theta, batch = float64
    swap = np.array([1, 0, 2])

    def exchange(prompts):
        return jax.tree.map(lambda leaf: leaf[swap], prompts)

    after, metrics = update(state, theta, batch)
    other, other_metrics = update(state.replace(label_prompts=exchange(state.label_prompts)), theta,
                                  batch._replace(label=swap[batch.label].astype(np.int32)))
    close(other_metrics, metrics, 1e-10)
    close(other.label_prompts, exchange(after.label_prompts), 1e-10)
    close(other.opt_state[1][0].mu, exchange(after.opt_state[1][0].mu), 1e-10)
    close((other.weight_net, other.weight_opt_state), (after.weight_net, after.weight_opt_state), 1e-10)


def test_seeds_in_one_program_agree_with_separate_runs(theta):
    """Several devices with one: tests/training/test_placement.py."""
    batches = [toy.batch(seed, labels=(0, 1, 2, 0, 1, 2, 0, 1)) for seed in (1, 2)]
    both = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    update = functools.partial(generator_step, config=CONFIG, model=toy.MODEL, num_steps=NUM_STEPS)
    chex.clear_trace_counter()
    seeds = toy.jit(chex.assert_max_traces(lambda *args: jax.vmap(update, in_axes=(0, None, 0))(*args), n=1))
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), start(seed=0), start(seed=1))
    for _ in range(3):
        together, figures = seeds(together, theta, both)
    for seed, batch in enumerate(batches):
        state = start(seed=seed)
        for _ in range(3):
            state, metrics = step()(state, theta, batch)
        close(jax.tree.map(lambda leaf, seed=seed: leaf[seed], together), state)
        np.testing.assert_allclose(metrics["loss"], figures["loss"][seed], rtol=1e-5)


@pytest.mark.parametrize(("asked", "examples", "parts"), [(0, 6, 3), (0, 8, 2), (0, 2, 2), (4, 6, 3), (5, 7, 1),
                                                          (8, 8, 8), (100, 6, 6)])
def test_disc_is_taken_in_as_many_equal_parts_as_asked_for_or_fewer(asked, examples, parts):
    config = dataclasses.replace(CONFIG, disc_chunks=asked)
    assert _chunks(config, toy.batch(labels=(0,) * examples), toy.label_prompts()) == parts


@pytest.mark.parametrize("where", ["theta", "prompt", "omega"])
def test_anything_not_finite_leaves_the_state_as_it_was_and_nothing_changes_from_then_on(theta, where):
    state, _ = step()(start(), theta, toy.batch())
    assert state.ok and state.step == 1
    broken = theta
    if where == "theta":
        broken = theta | {"head": theta["head"].at[7].set(jnp.nan)}
    elif where == "prompt":
        prompts = state.label_prompts
        state = state.replace(label_prompts=prompts | {"prompt": prompts["prompt"].at[1, 0, 0].set(jnp.inf)})
    else:
        state = state.replace(weight_net={"w": state.weight_net["w"].at[0].set(jnp.nan)})
    after, _ = step()(state, broken, toy.batch())
    assert not after.ok
    chex.assert_trees_all_equal(after, state.replace(ok=after.ok))
    again, _ = step()(after, theta, toy.batch(1))
    chex.assert_trees_all_equal(again, after)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("config", [GeneratorConfig(), fixed_by(GeneratorConfig(disc="ce_rawlogit"), "FewGen")],
                         ids=["dawgen", "fewgen"])
def test_t5_large_in_bfloat16_keeps_its_states_shapes_and_dtypes(config, remat):
    shape = dataclasses.replace(toy.SHAPE, vocab_size=32128, d_model=1024, d_kv=64, d_ff=2816, num_layers=24,
                                num_decoder_layers=24, num_heads=16, dtype="bfloat16", scan_unroll=1, remat=remat)
    prompts = {name: jax.ShapeDtypeStruct((3, rows, 1024), jnp.float32)
               for name, rows in (("prompt", 20), ("infix", 4))}
    state = jax.eval_shape(functools.partial(init_state, config=config, num_steps=9), prompts, jax.random.key(0))
    theta = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), t5.abstract(shape))
    update = functools.partial(generator_step, config=config, model=T5(shape), num_steps=9)
    after, metrics = jax.eval_shape(update, state, theta, toy.batch())
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    names = ("loss", "disc", "dist", "weight_entropy", "token_weights")
    assert {metrics[name].dtype for name in names} == {jnp.dtype("float32")}
