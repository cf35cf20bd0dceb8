"""The meta-gradient: VJP + JVP == jax.grad through the virtual step == finite differences == the step's, in float64."""

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


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def outer(omega, Q, theta, batch, values, t5, form, norm):
    """L_disc(Q'(omega)), written straight."""
    w = weight_net.token_weights(omega, values, batch.target_mask, norm)

    def inner(Q):
        hidden = scores.hidden_states(Q, theta, batch, range(1), t5=t5)
        return jnp.sum(w * losses.nll(scores.log_prob(theta, hidden, batch.target, t5=t5)))

    virtual = jax.tree.map(lambda q, g: q - RATE * g, Q, jax.grad(inner)(Q))
    hidden = scores.hidden_states(virtual, theta, batch, range(3), t5=t5)
    values = losses.disc(scores.disc_scores(theta, hidden, batch.target, form=form, t5=t5), form)
    return losses.token_mean(values, batch.target_mask)


def what_adam_gets(Q, theta, batch, t5, form, norm):
    """The meta-gradient inside the step: Adam's first moment is a tenth of the first gradient, decay included."""
    config = GeneratorConfig(disc=form, weight_norm=norm, meta_learning_rate=RATE, dist_weight=0.0)
    state = init_state(Q, jax.random.key(3), config=config, num_steps=9)
    after, _ = toy.jit(functools.partial(generator_step, config=config, t5=t5, num_steps=9))(state, theta, batch)
    return jax.tree.map(lambda moment, w: 10 * moment - config.weight_decay * w, after.weight_opt_state[1][0].mu,
                        state.weight_net)


@pytest.mark.parametrize("form", ["ce_logprob", "ratio", "ce_rawlogit"])
def test_four_ways_to_the_meta_gradient(form):
    t5, theta, Q, batch = toy.everything("float64")
    omega = weight_net.init(jax.random.key(3), dtype=jnp.float64)

    @toy.jit
    def everything(omega):
        """(values, our gradients, autodiff's, losses around omega) for both normalisations."""
        def gold(Q):
            hidden = scores.hidden_states(Q, theta, batch, range(1), t5=t5)
            return scores.log_prob(theta, hidden, batch.target, t5=t5)[0]

        hidden = scores.hidden_states(Q, theta, batch, range(3), t5=t5)
        values = losses.disc(scores.disc_scores(theta, hidden, batch.target, form=form, t5=t5), form)
        _, push = jax.linearize(gold, Q)
        results = {}
        for norm in ("batch", "sentence"):
            w = weight_net.token_weights(omega, values, batch.target_mask, norm)
            (slope,) = jax.linear_transpose(push, Q)(-w)
            virtual = meta.virtual_step(Q, slope, RATE)
            loss, v = meta.disc_value_and_gradient(virtual, theta, batch, form=form, chunks=3, t5=t5)
            ours = meta.weight_gradient(omega, values, batch.target_mask, -push(v), norm=norm, rate=RATE)
            straight = jax.value_and_grad(outer)(omega, Q, theta, batch, values, t5, form, norm)
            results[norm] = (loss, ours, *straight)
        return results

    direction = jax.tree.map(lambda leaf: jnp.asarray(np.random.default_rng(0).normal(size=leaf.shape)), omega)
    step = 1e-4
    here = everything(omega)
    there = [everything(jax.tree.map(lambda w, d, s=s: w + s * step * d, omega, direction)) for s in (1, -1)]
    for norm, (loss, ours, straight_loss, straight) in here.items():
        np.testing.assert_allclose(loss, straight_loss, rtol=1e-12)
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(straight))
        assert largest > 1e-6
        for gradient in (ours, what_adam_gets(Q, theta, batch, t5, form, norm)):
            jax.tree.map(lambda a, b, m=largest: np.testing.assert_allclose(a, b, atol=1e-10 * m), gradient, straight)
        finite = (there[0][norm][0] - there[1][norm][0]) / (2 * step)
        along = sum(jnp.sum(a * d) for a, d in zip(jax.tree.leaves(ours), jax.tree.leaves(direction), strict=True))
        np.testing.assert_allclose(along, finite, rtol=1e-5)


def test_chunks_do_not_change_v():
    t5, theta, Q, batch = toy.everything("float64")
    gradient = functools.partial(meta.disc_value_and_gradient, form="ce_logprob", t5=t5)
    whole, parts = (toy.jit(functools.partial(gradient, chunks=c))(Q, theta, batch) for c in (1, 2))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12), whole, parts)
