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

from dawgen_jax.backbones.t5 import convert, model
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.generator import losses, scores
from dawgen_jax.generator import step as generator
from dawgen_jax.surgery import aggregator
from dawgen_jax.training import optimisers
from dawgen_jax.training import step as training
from tests.oracles import prompt_loss, sequence_nll
from tests.reference import cases

# Compiling costs more than running at this size.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
PINNED = json.loads(pathlib.Path(__file__).with_name("pinned.json").read_text())


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype if leaf.dtype.kind == "f" else leaf.dtype), tree)


def in_dtype(run):
    """``run(name, dtype)`` with x64 on where the dtype needs it, once for the pinned and the live comparison."""
    @functools.cache
    def once(name: str, dtype: str) -> list[dict]:
        with jax.enable_x64(dtype == "float64"):
            return run(name, dtype)

    return once


@in_dtype
def run_generator(name: str, dtype: str) -> list[dict]:
    """What the transcription yields after each step, from the project's step."""
    backbone, config = cases.GENERATORS[name]
    t5 = dataclasses.replace(cases.BACKBONES[backbone], dtype=dtype)
    theta = cast(cases.theta(t5), dtype)
    state = generator.init_state(cast(cases.label_prompts(t5.d_model), dtype), jax.random.key(0), config=config,
                                 num_steps=cases.NUM_STEPS)
    state = state.replace(weight_net=cast(cases.weight_net(config.weight_input, t5.d_model), dtype))
    step = jit(functools.partial(generator.generator_step, config=config, model=T5(t5), num_steps=cases.NUM_STEPS))
    results = []
    for batch in cases.generator_batches():
        before, (state, metrics) = state, step(state, theta, batch)
        assert state.ok
        results.append(dict(metrics, label_prompts=state.label_prompts, weight_net=state.weight_net))
        if len(results) == 1:  # Adam's first moment is a tenth of the first gradient.
            mu = state.weight_opt_state[1][0].mu
            results[0]["meta_gradient"] = jax.tree.map(lambda m, w: 10 * m - config.weight_decay * w, mu,
                                                       before.weight_net)
            clip = max(1.0, float(metrics["grad_norm"]) / config.clip_norm)
            results[0]["gradient"] = jax.tree.map(lambda m, clip=clip: 10 * m * clip, state.opt_state[1][0].mu)
            each_token = jit(functools.partial(values, form=config.disc, model=T5(t5)))
            results[0] |= each_token(before.label_prompts, theta, batch)
    return results


def values(label_prompts, theta, batch, form, model) -> dict:
    """L_gen's terms and L_disc of every token."""
    hidden = scores.hidden_states(label_prompts, theta, batch, range(3), model=model)
    disc = losses.disc(scores.disc_scores(theta, hidden, batch.target, form=form, model=model), form)
    log_prob = scores.log_prob(theta, hidden, batch.target, model=model)
    return {"sequence_nll": sequence_nll(log_prob, batch.target_mask),
            "disc_values": jnp.where(batch.target_mask, disc, 0)}


def keeping_gradients(tx):
    """``tx`` whose state ends with the gradients [S, P, H] that it was given."""
    def init(params):
        return *tx.init(params), jnp.zeros((2, *params.shape), params.dtype)

    def update(grads, state, params):
        updates, after = tx.update(grads, state[:-1], params)
        return updates, (*after, grads)

    return optax.GradientTransformation(init, update)


@in_dtype
def run_classifier(backbone: str, dtype: str) -> list[dict]:
    config = cases.CLASSIFIER
    t5 = dataclasses.replace(cases.BACKBONES[backbone], dtype=dtype)
    theta = cast(cases.theta(t5), dtype)
    loss_fn = functools.partial(prompt_loss, model=T5(t5, mask_id=cases.MASK_ID), label_ids=cases.LABEL_IDS)
    tx = optax.chain(aggregator("surgery", epsilon=config.epsilon), optimisers.adafactor(config, cases.NUM_STEPS))
    tx = keeping_gradients(tx)
    state = training.init_state(cast(cases.prompt(t5.d_model), dtype), tx)
    step = jit(functools.partial(training.train_step, loss_fn=loss_fn, tx=tx))
    results = []
    for batch in cases.classifier_batches():
        state, metrics = step(state, theta, batch)
        results.append(dict(metrics, gradients=state.opt_state[-1], prompt=state.params))
    return results


def assert_agree(actual: dict, expected: dict, names, tolerance: float):
    """Each name within ``tolerance`` of the largest magnitude of what is expected (some exact gradients are zero)."""
    for name in names:
        want = jax.tree.map(np.asarray, expected[name], is_leaf=lambda leaf: isinstance(leaf, list))
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(want))
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance * largest,
                                       err_msg=name), actual[name], want)


@pytest.fixture(scope="module", params=["pinned", "live"])
def transcription(request) -> dict:
    """What the PyTorch transcription gives: its pinned numbers, or computed now where PyTorch is there."""
    if request.param == "pinned":
        return PINNED
    pytest.importorskip("torch")
    from tests.reference import pin
    return pin.everything()


EACH_STEP = ("disc", "disc_virtual", "gen", "dist", "loss", "token_weights", "weight_entropy", "grad_norm")
FIRST_STEP = ("meta_gradient", "gradient", "sequence_nll", "disc_values")


@pytest.mark.parametrize("name", cases.GENERATORS)
def test_three_generator_steps(name, transcription):
    actual, expected = run_generator(name, "float64"), transcription["generator"][name]
    assert_agree(actual[0], expected[0], FIRST_STEP, 1e-6)
    for ours, theirs in zip(actual, expected, strict=True):
        assert_agree(ours, theirs, (*EACH_STEP, "label_prompts", "weight_net"), 1e-6)


@pytest.mark.parametrize("name", cases.GENERATORS)
def test_losses_gradients_and_weights_in_float32(name):
    actual, expected = run_generator(name, "float32")[0], PINNED["generator"][name][0]
    assert_agree(actual, expected, (*EACH_STEP, *FIRST_STEP), 1e-4)


def with_surgery(step: dict) -> dict:
    """A step of the transcription with what its gradients say about the conflict."""
    real, synthetic = (np.asarray(gradient) for gradient in step["gradients"])
    norms = np.array([np.linalg.norm(real), np.linalg.norm(synthetic)])
    cosine = np.sum(real * synthetic) / norms.prod()
    return dict(step, grad_norm=norms, cosine=cosine, projected_share=max(-cosine, 0), conflict=float(cosine < 0))


PROMPT_STEP = ("loss", "gradients", "grad_norm", "cosine", "projected_share", "conflict")


@pytest.mark.parametrize("backbone", cases.BACKBONES)
def test_three_prompt_steps_with_surgery_and_adafactor(backbone, transcription):
    expected = [with_surgery(step) for step in transcription["classifier"][backbone]]
    assert any(step["conflict"] for step in expected), "no step of this case has a conflict"
    for ours, theirs in zip(run_classifier(backbone, "float64"), expected, strict=True):
        assert_agree(ours, theirs, (*PROMPT_STEP, "prompt"), 1e-6)


@pytest.mark.parametrize("backbone", cases.BACKBONES)
def test_prompt_loss_and_gradients_in_float32(backbone):
    actual, expected = run_classifier(backbone, "float32")[0], with_surgery(PINNED["classifier"][backbone][0])
    assert_agree(actual, expected, PROMPT_STEP, 1e-4)


@pytest.mark.parametrize("backbone", cases.BACKBONES)
def test_the_small_torch_t5_is_transformers_t5(backbone, tmp_path):
    torch = pytest.importorskip("torch")
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
