"""Properties of Algorithm 2 and of every aggregator as an optax transform, at any scale, dtype and grouping."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dawgen_jax.errors import ConfigError
from dawgen_jax.surgery import aggregator, gradient_surgery, weighted_sum

NAMES = ("sum", "surgery", "pcgrad", "mgda", "cagrad", "upgrad")
SCOPES = [(name, "global") for name in NAMES] + [("surgery", "leaf"), ("surgery", "row")]
GOLDEN = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])


def apply(transform, grads):
    one = jax.tree.map(lambda leaf: leaf[0], grads)
    return transform.update(grads, transform.init(one), one)


def random_grads(seed, sources=2, scale=1.0):
    keys = jax.random.split(jax.random.key(seed), 2)
    return {"infix": scale * jax.random.normal(keys[0], (sources, 3, 4)),
            "prompt": scale * jax.random.normal(keys[1], (sources, 5, 4))}


def flat(tree):
    return np.concatenate([np.asarray(leaf, np.float64).reshape(-1) for leaf in jax.tree.leaves(tree)])


@functools.cache
def compiled(name="surgery", **options):
    return jax.jit(functools.partial(apply, aggregator(name, **options)))


GOLDEN_DIRECTIONS = {  # TorchJD's documentation has all but the first two
    "sum": [2, 2, 2], "surgery": [-2.8889, 3.2222, 3.2222], "pcgrad": [0.5848, 3.8012, 3.8012], "mgda": [0, 1, 1],
    "cagrad": [0.1835, 1.2041, 1.2041], "upgrad": [0.2929, 1.9004, 1.9004],
}


@pytest.mark.parametrize("name", NAMES)
def test_golden_directions(name):
    direction, state = compiled(name)(GOLDEN)
    # TorchJD prints CAGrad from an interior-point solver that stops at 1e-4.
    np.testing.assert_allclose(direction, GOLDEN_DIRECTIONS[name], atol=2e-4)
    assert state.count == 1 and state.conflicts == 1 and state.nonfinite == 0
    np.testing.assert_allclose(state.cosine, -22 / np.sqrt(18 * 38), rtol=1e-6)
    np.testing.assert_allclose(state.projected, 22 / np.sqrt(18 * 38), rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-10, 15), st.floats(-10, 15))
def test_projection_at_any_scale(seed, real_scale, synthetic_scale):
    """d_s' = d - d_r never points against d_r, and is d_s without conflict."""
    grads = random_grads(seed)
    grads = jax.tree.map(lambda leaf: leaf * jnp.array([10.0**real_scale, 10.0**synthetic_scale])
                         .astype(jnp.float32).reshape(2, 1, 1), grads)
    real, synthetic = (flat(jax.tree.map(lambda leaf, s=s: leaf[s], grads)) for s in range(2))
    direction, state = compiled()(grads)
    conflict = real @ synthetic < 0
    exact = real + synthetic - min(real @ synthetic, 0) / (real @ real) * real
    largest = max(np.abs(real).max(), np.abs(synthetic).max())
    np.testing.assert_allclose(flat(direction), exact, atol=2e-6 * largest)
    if abs(state.cosine) > 1e-6:
        assert bool(state.conflicts) == conflict
    unit, projected = real / np.linalg.norm(real), flat(direction) - real
    assert projected @ unit >= -1e-5 * largest


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_idempotent_and_unchanged_without_conflict(seed):
    grads = random_grads(seed)
    direction, _ = compiled()(grads)
    projected = jax.tree.map(lambda d, leaf: jnp.stack([leaf[0], d - leaf[0]]), direction, grads)
    again, state = compiled()(projected)
    chex.assert_trees_all_close(again, direction, atol=1e-5)
    agreeing = jax.tree.map(lambda leaf: jnp.stack([leaf[0], leaf[1] + 10 * leaf[0]]), grads)
    direction, state = compiled()(agreeing)
    assert state.conflicts == 0 and state.projected == 0
    chex.assert_trees_all_equal(direction, jax.tree.map(lambda leaf: leaf[0] + leaf[1], agreeing))


@pytest.mark.parametrize(("name", "scope"), SCOPES)
def test_sharded_gradients_give_the_same_direction(name, scope):
    update = compiled(name, scope=scope)
    wide = {"infix": jax.random.normal(jax.random.key(6), (3, 8, 2)),
            "prompt": jax.random.normal(jax.random.key(5), (3, 8, 4))}
    expected = update(wide)  # on one device
    for devices in (4, 8):
        mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
        sharded = jax.device_put(wide, NamedSharding(mesh, PartitionSpec(None, "data")))
        chex.assert_trees_all_close(jax.tree.map(np.asarray, update(sharded)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_tree_is_its_flat_vector_and_order_of_leaves_does_not_matter(name):
    grads = random_grads(2)
    direction, state = compiled(name)(grads)
    vector = jnp.concatenate([leaf.reshape(2, -1) for leaf in jax.tree.leaves(grads)], axis=1)
    one, one_state = compiled(name)(vector)
    np.testing.assert_allclose(flat(direction), one, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(state, one_state, rtol=1e-5)
    swapped, _ = compiled(name)({"a": grads["prompt"], "z": grads["infix"]})
    chex.assert_trees_all_close(swapped, {"a": direction["prompt"], "z": direction["infix"]}, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_one_source_is_returned(name):
    grads = random_grads(3, sources=1)
    direction, state = compiled(name)(grads)
    chex.assert_trees_all_equal(direction, jax.tree.map(lambda leaf: leaf[0], grads))
    assert state.count == 1 and state.conflicts == 0


@pytest.mark.parametrize(("name", "scope"), SCOPES)
@pytest.mark.parametrize("factor", [2.0**-33, 2.0**50, 2.0**126])
def test_the_direction_scales_with_the_gradients(name, scope, factor):
    """All are positively homogeneous, CAGrad's Pareto test and UPGrad's ridge included: both are relative.

    A power of two is exact, so there is nothing to round. The last factor takes a gradient above 2^127, whose inverse
    is no normal number.
    """
    grads = random_grads(6)
    direction, state = compiled(name, scope=scope)(grads)
    scaled, scaled_state = compiled(name, scope=scope)(jax.tree.map(lambda leaf: factor * leaf, grads))
    chex.assert_trees_all_equal(scaled, jax.tree.map(lambda leaf: factor * leaf, direction))
    chex.assert_trees_all_equal(scaled_state, state)


def test_zero_and_tiny_reference_gradients():
    tiny = jnp.array([[-1e-30, 0, 0], [1.0, 1, 0]])
    direction, _ = compiled(epsilon=0.5)(tiny)
    np.testing.assert_allclose(direction, [0, 0.5, 0], atol=1e-7)  # a constant in the denominator would leave 0.5
    direction, state = compiled(epsilon=0.5)(tiny.at[0].set(0))
    np.testing.assert_array_equal(direction, [0.5, 0.5, 0])
    assert state.conflicts == 0 and state.cosine == 0


def test_gradients_next_to_the_ends_of_float32():
    for largest, rest in ((2.0**127, 2.0**126), (2.0**-125, 0)):  # half of less would be subnormal, and may be flushed
        direction, state = compiled(epsilon=0.5)(jnp.array([[largest, 0, 0], [-largest, rest, 0]], jnp.float32))
        np.testing.assert_array_equal(direction, np.float32([largest, rest / 2, 0]))
        assert state.conflicts == 1 and state.nonfinite == 0


@pytest.mark.parametrize(("first", "removed"), [(8, 0), (32, 16 / 17)])
def test_bfloat16_gradients_have_float32_inner_products(first, removed):
    # In bfloat16 sums the 2^12 small products would vanish beside the first: a conflict, or one of another size.
    real = jnp.concatenate([jnp.array([-1.0]), jnp.full(2**12, 2.0**-4)]).astype(jnp.bfloat16)
    synthetic = jnp.concatenate([jnp.array([float(first)]), jnp.full(2**12, 2.0**-4)]).astype(jnp.bfloat16)
    direction, state = compiled()(jnp.stack([real, synthetic]))
    assert direction.dtype == jnp.bfloat16 and state.conflicts == (removed > 0)
    np.testing.assert_allclose(state.cosine, (16 - first) / np.sqrt(17 * (first**2 + 16)), rtol=1e-6)
    exact = (1 + removed) * np.float64(real) + np.float64(synthetic)
    np.testing.assert_allclose(np.float64(direction), exact, rtol=2.0**-8)  # half a unit in bfloat16's last place


@pytest.mark.parametrize("scope", ["leaf", "row"])
def test_scopes_project_each_part_alone(scope):
    grads = random_grads(5)
    direction, state = compiled(scope=scope)(grads)
    conflicts = []
    for name, leaf in grads.items():
        parts = leaf.reshape(2, -1, 4) if scope == "row" else leaf.reshape(2, 1, -1)
        for index in range(parts.shape[1]):
            alone, alone_state = apply(gradient_surgery(), parts[:, index])
            conflicts.append(float(alone_state.conflicts))
            np.testing.assert_allclose(direction[name].reshape(parts.shape[1], -1)[index], alone, rtol=1e-5, atol=1e-6)
    assert 0 < np.mean(conflicts) < 1
    np.testing.assert_allclose(state.conflicts, np.mean(conflicts), rtol=1e-6)


def test_reference_index_and_more_sources():
    rows = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    direction, _ = apply(gradient_surgery(0.3, reference=2), jnp.array(rows))
    want = rows[2].copy()
    for s in (0, 1, 3):
        want += 0.3 * (rows[s] - min(rows[s] @ rows[2], 0) / (rows[2] @ rows[2]) * rows[2])
    np.testing.assert_allclose(direction, want, rtol=1e-5, atol=1e-6)


def test_in_a_chain_and_weighted_sum():
    tx = optax.chain(weighted_sum(0.5), optax.sgd(0.1))
    params = jnp.zeros(3)
    updates, _ = tx.update(GOLDEN, tx.init(params), params)
    np.testing.assert_allclose(updates, -0.1 * (GOLDEN[0] + 0.5 * GOLDEN[1]), rtol=1e-6)


@pytest.mark.parametrize("name", ["sum", "surgery"])
def test_epsilon_by_name_is_epsilon_by_function(name):
    by_function = {"sum": weighted_sum, "surgery": gradient_surgery}[name](0.25)
    direction, _ = compiled(name, epsilon=0.25)(GOLDEN)
    np.testing.assert_array_equal(direction, apply(by_function, GOLDEN)[0])
    assert np.abs(direction - compiled(name)(GOLDEN)[0]).max() > 0.1


def test_pcgrads_order_is_drawn_anew_by_seed_and_update():
    rows = jnp.array([[1.0, 0.2], [-0.9, 0.6], [-0.3, -1.0]])  # every pair conflicts: six orders, several directions

    def directions(seed):
        transform, found = aggregator("pcgrad", seed=seed), []
        state = transform.init(rows[0])
        for _ in range(6):
            direction, state = transform.update(rows, state)
            found.append(tuple(np.round(np.asarray(direction), 5).tolist()))
        return found

    every = [directions(seed) for seed in range(4)]
    assert all(len(set(found)) > 1 for found in every), "an order for each update"
    assert len({found[0] for found in every}) > 1, "an order for each seed"
    assert directions(2) == every[2]


@pytest.mark.parametrize("make", [gradient_surgery, weighted_sum])
def test_epsilon_and_reference_are_checked(make):
    for epsilon in (-0.1, np.nan, np.inf):
        with pytest.raises(ConfigError, match=r"epsilon = .*0 or more"):
            make(epsilon)
    for reference in (-1, 2):  # neither may wrap around or be ignored
        with pytest.raises(ConfigError, match=f"reference = {reference}.*2 sources"):
            apply(make(reference=reference), GOLDEN)


def test_names_and_scopes_are_checked():
    with pytest.raises(ConfigError, match=r"^name = 'adam': must be 'surgery', .*'upgrad'\.$"):
        aggregator("adam")
    for make in (functools.partial(aggregator, "pcgrad"), gradient_surgery):
        with pytest.raises(ConfigError, match=r"^scope = 'layer': must be 'global', 'leaf' or 'row'\.$"):
            make(scope="layer")


def test_a_traced_reference_out_of_range_is_a_counted_zero():
    for reference in (-1, 2):
        direction, state = jax.jit(lambda reference: apply(gradient_surgery(reference=reference), GOLDEN))(reference)
        np.testing.assert_array_equal(direction, 0)
        assert state.nonfinite == 1 and state.count == 0


def test_a_mesh_with_explicit_axes_is_left_to_the_compiler():
    transform, wide = gradient_surgery(), {"prompt": jax.random.normal(jax.random.key(5), (2, 8, 4))}
    expected = apply(transform, wide)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        update = jax.sharding.auto_axes(transform.update, out_sharding=(jax.P("data"), jax.P()))
        placed = jax.device_put(wide, NamedSharding(mesh, PartitionSpec(None, "data")))
        direction, state = jax.jit(update)(placed, transform.init(None))
        assert jax.typeof(direction["prompt"]).sharding.spec == PartitionSpec("data", None)
    chex.assert_trees_all_close(jax.tree.map(np.asarray, (direction, state)), expected, rtol=1e-5, atol=1e-5)
