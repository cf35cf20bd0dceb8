"""Losses and token weights in closed form and under transformations that must not matter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dawgen_jax.backbones.t5 import model
from dawgen_jax.config import GeneratorConfig
from dawgen_jax.generator import losses, scores, weight_net
from tests.generator import toy
from tests.oracles import sequence_nll

MASK = jnp.array([[True, True, False], [True, False, False]])


def test_disc_closed_form():
    shares = np.array([0.2, 0.3, 0.5])
    log_prob = jnp.log(jnp.asarray(shares * 0.1, jnp.float32))[:, None, None]
    np.testing.assert_allclose(losses.disc(log_prob, "ratio"), [[-0.2]], rtol=1e-6)
    np.testing.assert_allclose(losses.disc(log_prob, "ce_logprob"), [[-np.log(0.2)]], rtol=1e-6)
    # Wrong labels are interchangeable; the gold one is not.
    np.testing.assert_allclose(losses.disc(log_prob[jnp.array([0, 2, 1])], "ratio"), [[-0.2]], rtol=1e-6)
    np.testing.assert_allclose(losses.disc(log_prob[jnp.array([1, 0, 2])], "ratio"), [[-0.3]], rtol=1e-6)
    extreme = losses.disc(jnp.array([-1e4, 0.0])[:, None, None], "ce_logprob")
    np.testing.assert_allclose(extreme, [[1e4]])


def test_uniform_weights_give_the_token_mean_and_sequence_nll_the_sum():
    log_prob = -jnp.arange(1.0, 7).reshape(1, 2, 3)
    nll = losses.nll(log_prob)
    batch, sentence = (jnp.sum(weight_net.uniform_weights(MASK, norm) * nll) for norm in ("batch", "sentence"))
    np.testing.assert_allclose(batch, (1 + 2 + 4) / 3, rtol=1e-6)
    np.testing.assert_allclose(batch, losses.token_mean(nll, MASK), rtol=1e-6)
    np.testing.assert_allclose(sentence, (1.5 + 4) / 2, rtol=1e-6)
    np.testing.assert_allclose(sequence_nll(log_prob, MASK), [3, 4])


def net(weight_input: str) -> dict:
    """omega away from the linear layer's start, for states of width 4."""
    omega = weight_net.init(jax.random.key(0), 4, weight_input)
    return omega if weight_input == "loss" else {"w": jax.random.normal(jax.random.key(2), omega["w"].shape)}


@pytest.mark.parametrize("norm", ["batch", "sentence"])
@pytest.mark.parametrize("weight_input", ["hidden", "loss"])
def test_token_weights_sum_to_one_and_take_no_gradient_from_their_input(norm, weight_input):
    omega = net(weight_input)
    values, hidden = jax.random.normal(jax.random.key(1), (2, 3)), jax.random.normal(jax.random.key(3), (2, 3, 4))

    def weigh(values, hidden, mask):
        return weight_net.token_weights(omega, weight_net.features(values, hidden, weight_input), mask, norm)

    weights = weigh(values, hidden, MASK)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
    assert not weights[~MASK].any() and abs(weights[0, 0] - weights[0, 1]) > 1e-3
    if norm == "sentence":
        np.testing.assert_allclose(weights.sum(axis=1), [0.5, 0.5], rtol=1e-6)
    slopes = jax.grad(lambda *inputs: jnp.sum(weigh(*inputs, MASK) ** 2), argnums=(0, 1))(values, hidden)
    assert not any(slope.any() for slope in slopes)
    # A row of padding changes nothing.
    wide = ((0, 1), (0, 2))
    more = weigh(jnp.pad(values, wide), jnp.pad(hidden, (*wide, (0, 0))), jnp.pad(MASK, wide))
    np.testing.assert_allclose(more[:2, :3], weights, rtol=1e-6)
    assert not weigh(values, hidden, jnp.zeros_like(MASK)).any()


def test_weight_nets_start_as_documented():
    perceptron = weight_net.init(jax.random.key(0), 4, "loss")
    largest = {name: float(jnp.abs(leaf).max()) for name, leaf in perceptron.items()}
    assert perceptron["w1"].shape == (100,) and perceptron["b2"].shape == ()
    assert 0.9 < largest["w1"] <= 1 and 0.9 < largest["b1"] <= 1 and 0.09 < largest["w2"] <= 0.1 >= largest["b2"]
    layers = np.stack([perceptron["w1"], perceptron["b1"], 10 * perceptron["w2"]])
    assert np.abs(np.corrcoef(layers) - np.eye(3)).max() < 0.5  # each is drawn by itself
    linear = weight_net.init(jax.random.key(0), 4, "hidden")
    assert linear["w"].shape == (4,) and not linear["w"].any()
    inputs = weight_net.features(jnp.zeros((2, 3)), jax.random.normal(jax.random.key(3), (2, 3, 4)), "hidden")
    for norm in ("batch", "sentence"):
        np.testing.assert_allclose(weight_net.token_weights(linear, inputs, MASK, norm),
                                   weight_net.uniform_weights(MASK, norm), rtol=1e-6)


def test_decoder_states_are_read_at_a_root_mean_square_of_one():
    hidden = jnp.array([[[3.0, -4, 0, 0]]])
    np.testing.assert_allclose(weight_net.features(jnp.ones((1, 1)), hidden, "hidden"), [[[1.2, -1.6, 0, 0]]],
                               rtol=1e-6)
    assert weight_net.features(jnp.ones((1, 1)), hidden.astype(jnp.bfloat16), "hidden").dtype == jnp.float32
    assert not weight_net.features(jnp.ones((1, 1)), jnp.zeros((1, 1, 4)), "hidden").any()
    np.testing.assert_array_equal(weight_net.features(jnp.full((1, 1), 7.0), hidden, "loss"), [[[7]]])


WIDTHS = (64, 512, 1024, 4096)


def trained(gradient, states, given, config=GeneratorConfig()):
    """(scores, W) [n, B, U] after each of n updates of a new linear layer on states [B, U, H].

    The gradient of update i is ``gradient(omega, features, given[i])``. All arrays have a leading axis of draws.
    """
    return toy.jit(jax.vmap(functools.partial(_trained, gradient, config)))(states, given)


def _trained(gradient, config, states, given):
    mask, tx = jnp.ones(states.shape[:2], bool), weight_net.optimiser(config, num_steps=480)
    features = weight_net.features(jnp.zeros(mask.shape), states, "hidden")

    def update(carry, given):
        omega, state = carry
        updates, state = tx.update(gradient(omega, features, given), state, omega)
        omega = optax.apply_updates(omega, updates)
        return (omega, state), (features @ omega["w"], weight_net.token_weights(omega, features, mask, "batch"))

    start = weight_net.init(jax.random.key(0), states.shape[-1], "hidden")
    return jax.lax.scan(update, (start, tx.init(start)), given)[1]


def itself(omega, features, given):
    return {"w": given}


def of_gains(omega, features, gains):
    """The form of a meta-gradient: that of the weighted sum of what each token gains [B, U]."""
    mask = jnp.ones(gains.shape, bool)
    return jax.grad(lambda omega: jnp.sum(gains * weight_net.token_weights(omega, features, mask, "batch")))(omega)


@pytest.mark.parametrize("kind", ["aligned", "random"])
def test_one_update_moves_scores_as_far_at_every_width(kind):
    """Aligned: each state is the gradient or its opposite. Random: the gradient is a sum over the random states."""
    random, largest = np.random.default_rng(0), {}
    for width in WIDTHS:
        states, directions = random.normal(size=(32, 2, 3, width)), random.normal(size=(32, 1, width))
        if kind == "aligned":
            scores, _ = trained(itself, np.sign(states[..., :1]) * directions[:, None], 1e-3 * directions)
        else:
            scores, _ = trained(of_gains, states, 1e-3 * random.normal(size=(32, 1, 2, 3)))
        largest[width] = float(jnp.abs(scores).max(axis=(1, 2, 3)).mean())
    assert max(largest.values()) < 1.1 * min(largest.values()), largest
    assert min(largest.values()) > 0.05 and max(largest.values()) < 0.085, largest


@pytest.mark.parametrize("width", WIDTHS)
def test_weights_stay_spread_on_random_states(width):
    """Random gradients, and those of random gains: anew in every update, or the same in all."""
    random = np.random.default_rng(1)
    states, gains = random.normal(size=(1, 6, 10, width)), 1e-3 * random.normal(size=(1, 20, 6, 10))
    same = np.repeat(gains[:, :1], 20, axis=1)

    def lowest(gradient, given, config=GeneratorConfig()):
        _, weights = trained(gradient, states, given, config)
        return min(weight_net.entropy(each, jnp.ones((6, 10), bool)) for each in weights[0])

    assert lowest(itself, random.normal(size=(1, 20, width))) > 0.9
    assert lowest(of_gains, gains) > 0.9 and lowest(of_gains, same) > 0.9
    assert lowest(of_gains, same, GeneratorConfig(score_learning_rate=0.0)) < 0.1  # the ablation's do not


def test_entropy_of_token_weights_by_hand():
    uniform = weight_net.uniform_weights(MASK, "batch")
    np.testing.assert_allclose(weight_net.entropy(uniform, MASK), 1, rtol=1e-6)
    np.testing.assert_allclose(weight_net.entropy(jnp.array([[1.0, 0, 0], [0, 0, 0]]), MASK), 0)
    half = weight_net.entropy(jnp.array([[0.5, 0.5, 0], [0, 0, 0]]), MASK)
    np.testing.assert_allclose(half, np.log(2) / np.log(3), rtol=1e-6)
    for tokens in (jnp.zeros_like(MASK), jnp.zeros_like(MASK).at[0, 0].set(True)):
        np.testing.assert_allclose(weight_net.entropy(weight_net.uniform_weights(tokens, "batch"), tokens), 1)


def hand_made():
    """Sentences 0 and 1 of label 0 at a right angle, 2 and 3 of label 1 in line; wrong prompts point to axis 2."""
    gold = np.array([[1, 0, 0], [0, 2, 0], [0, 0, 1], [0, 0, 3.0]])
    wrong = np.tile([0, 0, 5.0], (4, 1))
    return jnp.asarray(np.stack([gold, wrong]), jnp.float32), jnp.array([0, 0, 1, 1]), jnp.ones(4, bool)


def test_dist_by_hand():
    pooled, label, valid = hand_made()
    values, active, paired = losses.dist(pooled, label, valid, reading="B")
    np.testing.assert_allclose(values, [1, 1, 1, 1], rtol=1e-6)  # 1 - 0 + 0; 1 - 1 + 1
    values, active, paired = losses.dist(pooled, label, valid, reading="A")
    np.testing.assert_allclose(values, [1, 1, 0, 0], atol=1e-6)  # 1 - 1 + 0 is just inactive
    np.testing.assert_allclose(active, [1, 1, 0, 0])
    values, _, _ = losses.dist(pooled, label, valid, reading="A", similarity="swapped_distance")
    np.testing.assert_allclose(values[0], np.mean([max(0, 1 + np.sqrt(5) - d) for d in (2**0.5, 10**0.5)]), rtol=1e-6)
    values, _, paired = losses.dist(pooled, label, jnp.array([True, True, True, False]), reading="B")
    np.testing.assert_array_equal(paired, [True, True, False, False])
    np.testing.assert_array_equal(values[2:], 0)


def test_the_margin_of_dist_is_the_configurations():
    pooled, label, valid = hand_made()
    values, _, _ = losses.dist(pooled, label, valid, reading="B", margin=0.25)
    np.testing.assert_allclose(values, [0.25, 0.25, 0.25, 0.25], rtol=1e-6)  # 1/4 - 0 + 0; 1/4 - 1 + 1
    hidden, alike = pooled[:, :, None], jnp.ones((4, 1))
    _, parts = losses.objective(jnp.zeros((1, 4, 1)), hidden, alike / 4, label, alike > 0, dist_weight=1.0,
                                config=GeneratorConfig(dist_margin=0.25))
    np.testing.assert_allclose(parts["dist"], 0.25, rtol=1e-6)


@pytest.mark.parametrize("reading", ["A", "B"])
@pytest.mark.parametrize("similarity", ["cosine", "swapped_distance"])
def test_dist_has_finite_gradients_at_equal_and_zero_states(reading, similarity):
    pooled, label, valid = hand_made()
    pooled = pooled.at[0, 1].set(pooled[0, 0]).at[:, 3].set(0)

    def loss(pooled):
        return losses.dist(pooled, label, valid, reading=reading, similarity=similarity)[0].sum()

    assert np.isfinite(toy.jit(jax.grad(loss))(pooled)).all()


def test_pool_is_a_weighted_mean_of_supervised_states():
    hidden = jnp.arange(12.0).reshape(1, 2, 3, 2)
    pooled = losses.pool(hidden, jnp.array([[1.0, 3, 9], [2, 5, 5]]), MASK)
    np.testing.assert_allclose(pooled, [[[1.5, 2.5], [6, 7]]])
    assert not losses.pool(hidden, jnp.ones((2, 3)), jnp.zeros_like(MASK)).any()


@pytest.mark.parametrize("at_once", [1, 360, 2**23])  # 1 token; 2 + 2 + 1 (2 x 3 rows, 30 words); all five
def test_fused_log_prob_is_log_softmax_with_its_gradient(monkeypatch, at_once):
    monkeypatch.setattr(scores, "LOGITS_AT_ONCE", at_once)
    theta = toy.theta()
    hidden = jax.random.normal(jax.random.key(0), (2, 3, 5, toy.SHAPE.d_model))
    target = jax.random.randint(jax.random.key(1), (3, 5), 0, toy.SHAPE.vocab_size)

    def plain(hidden):
        log_probs = jax.nn.log_softmax(model.logits(theta, hidden, config=toy.SHAPE))
        return jnp.take_along_axis(log_probs, jnp.broadcast_to(target, (2, 3, 5))[..., None], axis=-1)[..., 0]

    def fused(hidden):
        return scores.log_prob(theta, hidden, target, model=toy.MODEL)

    weights = jax.random.normal(jax.random.key(2), (2, 3, 5))
    np.testing.assert_allclose(toy.jit(fused)(hidden), plain(hidden), rtol=1e-5, atol=1e-5)
    ours, expected = (toy.jit(jax.grad(lambda hidden, f=f: jnp.sum(weights * f(hidden))))(hidden)
                      for f in (fused, plain))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    tangent = jax.random.normal(jax.random.key(3), hidden.shape)
    ours, expected = (toy.jit(lambda hidden, f=f: jax.jvp(f, (hidden,), (tangent,))[1])(hidden) for f in (fused, plain))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
