"""The meta-gradient: VJP + JVP == jax.grad through the virtual step == finite differences == the step's, in float64."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dawgen_jax.config import GeneratorConfig
from dawgen_jax.generator import losses, meta, scores, weight_net
from dawgen_jax.generator.step import generator_step, init_state
from tests.generator import toy

RATE = 0.7
CONFIG = GeneratorConfig(meta_learning_rate=RATE, dist_weight=0.8)
CASES = {
    "B-cosine": {},
    "A-swapped_distance": {"dist_reading": "A", "dist_similarity": "swapped_distance"},
    "ratio": {"disc": "ratio"},
    "ce_rawlogit": {"disc": "ce_rawlogit"},
    "no L_dist": {"dist_weight": 0.0},
    "B-swapped_distance": {"dist_similarity": "swapped_distance"},
    "A-cosine": {"dist_reading": "A"},
    "real step only": {"dist_in_virtual": False},
}
NETS = ({"weight_input": "hidden", "weight_norm": "batch"}, {"weight_input": "loss", "weight_norm": "sentence"})
OTHER_NETS = ({"weight_input": "hidden", "weight_norm": "sentence"}, {"weight_input": "loss", "weight_norm": "batch"})


def configs(name: str) -> list[GeneratorConfig]:
    """The case with both inputs of the weight net and both norms; any two settings meet in some case."""
    nets = OTHER_NETS if name in ("B-swapped_distance", "A-cosine", "real step only") else NETS
    return [dataclasses.replace(CONFIG, **CASES[name], **net) for net in nets]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def start(weight_input: str) -> dict:
    """omega at its start, but for the linear layer, which is random: at zero all its tokens would weigh the same."""
    omega = weight_net.init(jax.random.key(3), toy.SHAPE.d_model, weight_input, jnp.float64)
    random = jnp.asarray(np.random.default_rng(4).normal(size=toy.SHAPE.d_model))
    return {"w": 0.3 * random} if weight_input == "hidden" else omega


def outer(omega, Q, theta, batch, model, config):
    """(L_disc(Q'(omega)), share of active hinges at Q), written straight: all rows, one gradient inside another."""
    mask = batch.target_mask

    def score(Q):
        hidden = scores.hidden_states(Q, theta, batch, range(3), model=model)
        compared = scores.disc_scores(theta, hidden, batch.target, form=config.disc, model=model)
        return hidden, losses.disc(compared, config.disc)

    def inner(Q):
        hidden, values = score(Q)
        features = weight_net.features(values, hidden[0], config.weight_input)
        w = weight_net.token_weights(omega, features, mask, config.weight_norm)
        loss = jnp.sum(w * losses.nll(scores.log_prob(theta, hidden, batch.target, model=model)))
        hinges, active, paired = losses.dist(losses.pool(hidden, w, mask), batch.label, mask.any(axis=1),
                                             reading=config.dist_reading, similarity=config.dist_similarity)
        if config.dist_in_virtual:
            loss = loss + config.dist_weight * losses.example_mean(hinges, paired)
        return loss, losses.example_mean(active, paired)

    slope, active = jax.grad(inner, has_aux=True)(Q)
    virtual = jax.tree.map(lambda q, g: q - RATE * g, Q, slope)
    return losses.token_mean(score(virtual)[1], mask), active


def by_hand(omega, Q, theta, batch, model, config):
    """(L_disc(Q'), its gradient in omega) from the functions of :mod:`meta`, over all label rows."""
    def outputs(Q):
        hidden = scores.hidden_states(Q, theta, batch, range(3), model=model)
        return scores.log_prob(theta, hidden[:1], batch.target, model=model), hidden

    (log_prob, hidden), jvp = jax.linearize(outputs, Q)
    values = losses.disc(scores.disc_scores(theta, hidden, batch.target, form=config.disc, model=model), config.disc)
    features = weight_net.features(values, hidden[0], config.weight_input)

    def inner(omega, log_prob, hidden):
        w = weight_net.token_weights(omega, features, batch.target_mask, config.weight_norm)
        return losses.objective(log_prob, hidden, w, batch.label, batch.target_mask, config=config,
                                dist_weight=config.dist_weight if config.dist_in_virtual else 0.0)[0]

    (slope,) = jax.linear_transpose(jvp, Q)(jax.grad(inner, argnums=(1, 2))(omega, log_prob, hidden))
    virtual = meta.virtual_step(Q, slope, RATE)
    loss, v = meta.disc_value_and_gradient(virtual, theta, batch, form=config.disc, chunks=3, model=model)
    return loss, meta.weight_gradient(omega, inner, (log_prob, hidden), jvp(v), rate=RATE)


def what_adam_gets(omega, Q, theta, batch, model, config):
    """The meta-gradient inside the step: Adam's first moment is a tenth of the first gradient, decay included."""
    state = init_state(Q, jax.random.key(3), config=config, num_steps=9).replace(weight_net=omega)
    after, _ = generator_step(state, theta, batch, config=config, model=model, num_steps=9)
    return jax.tree.map(lambda moment, w: 10 * moment - config.weight_decay * w, after.weight_opt_state[1][0].mu, omega)


@pytest.mark.parametrize("name", CASES)
def test_four_ways_to_the_meta_gradient(name):
    model, theta, Q, batch = toy.everything("float64")
    cases = configs(name)

    @toy.jit
    def gradients(omegas):
        """(ours, the step's, autodiff's) of both weight nets."""
        return [(by_hand(omega, Q, theta, batch, model, config),
                 what_adam_gets(omega, Q, theta, batch, model, config),
                 jax.value_and_grad(outer, has_aux=True)(omega, Q, theta, batch, model, config))
                for omega, config in zip(omegas, cases, strict=True)]

    omegas, step = [start(config.weight_input) for config in cases], 1e-4
    direction = jax.tree.map(lambda leaf: jnp.asarray(np.random.default_rng(0).normal(size=leaf.shape)), omegas)
    moved = [jax.tree.map(lambda w, d, s=s: w + s * step * d, omegas, direction) for s in (1, -1)]
    there = [[straight[0] for *_, straight in gradients(omegas)] for omegas in moved]
    for index, ((loss, ours), adam, ((straight_loss, active), straight)) in enumerate(gradients(omegas)):
        np.testing.assert_allclose(loss, straight_loss, rtol=1e-12)
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(straight))
        assert largest > 1e-6
        for gradient in (ours, adam):
            jax.tree.map(lambda a, b, m=largest: np.testing.assert_allclose(a, b, atol=1e-10 * m), gradient, straight)
        assert there[0][index][1] == there[1][index][1] == active, "a hinge changes: the point is at a kink"
        finite = (there[0][index][0] - there[1][index][0]) / (2 * step)
        along = sum(jnp.sum(a * d) for a, d in
                    zip(jax.tree.leaves(ours), jax.tree.leaves(direction[index]), strict=True))
        np.testing.assert_allclose(along, finite, rtol=1e-5)


def test_chunks_do_not_change_v():
    model, theta, Q, batch = toy.everything("float64")
    gradient = functools.partial(meta.disc_value_and_gradient, form="ce_logprob", model=model)
    whole, parts = (toy.jit(functools.partial(gradient, chunks=c))(Q, theta, batch) for c in (1, 2))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12), whole, parts)
