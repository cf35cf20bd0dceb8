"""What every aggregator owes to the code around it, as optax's own transforms do: one suite, no case of its own.

Each case is a factory and its arguments, so that wrappers of factories (``optax.inject_hyperparams``) are covered too.
"""

import contextlib
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dawgen_jax.errors import ConfigError
from dawgen_jax.surgery import AggregatorState, aggregator, gradient_surgery, weighted_sum

CASES = {
    "surgery": (gradient_surgery, {"epsilon": 0.25, "reference": 1}),
    "sum": (weighted_sum, {"epsilon": 2.0, "reference": 1}),
    **{f"{name}-{scope}": (aggregator, {"name": name, "epsilon": 0.5, "scope": scope, "seed": 3}) for name, scope in (
        ("surgery", "leaf"), ("surgery", "row"), ("pcgrad", "row"), ("mgda", "leaf"), ("cagrad", "global"),
        ("upgrad", "global"))},
}
PARAMS = {"bias": jnp.zeros(()), "prompt": jnp.zeros((2, 3))}
SOURCES = 3
# Compiling costs more than running at this size.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(params=CASES)
def case(request):
    return request.param


def make(case):
    factory, options = CASES[case]
    return factory(**options)


@functools.cache
def compiled(case):
    """One program per case for gradients like :func:`gradients`."""
    return jit(make(case).update)


def gradients(seed=0, dtype=np.float32, params=PARAMS):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=(SOURCES, *leaf.shape)), dtype), params)


def assert_bitwise(actual, expected):
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
    chex.assert_trees_all_equal(actual, expected)


def test_the_state_keeps_its_structure_and_no_call_compiles_again(case):
    tx = make(case)
    update = jit(tx.update)
    state = tx.init(PARAMS)
    for seed in range(3):
        before, (updates, state) = state, update(gradients(seed), state, PARAMS)
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, PARAMS)
        assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, before)  # weak types included
        chosen = jax.lax.cond(jnp.array(True), lambda: state, lambda: before)  # noqa: B023
        assert_bitwise(chosen, state)
    assert update._cache_size() == 1 and state.count == 3 and state.nonfinite == 0


def test_without_jit_under_jit_and_under_vmap_it_is_the_same(case):
    tx, every = make(case), [gradients(seed) for seed in range(3)]
    state = tx.init(PARAMS)
    alone = [compiled(case)(grads, state, PARAMS) for grads in every]
    chex.assert_trees_all_close(tx.update(every[0], state, PARAMS), alone[0], rtol=1e-5, atol=1e-5)
    together = jit(jax.vmap(tx.update, (0, None)))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *every), state)
    chex.assert_trees_all_close(together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtypes", [("float16", "bfloat16"), ("float64", "complex64")])
def test_dtypes_are_kept(case, dtypes):
    with jax.enable_x64("float64" in dtypes):
        params = {name: leaf.astype(dtype) for (name, leaf), dtype in zip(PARAMS.items(), dtypes, strict=True)}
        grads = {name: leaf.astype(params[name].dtype) for name, leaf in gradients().items()}
        tx = make(case)
        updates, state = jit(tx.update)(grads, tx.init(params), params)
        chex.assert_trees_all_equal_shapes_and_dtypes((updates, state), (params, tx.init(params)))
        expected, _ = compiled(case)(gradients(), tx.init(PARAMS), PARAMS)
        chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf.real.astype(np.float32), updates), expected,
                                    rtol=0.05, atol=0.05)


def test_arguments_and_calls_that_optax_allows(case):
    tx, grads = make(case), gradients()
    expected = compiled(case)(grads, tx.init(PARAMS), PARAMS)
    assert_bitwise(compiled(case)(grads, tx.init(PARAMS)), expected)  # without params
    assert_bitwise(compiled(case)(jax.tree.map(np.asarray, grads), tx.init(PARAMS), PARAMS), expected)
    assert_bitwise(jit(lambda *args: tx.update(*args, value=1.0, unknown=None))(grads, tx.init(PARAMS), PARAMS),
                   expected)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), PARAMS)
    assert_bitwise(tx.init(shapes), tx.init(PARAMS))
    assert_bitwise(optax.tree.map_params(tx, lambda leaf: leaf + 1, expected[1]), expected[1])


@pytest.mark.parametrize("tree", [{}, {"a": (), "b": None}])
def test_an_empty_tree_passes(case, tree):
    tx = make(case)
    updates, state = tx.update(tree, tx.init(tree), tree)
    assert updates == tree and state.count == 1 and state.conflicts == 0
    chex.assert_trees_all_equal_shapes_and_dtypes(state, tx.init(tree))


def test_arrays_of_size_zero_and_gradients_of_integers_pass_and_change_nothing(case):
    tx, grads = make(case), gradients()
    expected = tx.update(grads, tx.init(PARAMS), PARAMS)
    empty = {"e0": jnp.zeros(0), "e1": jnp.zeros((0, 3)), "e2": jnp.zeros((2, 0))}
    counts = {"i0": jnp.arange(3), "i1": jnp.array(4)}

    def loss(params, scale):  # linear in what is trained, and blind to the rest
        return sum(jnp.sum(scale[name] * params[name]) for name in PARAMS)

    params = PARAMS | empty | counts
    more = jax.vmap(jax.grad(loss, allow_int=True), (None, 0))(params, grads)
    assert more["i0"].dtype == jax.dtypes.float0 and more["e1"].shape == (SOURCES, 0, 3)
    for update in (tx.update, jit(tx.update)):
        updates, state = update(more, tx.init(params), params)
        chex.assert_trees_all_close(({name: updates[name] for name in PARAMS}, state), expected, rtol=1e-5, atol=1e-5)
        assert {name: updates[name].shape for name in empty | counts} == {
            name: leaf.shape for name, leaf in (empty | counts).items()}
        assert updates["i1"].dtype == jax.dtypes.float0
    alone, state = tx.update({"e": jnp.zeros((SOURCES, 2, 0))}, tx.init(None))
    assert alone["e"].shape == (2, 0) and state.count == 1 and state.nonfinite == 0


def test_it_works_in_masked_and_in_partition(case):
    tx, grads = make(case), gradients()
    state = tx.init(PARAMS)
    mask = {"bias": False, "prompt": True}
    masked = optax.masked(tx, mask)
    updates, after = jit(masked.update)(grads, masked.init(PARAMS), PARAMS)
    expected, expected_state = tx.update({"prompt": grads["prompt"]}, state)
    chex.assert_trees_all_close(updates, expected | {"bias": grads["bias"]}, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(after.inner_state, expected_state, rtol=1e-5, atol=1e-5)

    parts = optax.partition({True: tx, False: make(case)}, mask)
    chained = optax.chain(parts, optax.sgd(0.1))
    updates, after = jit(chained.update)(grads, chained.init(PARAMS), PARAMS)
    expected |= tx.update({"bias": grads["bias"]}, state)[0]
    chex.assert_trees_all_close(updates, jax.tree.map(lambda leaf: -0.1 * leaf, expected), rtol=1e-5, atol=1e-5)
    assert len(optax.tree.get_all_with_path(after, "AggregatorState")) == 2


def test_its_statistics_are_found_by_name_in_a_chain_of_any_order(case):
    clip = optax.stateless(lambda grads, params: jax.tree.map(lambda leaf: jnp.clip(leaf, -1, 1), grads))
    tx = optax.named_chain(("clip", clip), ("aggregate", make(case)), ("adam", optax.adam(0.1)))
    _, state = jit(tx.update)(gradients(), tx.init(PARAMS), PARAMS)
    found = optax.tree.get(state, "AggregatorState")
    assert isinstance(found, AggregatorState) and found.count == 1
    assert optax.tree.get(state, "cosine") == found.cosine


def test_numbers_may_be_injected_and_changed(case):
    factory, options = CASES[case]
    tx = optax.inject_hyperparams(factory)(**options)
    grads, update = gradients(), jit(tx.update)
    updates, state = update(grads, jit(tx.init)(PARAMS), PARAMS)
    chex.assert_trees_all_close((updates, state.inner_state), compiled(case)(grads, make(case).init(PARAMS), PARAMS),
                                rtol=1e-5, atol=1e-5)
    state.hyperparams["epsilon"] = jnp.float32(0.75)
    again, later = update(grads, state, PARAMS)
    by_hand = factory(**options | {"epsilon": 0.75})
    chex.assert_trees_all_close((again, later.inner_state), by_hand.update(grads, state.inner_state, PARAMS),
                                rtol=1e-5, atol=1e-5)
    scheduled = optax.inject_hyperparams(factory)(**options | {"epsilon": optax.constant_schedule(0.75)})
    updates, _ = jit(scheduled.update)(grads, scheduled.init(PARAMS), PARAMS)
    chex.assert_trees_all_close(updates, by_hand.update(grads, by_hand.init(PARAMS), PARAMS)[0], rtol=1e-5, atol=1e-5)


def test_multi_steps_after_it_per_source_or_a_clear_error(case):
    every = [gradients(seed) for seed in range(2)]
    after = optax.chain(make(case), optax.MultiSteps(optax.sgd(1.0), 2).gradient_transformation())
    state, update = after.init(PARAMS), jit(after.update)
    for grads in every:
        updates, state = update(grads, state, PARAMS)
    inner, directions = make(case).init(PARAMS), []
    for grads in every:
        direction, inner = compiled(case)(grads, inner, PARAMS)
        directions.append(direction)
    chex.assert_trees_all_close(updates, jax.tree.map(lambda a, b: -(a + b) / 2, *directions), rtol=1e-5, atol=1e-5)

    around = optax.MultiSteps(make(case), 2)
    state, update = around.init(every[0]), jit(around.update)
    for grads in every:
        updates, state = update(grads, state)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *every)
    chex.assert_trees_all_close(updates, compiled(case)(mean, make(case).init(PARAMS), PARAMS)[0], rtol=1e-4, atol=1e-5)

    wrong = optax.MultiSteps(optax.chain(make(case), optax.sgd(1.0)), 2)
    with pytest.raises(ConfigError, match=r"expected \[S, 2, 3\].*put optax.MultiSteps after the aggregator\."):
        wrong.update({"prompt": every[0]["prompt"]}, wrong.init({"prompt": PARAMS["prompt"]}),
                     {"prompt": PARAMS["prompt"]})


LARGEST = float(np.finfo(np.float32).max)
HOSTILE = {
    "zeros": [0, 0, 0], "minus zero": [-0.0, -0.0, -0.0], "one zero": [0, 1, -1], "equal": [1, 1, 1],
    "opposite": [1, -1, 1], "subnormal": [1e-45, -1e-45, 1e-40], "smallest normal": [2.0**-126, -(2.0**-126), 0],
    "huge": [1e38, -1e38, 1e38], "ends": [1e-45, LARGEST, -LARGEST], "overflowing sum": [LARGEST] * 3,
    "nan": [1, np.nan, 1], "inf": [np.inf, 1, 1], "minus inf": [1, 1, -np.inf], "both": [np.inf, -np.inf, np.nan],
}


@pytest.mark.parametrize("factors", HOSTILE.values(), ids=HOSTILE)
def test_whatever_the_values_the_direction_is_finite_and_the_next_update_is_not_spoiled(case, factors):
    tx = make(case)
    factors = np.array(factors, np.float32)
    with np.errstate(all="ignore"):
        grads = {name: jnp.asarray(np.sign(leaf) * factors.reshape(-1, *[1] * (leaf.ndim - 1)))
                 for name, leaf in jax.tree.map(np.asarray, gradients()).items()}
    updates, state = compiled(case)(grads, tx.init(PARAMS), PARAMS)
    leaves = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(updates)])
    assert np.isfinite(leaves).all() and np.isfinite(np.array(state)).all()
    assert state.count + state.nonfinite == 1 and 0 <= state.conflicts <= state.count and -1.001 < state.cosine < 1.001
    if not np.isfinite(factors).all():
        assert state.nonfinite == 1
    if state.nonfinite:
        assert not leaves.any()
    good = gradients(1)
    chex.assert_trees_all_close(compiled(case)(good, state, PARAMS)[1].count, state.count + 1)


def test_gradients_that_do_not_fit_are_refused(case):
    tx, grads = make(case), gradients()
    state = tx.init(PARAMS)
    for wrong, message in (
        ({"bias": jnp.float32(1)}, r"^gradients\['bias'\]: expected \[S\], got \[\]; take one gradient per source"),
        ({"prompt": grads["prompt"][0]}, r"^gradients\['prompt'\]: expected \[3, 2, 3\], got \[2, 3\]"),
        ({"prompt": grads["prompt"][:2]}, r"^gradients\['prompt'\]: expected \[3, 2, 3\], got \[2, 2, 3\]"),
        ({"prompt": jnp.zeros((3, 2, 3), jnp.int32)}, r"^gradients\['prompt'\]: expected a floating-point dtype, got"),
    ):
        with pytest.raises(ConfigError, match=message):
            tx.update(grads | wrong, state, PARAMS)
    with pytest.raises(ConfigError, match=r"expected \[3, \.\.\.\], got \[2, 2, 3\]"):  # without params
        tx.update(grads | {"prompt": grads["prompt"][:2]}, state)
    with pytest.raises(ConfigError, match="expected an array for each of the 2 parameter arrays, got 1"):
        tx.update({"bias": grads["bias"]}, state, PARAMS)
    with pytest.raises(ConfigError, match=r"expected \[S, \.\.\.\], got \[0, 2\]"):
        tx.update(jnp.zeros((0, 2)), state)


def test_the_defaults_of_jax_do_not_matter(case):
    tx = make(case)
    expected = compiled(case)(gradients(), tx.init(PARAMS), PARAMS)
    with contextlib.ExitStack() as stack:
        for switch in (jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"),
                       jax.default_matmul_precision("bfloat16"), jax.default_prng_impl("rbg")):
            stack.enter_context(switch)
        update = jit(make(case).update)
        actual = update(gradients(), tx.init(PARAMS), PARAMS)
        program = update.lower(gradients(), tx.init(PARAMS), PARAMS).as_text()
    assert_bitwise(jax.tree.map(np.asarray, actual), jax.tree.map(np.asarray, expected))
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert products and all("precision = [HIGHEST, HIGHEST]" in line for line in products)
