"""One update of the prompt: what moves, what padding does, what a non-finite loss does, devices and seeds."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dawgen_jax import prompts
from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.config import ClassifierConfig
from dawgen_jax.data.batches import pad_rows, stack, take
from dawgen_jax.errors import ConfigError
from dawgen_jax.methods import verbalizer
from dawgen_jax.surgery import aggregator, gradient_surgery, weighted_sum
from dawgen_jax.training import optimisers
from dawgen_jax.training.placement import Placement
from dawgen_jax.training.step import init_state, train_step
from tests import tiny
from tests.generator import toy
from tests.oracles import prompt_loss

CONFIG = ClassifierConfig(learning_rate=0.1)


def transform(name="surgery", steps=10):
    return optax.chain(aggregator(name, epsilon=1.0, scope="global"), optimisers.adafactor(CONFIG, steps))


def start(seed=0, rows=4):
    return np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def theta():
    return tiny.theta()


def step_with(tx):
    loss_fn = functools.partial(prompt_loss, model=tiny.MODEL, label_ids=tiny.LABEL_IDS)
    return functools.partial(train_step, loss_fn=loss_fn, tx=tx)


@pytest.fixture(scope="module")
def step():
    return jax.jit(step_with(transform()))


def test_class_scores_are_the_label_words_logits_of_the_full_model(theta):
    batch, prompt = tiny.classifier_set(4, 0), start()
    score = functools.partial(verbalizer.class_scores, model=tiny.MODEL, label_ids=tiny.LABEL_IDS)
    scores = jax.jit(score)(prompt, theta, batch)

    @jax.jit
    def full_logits():
        embeddings, mask = prompts.insert(theta, batch.tokens, batch.mask, prompt, model=tiny.MODEL)
        encoded = model.encode(theta, embeddings, mask, config=tiny.T5)
        # OpenPrompt's three decoder tokens: start, mask, end of sequence; scored at the mask.
        decoder = jnp.tile(jnp.array([[0, tiny.MODEL.mask_id, 1]]), (4, 1))
        return model.logits(theta, model.decode(theta, decoder, encoded, mask, config=tiny.T5), config=tiny.T5)[:, 1]

    full = full_logits()
    np.testing.assert_allclose(scores, full[:, np.array(tiny.LABEL_IDS)], rtol=1e-5, atol=1e-5)


def test_cross_entropy_closed_form():
    value = verbalizer.cross_entropy(jnp.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]), jnp.array([1, 2]))
    np.testing.assert_allclose(value, [np.log(3), np.log(1 + np.exp(-1) + np.exp(-2))], rtol=1e-6)


def test_only_the_prompt_moves_and_padding_rows_and_columns_do_not_matter(theta, step):
    batch = stack([tiny.classifier_set(4, 1), tiny.classifier_set(4, 2)])
    before = jax.tree.map(np.array, theta)
    state, metrics = step(init_state(start(), transform()), theta, batch)
    chex.assert_trees_all_equal(before, theta)
    assert np.abs(state.params - start()).max() > 0 and int(state.step) == 1
    wide = [np.pad(leaf, [(0, 0), (0, 0), (0, 3)]) for leaf in (batch.tokens, batch.mask)]
    wide = batch._replace(tokens=wide[0], mask=wide[1])
    padded = stack([pad_rows(take(wide, s), 8) for s in range(2)])
    other, other_metrics = step(init_state(start(), transform()), theta, padded)
    np.testing.assert_allclose(other.params, state.params, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(other_metrics["loss"], metrics["loss"], rtol=1e-5)
    np.testing.assert_allclose(other_metrics["grad_norm"], metrics["grad_norm"], rtol=1e-4)


@pytest.mark.parametrize("name", ["sum", "surgery"])
def test_without_conflict_surgery_is_the_sum(theta, name):
    batch = stack([tiny.classifier_set(4, 1), tiny.classifier_set(4, 1)])  # equal sources agree
    tx = transform(name)
    state, metrics = jax.jit(step_with(tx))(init_state(start(), tx), theta, batch)
    single = transform("sum")
    alone, _ = jax.jit(step_with(single))(init_state(start(), single), theta, stack([tiny.classifier_set(4, 1)]))
    np.testing.assert_allclose(metrics["cosine"], 1, rtol=1e-5)
    assert metrics["conflict"] == 0
    # Adafactor's first step does not see the factor 2 but through its epsilon and the clip.
    np.testing.assert_allclose(state.params, alone.params, rtol=1e-4, atol=1e-4)


def test_epsilon_one_without_conflict_is_the_arm_real_syn_step_for_step(theta):
    real, other = tiny.classifier_set(6, 1), tiny.classifier_set(6, 2)
    mixed = jax.tree.map(lambda a, b: np.concatenate([a[:4], b[4:]]), real, other)
    batch = stack([real, mixed])  # four rows of six in common: different gradients that agree
    ends = []
    for name in ("surgery", "sum"):
        tx = transform(name)
        update, state = toy.jit(step_with(tx)), init_state(start(), tx)
        for _ in range(3):
            state, metrics = update(state, theta, batch)
            assert 0 < metrics["cosine"] < 0.99
        assert optax.tree.get(state.opt_state, "conflicts") == 0 and state.step == 3
        ends.append(state.params)
    np.testing.assert_allclose(*ends, rtol=1e-6)


def test_a_non_finite_loss_leaves_everything_as_it_was(theta, step):
    batch = stack([tiny.classifier_set(4, 1), tiny.classifier_set(4, 2)])
    state, _ = step(init_state(start(), transform()), theta, batch)
    broken = jax.tree.map(lambda leaf: leaf, theta) | {"head": theta["head"].at[5].set(jnp.nan)}
    after, metrics = step(state, broken, batch)
    assert not np.isfinite(metrics["loss"]).all() and not after.ok
    chex.assert_trees_all_equal((after.step, after.params, after.opt_state),
                                (state.step, state.params, state.opt_state))
    later, _ = step(after, theta, batch)  # and it stays so: the step counter names the update that failed
    chex.assert_trees_all_equal((later.step, later.params), (state.step, state.params))


def test_one_and_four_devices_and_vmapped_seeds_agree(theta, step):
    batches = [stack([tiny.classifier_set(8, 10 + k), tiny.classifier_set(8, 20 + k)]) for k in range(2)]
    batches[1].label[1] = (batches[1].label[0] + 1) % 3
    for leaf in batches[1][:2]:
        leaf[1] = leaf[0]  # the same text under other labels: a conflict for sure
    many = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    starts = np.stack([start(0), start(1)])
    outcomes = []
    seeds = jax.vmap(step_with(transform()), in_axes=(0, None, 0))
    for devices in (1, 4):
        placement = Placement.on(devices)
        chex.clear_trace_counter()
        update = placement.compile_step(chex.assert_max_traces(lambda *args: seeds(*args), n=1), batch_axis=2)
        state = jax.vmap(functools.partial(init_state, tx=transform()))(jnp.array(starts))
        state = placement.put(state)
        for _ in range(3):
            state, metrics = update(state, theta, many)
        outcomes.append((np.asarray(state.params), np.asarray(metrics["loss"])))
        assert optax.tree.get(state.opt_state, "conflicts")[1] > 0
    for params, loss in outcomes[1:]:
        np.testing.assert_allclose(params, outcomes[0][0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(loss, outcomes[0][1], rtol=1e-5)
    for k, batch in enumerate(batches):
        alone = init_state(starts[k], transform())
        for _ in range(3):
            alone, _ = step(alone, theta, batch)
        np.testing.assert_allclose(outcomes[0][0][k], alone.params, rtol=1e-5, atol=1e-5)


def squares(params, frozen, batch):
    """A loss whose gradient is the difference to the batch's mean."""
    return sum(jnp.sum((leaf - target) ** 2) for leaf, target in zip(
        jax.tree.leaves(params), jax.tree.leaves(jax.tree.map(lambda leaf: leaf.mean(axis=0), batch)), strict=True)) / 2


PARAMS = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([0.5, 0.25, 3.0])}
TARGETS = {"a": jnp.array([[[2.0, -2.0]], [[-9.0, -2.5]]]), "b": jnp.array([[[1.0, 1.0, 1.0]], [[0.0, 2.0, 1.0]]])}


def updated(tx, targets=TARGETS):
    return jax.jit(functools.partial(train_step, loss_fn=squares, tx=tx))(init_state(PARAMS, tx), (), targets)


@pytest.mark.parametrize("chain", [
    lambda *parts: optax.chain(*parts),
    lambda *parts: optax.chain(optax.identity(), optax.chain(*parts)),
    lambda *parts: optax.named_chain(*((str(number), part) for number, part in enumerate(parts))),
    lambda aggregate, *rest: optax.chain(optax.stateless(lambda grads, params: grads), aggregate, *rest),
    lambda *parts: optax.with_extra_args_support(optax.masked(optax.chain(*parts), {"a": True, "b": True})),
], ids=["first", "nested", "named", "second", "masked"])
def test_metrics_do_not_depend_on_where_the_aggregator_is(chain):
    expected = updated(optax.chain(gradient_surgery(), optax.sgd(0.1, momentum=0.9)))
    state, metrics = updated(chain(gradient_surgery(), optax.sgd(0.1, momentum=0.9)))
    chex.assert_trees_all_close((metrics, state.params), (expected[1], expected[0].params), rtol=1e-6)
    assert metrics["conflict"] == 1 and metrics["cosine"] < 0 and metrics["projected_share"] == -metrics["cosine"]


def test_aggregators_of_parts_are_reported_by_their_mean():
    _, expected = updated(optax.chain(gradient_surgery(scope="leaf"), optax.sgd(0.1)))  # each leaf counts alike
    tx = optax.chain(optax.partition({"a": gradient_surgery(), "b": weighted_sum()}, {"a": "a", "b": "b"}),
                     optax.sgd(0.1))
    _, metrics = updated(tx)
    for name in ("cosine", "conflict", "projected_share"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-6)
    assert metrics["conflict"] == 0.5


def test_one_source_needs_no_aggregator_and_several_do():
    alone = jax.tree.map(lambda leaf: leaf[:1], TARGETS)
    state, metrics = updated(optax.adam(0.1), alone)
    expected, _ = updated(optax.chain(weighted_sum(), optax.adam(0.1)), alone)
    chex.assert_trees_all_equal(state.params, expected.params)
    assert metrics.keys() == {"loss", "grad_norm", "update_norm", "param_norm"}
    with pytest.raises(ConfigError, match=r"^tx has no aggregator for the gradients of 2 sources; .*gradient_surgery"):
        updated(optax.adam(0.1))


@pytest.mark.parametrize("tx", [optax.sign_sgd(0.1), optax.chain(gradient_surgery(), optax.sign_sgd(0.1))])
def test_an_infinite_gradient_is_not_committed_even_if_the_update_is_finite(tx):
    def steep(params, frozen, batch):
        return jnp.where(batch > 0, jnp.sqrt(params), 0.0).sum()  # finite at 0, where its gradient is not

    state = init_state(jnp.zeros(2), tx)
    after, metrics = jax.jit(functools.partial(train_step, loss_fn=steep, tx=tx))(state, (), jnp.ones((1, 2)))
    assert jnp.isfinite(metrics["loss"]).all() and not after.ok and after.step == 0
    chex.assert_trees_all_equal(after.params, state.params)


def test_the_defaults_of_jax_do_not_matter():
    tx = optax.chain(gradient_surgery(), optax.clip_by_global_norm(1.0),
                     optax.adam(optax.cosine_decay_schedule(0.1, 7), b1=0.87))
    step = functools.partial(train_step, loss_fn=squares, tx=tx)

    def run():
        state, update = init_state(jax.tree.map(np.asarray, PARAMS), tx), jax.jit(lambda *args: step(*args))
        for _ in range(3):
            state, metrics = update(state, (), TARGETS)
        return jax.tree.map(np.asarray, (state, metrics))

    expected = run()
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.default_matmul_precision("bfloat16"):
        actual = run()
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
    chex.assert_trees_all_equal(actual, expected)


@pytest.mark.parametrize("unroll", [0, 1])
def test_rematerialisation_leaves_the_gradient_and_is_kept_apart_by_a_loop_or_a_barrier(unroll):
    """The CPU's compiler drops barriers before it assigns memory, so only the loop's saving can be seen here."""
    batch, gradients, memory = tiny.classifier_set(8, 1, width=16), [], []
    for remat in (False, True):
        t5 = dataclasses.replace(tiny.T5, num_layers=8 if unroll else 2, num_decoder_layers=2, scan_unroll=unroll,
                                 remat=remat)

        def loss(prompt, theta, t5=t5):
            return prompt_loss(prompt, theta, batch, model=T5(t5, 39), label_ids=tiny.LABEL_IDS)

        theta = toy.jit(functools.partial(model.init, t5))(jax.random.key(0))
        lowered = toy.jit(jax.grad(loss)).lower(start(), theta)
        assert ("optimization_barrier" in lowered.as_text()) == (unroll == 0)
        compiled = lowered.compile()
        gradients.append(compiled(start(), theta))
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
    np.testing.assert_allclose(*gradients, rtol=1e-6, atol=1e-6)
    if unroll:
        assert memory[1] < memory[0] / 2


def test_norms_and_gated_activations_keep_their_inputs_alone():
    """Of the arrays of a feed-forward block's width, a layer keeps the two that the product before made."""
    t5 = dataclasses.replace(tiny.T5, num_layers=3, d_ff=56, activation="gelu_new", gated=True, scan_unroll=1)
    theta = toy.jit(functools.partial(model.init, t5))(jax.random.key(0))
    x, mask = jnp.ones((2, 5, t5.d_model)), jnp.ones((2, 5), bool)
    _, pullback = jax.vjp(lambda x: model.encode(theta, x, mask, config=t5), x)
    kept = [leaf.shape for leaf in jax.tree.leaves(pullback) if leaf.shape[-1:] == (t5.d_ff,) and leaf.ndim > 3]
    assert kept == [(3, 2, 5, t5.d_ff)] * 2


def test_a_prompt_of_100_rows_of_1024_is_the_papers_102k():
    assert jax.eval_shape(lambda: init_state(jnp.zeros((100, 1024)), transform())).params.size == 102_400


@pytest.mark.parametrize("remat", [False, True])
def test_t5_large_in_bfloat16_keeps_its_states_shapes_and_dtypes(remat):
    t5 = dataclasses.replace(tiny.T5, vocab_size=32128, d_model=1024, d_kv=64, d_ff=2816, num_layers=24,
                             num_decoder_layers=24, num_heads=16, dtype="bfloat16", scan_unroll=1, remat=remat)
    tx = transform()
    state = jax.eval_shape(functools.partial(init_state, tx=tx), jax.ShapeDtypeStruct((100, 1024), jnp.float32))
    theta = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), model.abstract(t5))
    loss_fn = functools.partial(prompt_loss, model=T5(t5, 32099), label_ids=(4273, 7163, 150))
    update = functools.partial(train_step, loss_fn=loss_fn, tx=tx)
    after, metrics = jax.eval_shape(update, state, theta, stack([tiny.classifier_set(4, 1), tiny.classifier_set(4, 2)]))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert {metrics[name].dtype for name in ("loss", "grad_norm", "cosine")} == {jnp.dtype("float32")}
