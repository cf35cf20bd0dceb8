"""Adafactor against Hugging Face's, the one that OPTIMA's prompt tuning used."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dawgen_jax.config import PAPER, ClassifierConfig
from dawgen_jax.training import optimisers

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("scale", [1e-3, 10.0])
def test_adafactor_is_transformers_adafactor_over_20_steps(scale):
    from transformers.optimization import Adafactor, get_cosine_schedule_with_warmup

    rng, steps = np.random.default_rng(0), 20
    start = rng.normal(size=(6, 10)).astype(np.float32)
    config = ClassifierConfig(**PAPER)
    tx = optimisers.adafactor(config, steps)
    prompt, state = jnp.asarray(start), tx.init(jnp.asarray(start))
    other = torch.nn.Parameter(torch.tensor(start))
    adafactor = Adafactor([other], lr=config.learning_rate, weight_decay=config.weight_decay, relative_step=False,
                          scale_parameter=False, warmup_init=False)
    schedule = get_cosine_schedule_with_warmup(adafactor, 0, steps)
    for _ in range(steps):
        gradient = (scale * rng.normal(size=start.shape)).astype(np.float32)
        updates, state = tx.update(jnp.asarray(gradient), state, prompt)
        prompt = optax.apply_updates(prompt, updates)
        other.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_([other], config.clip_norm)
        adafactor.step()
        schedule.step()
        np.testing.assert_allclose(prompt, other.detach().numpy(), rtol=2e-5, atol=2e-5)


def test_adamw_does_not_decay_norms():
    tx = optimisers.adamw(0.1, 10, weight_decay=0.5, clip_norm=1.0)
    params = {"norm": {"scale": jnp.ones(3)}, "kernel": jnp.ones((2, 2))}
    zero = {"norm": {"scale": jnp.zeros(3)}, "kernel": jnp.zeros((2, 2))}
    updates, _ = tx.update(zero, tx.init(params), params)
    np.testing.assert_array_equal(updates["norm"]["scale"], 0)
    np.testing.assert_allclose(updates["kernel"], -0.05, rtol=1e-6)


def test_adamw_is_pytorchs_with_a_clipped_gradient_and_a_linear_decay():
    rng, steps, rate = np.random.default_rng(0), 12, 0.05
    start = rng.normal(size=(4, 5)).astype(np.float32)
    tx = optimisers.adamw(rate, steps, weight_decay=0.1, clip_norm=1.0)
    params, state = jnp.asarray(start), tx.init(jnp.asarray(start))
    other = torch.nn.Parameter(torch.tensor(start))
    adamw = torch.optim.AdamW([other], lr=rate, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: 1 - step / steps)
    for scale in np.geomspace(0.01, 100, steps):  # norms far below the bound first and far above it last
        gradient = (scale * rng.normal(size=start.shape)).astype(np.float32)
        updates, state = tx.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        other.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_([other], 1.0)
        adamw.step()
        schedule.step()
        np.testing.assert_allclose(params, other.detach().numpy(), rtol=2e-5, atol=2e-5)
