"""JAX against the PyTorch float64 transcription of the equations: live, and as pinned numbers."""

import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dawgen_jax import optim
from dawgen_jax.generator import losses, scores
from dawgen_jax.generator import step as generator
from dawgen_jax.surgery.aggregator import aggregator
from dawgen_jax.t5 import convert, model
from dawgen_jax.tuning import losses as tuning_losses
from dawgen_jax.tuning import step as tuning
from tests.reference import cases

# Compiling costs more than running at this size.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
PINNED = json.loads(pathlib.Path(__file__).with_name("pinned.json").read_text())


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype if leaf.dtype.kind == "f" else leaf.dtype), tree)


def run_generator(name: str, dtype: str, steps: int = 3) -> list[dict]:
    """What the transcription yields after each step, from the project's step."""
    backbone, config = cases.GENERATORS[name]
    t5 = dataclasses.replace(cases.BACKBONES[backbone], dtype=dtype)
    theta = cast(cases.theta(t5), dtype)
    state = generator.init_state(cast(cases.label_prompts(t5.d_model), dtype), jax.random.key(0), config=config,
                                 num_steps=cases.NUM_STEPS)
    state = state.replace(weight_net=cast(cases.weight_net(), dtype))
    step = jit(functools.partial(generator.generator_step, config=config, t5=t5, num_steps=cases.NUM_STEPS))
    results = []
    for batch in cases.generator_batches(steps):
        before, (state, metrics) = state, step(state, theta, batch)
        assert metrics["finite"]
        results.append(dict(metrics, label_prompts=state.label_prompts, weight_net=state.weight_net))
        if len(results) == 1:  # Adam's first moment is a tenth of the first gradient.
            mu = state.weight_opt_state[1][0].mu
            results[0]["meta_gradient"] = jax.tree.map(lambda m, w: 10 * m - config.weight_decay * w, mu,
                                                       before.weight_net)
            clip = max(1.0, float(metrics["grad_norm"]) / config.clip_norm)
            results[0]["gradient"] = jax.tree.map(lambda m, clip=clip: 10 * m * clip, state.opt_state[1][0].mu)
            results[0]["sequence_nll"] = jit(functools.partial(sequence_nll, t5=t5))(before.label_prompts, theta, batch)
    return results


def sequence_nll(label_prompts, theta, batch, t5):
    hidden = scores.hidden_states(label_prompts, theta, batch, range(1), t5=t5)
    return losses.sequence_nll(scores.log_prob(theta, hidden, batch.target, t5=t5), batch.target_mask)


def run_classifier(backbone: str, dtype: str) -> list[dict]:
    config = cases.CLASSIFIER
    t5 = dataclasses.replace(cases.BACKBONES[backbone], dtype=dtype)
    theta = cast(cases.theta(t5), dtype)
    verbalizer = tuning_losses.Verbalizer(cases.LABEL_IDS, cases.MASK_ID)
    tx = optax.chain(aggregator("surgery", epsilon=config.epsilon), optim.adafactor(config, cases.NUM_STEPS))
    state = tuning.init_state(cast(cases.prompt(t5.d_model), dtype), tx)
    step = jit(functools.partial(tuning.prompt_step, t5=t5, verbalizer=verbalizer, tx=tx))
    results = []
    for batch in cases.classifier_batches():
        state, metrics = step(state, theta, batch)
        results.append({"loss": metrics["loss"], "grad_norm": metrics["grad_norm"], "prompt": state.params})
    return results


def assert_agree(actual: dict, expected: dict, names, tolerance: float):
    """Each name within ``tolerance`` of the largest magnitude of what is expected (some exact gradients are zero)."""
    for name in names:
        want = jax.tree.map(np.asarray, expected[name], is_leaf=lambda leaf: isinstance(leaf, list))
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(want))
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance * largest,
                                       err_msg=name), actual[name], want)


@pytest.fixture(scope="module")
def live() -> dict:
    from tests.reference import pin
    return pin.everything()


EACH_STEP = ("disc", "disc_virtual", "gen", "dist", "loss", "token_weights", "grad_norm")


@pytest.mark.parametrize("name", cases.GENERATORS)
def test_three_generator_steps_in_float64(name, live):
    with jax.enable_x64(True):
        actual = run_generator(name, "float64")
    for expected in (PINNED["generator"][name], live["generator"][name]):
        assert_agree(actual[0], expected[0], ("meta_gradient", "gradient", "sequence_nll"), 1e-6)
        for ours, theirs in zip(actual, expected, strict=True):
            assert_agree(ours, theirs, (*EACH_STEP, "label_prompts", "weight_net"), 1e-6)


@pytest.mark.parametrize("name", ["dawgen", "printed"])
def test_losses_gradients_and_weights_in_float32(name):
    actual, expected = run_generator(name, "float32", steps=1)[0], PINNED["generator"][name][0]
    assert_agree(actual, expected, (*EACH_STEP, "meta_gradient", "gradient", "sequence_nll"), 1e-4)


@pytest.mark.parametrize("backbone", cases.BACKBONES)
def test_three_prompt_steps_with_surgery_and_adafactor(backbone, live):
    with jax.enable_x64(True):
        actual = run_classifier(backbone, "float64")
    for expected in (PINNED["classifier"][backbone], live["classifier"][backbone]):
        inner = [np.sum(np.prod(np.asarray(step["gradients"]), axis=0)) for step in expected]
        assert min(inner) < 0, "no step of this case has a conflict"
        for ours, theirs in zip(actual, expected, strict=True):
            norms = np.linalg.norm(np.asarray(theirs["gradients"]).reshape(2, -1), axis=1)
            assert_agree(ours, dict(theirs, grad_norm=norms), ("loss", "grad_norm", "prompt"), 1e-6)


def test_prompt_loss_and_gradients_in_float32():
    actual, expected = run_classifier("v1.1", "float32")[0], PINNED["classifier"]["v1.1"][0]
    norms = np.linalg.norm(np.asarray(expected["gradients"]).reshape(2, -1), axis=1)
    assert_agree(actual, dict(expected, grad_norm=norms), ("loss", "grad_norm"), 1e-4)


@pytest.mark.parametrize("backbone", cases.BACKBONES)
def test_the_small_torch_t5_is_transformers_t5(backbone, tmp_path):
    import torch
    import transformers

    from tests.reference import pin, torch_t5
    config = cases.BACKBONES[backbone]
    theta = jax.tree.map(np.float32, cases.theta(config))
    convert.save(tmp_path, config, theta)
    peer = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    batch = pin.tensors(cases.generator_batches(1)[0])
    tensors = pin.tensors(theta, torch.float32)
    inputs = torch.cat([torch.zeros(6, 1, dtype=torch.int64), batch.target[:, :-1]], 1)
    encoded = torch_t5.encode(tensors, tensors["embedding"][batch.source], batch.source_mask, config)
    ours = torch_t5.logits(tensors, torch_t5.decode(tensors, inputs, encoded, batch.source_mask, config), config)
    with torch.no_grad():
        theirs = peer(input_ids=batch.source, attention_mask=batch.source_mask.long(), decoder_input_ids=inputs).logits
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-4)
    abstract = jax.tree.map(lambda leaf: leaf.shape, model.abstract(config))
    assert abstract == jax.tree.map(lambda leaf: leaf.shape, theta)
