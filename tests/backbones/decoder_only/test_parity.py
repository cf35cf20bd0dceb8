"""Decoder-only models against PyTorch on random weights: layer by layer, logits, prompt gradients, the uses of both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from dawgen_jax.backbones.decoder_only import convert, model
from dawgen_jax.backbones.decoder_only.config import DecoderConfig, RopeScaling
from dawgen_jax.backbones.decoder_only.modules import rotary
from dawgen_jax.backbones.decoder_only.seam import DecoderOnly
from tests.backbones.decoder_only import torch_decoder

LENGTH, PROMPT, STEPS = 13, 3, 6
RNG = np.random.default_rng(1)
TOKENS = RNG.integers(2, 97, (5, LENGTH))
# No padding; padding behind, in front, and in the middle; nothing but padding.
MASK = np.stack([np.arange(LENGTH) < 13, np.arange(LENGTH) < 5, np.arange(LENGTH) >= 6,
                 np.abs(np.arange(LENGTH) - 6) > 2, np.zeros(LENGTH, bool)])
TARGET = RNG.integers(2, 97, (5, STEPS))


@pytest.fixture(scope="module", params=torch_decoder.KINDS)
def pair(request, tmp_path_factory):
    """(kind, config, theta, the same model in PyTorch)."""
    folder = tmp_path_factory.mktemp(request.param)
    oracle = torch_decoder.write(folder, request.param)
    # A rolled scan compiles one layer; two kinds show that the unrolled one is the same.
    config, theta = convert.load(folder, scan_unroll=0 if request.param in ("llama", "qwen3") else 1)
    return request.param, config, theta, oracle


def close(ours, theirs, name):
    theirs = theirs.detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max(), err_msg=name)


def test_every_layer_agrees_with_pytorch(pair):
    kind, config, theta, oracle = pair
    assert config.tied_head == kind.endswith("-tied") == ("head" not in theta)

    @jax.jit
    def ours(theta):
        x = model.embed(theta, jnp.asarray(TOKENS), config=config)
        found = {"states": model.run(theta, x, jnp.asarray(MASK), config=config)[0]}
        turned, own = model.angles(jnp.asarray(MASK), config=config), model.causal(jnp.asarray(MASK))
        for i, parameters in enumerate(model.unstack(theta, config=config)["layers"]):
            x, _ = model.merge("layer", parameters, config=config)(x, turned, own=own)
            found[f"layer {i}"] = x
        return found | {"logits": model.logits(theta, found["states"])}

    computed = ours(theta)
    wanted = torch_decoder.states(oracle, oracle.get_input_embeddings()(torch.tensor(TOKENS)), MASK)
    assert computed.keys() == wanted.keys()
    for name, values in computed.items():
        assert np.isfinite(values).all(), name  # padding too
        close(values[MASK], wanted[name][torch.tensor(MASK)], name)
    some = model.logits(theta, computed["states"][:, -1], jnp.array([3, 90]))
    # Products of different shapes may sum in different orders.
    np.testing.assert_allclose(some, model.logits(theta, computed["states"][:, -1])[:, [3, 90]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_losses_and_prompt_gradients_agree_with_pytorch(pair, side):
    _, config, theta, oracle = pair
    seam = DecoderOnly(config)
    soft = RNG.normal(size=(PROMPT, config.width)).astype(np.float32)
    lengths = np.array([LENGTH, 5, 1])
    inside = np.arange(LENGTH)[None] < lengths[:, None]
    mask = np.pad(inside[:, ::-1] if side == "left" else inside, ((0, 0), (PROMPT, 0)), constant_values=True)

    @jax.jit
    @jax.value_and_grad
    def ours(soft):
        embeddings = jnp.concatenate([jnp.broadcast_to(soft, (3, *soft.shape)), seam.embed(theta, TOKENS[:3])], 1)
        states = seam.target_states(theta, embeddings, jnp.asarray(mask), jnp.asarray(TARGET[:3]))
        scores = jax.nn.log_softmax(seam.logits(theta, states))
        return -jnp.mean(jnp.take_along_axis(scores, jnp.asarray(TARGET[:3])[..., None], -1))

    prompt, losses = torch.tensor(soft, requires_grad=True), []
    lookup = oracle.get_input_embeddings()
    for i in range(3):  # one row at a time, without padding
        text = lookup(torch.tensor(np.concatenate([TOKENS[i][mask[i, PROMPT:]], TARGET[i, :-1]])))
        scores = oracle(inputs_embeds=torch.cat([prompt, text])[None]).logits[0, -STEPS:]
        losses.append(torch.nn.functional.cross_entropy(scores, torch.tensor(TARGET[i])))
    loss = sum(losses) / 3
    loss.backward()
    value, gradient = ours(soft)
    close(value, loss, "loss")
    close(gradient, prompt.grad, "gradient")


def test_the_cached_text_gives_the_same_answers_and_prompt_gradients(pair):
    _, config, theta, _ = pair
    seam = DecoderOnly(config)
    soft = RNG.normal(size=(PROMPT, config.width)).astype(np.float32)
    text, cue, mask = seam.embed(theta, TOKENS[:4, :-2]), seam.embed(theta, TOKENS[:4, -2:]), jnp.asarray(MASK[:4, :-2])

    def answer(soft, cached):
        rows = jnp.concatenate([jnp.broadcast_to(soft, (4, *soft.shape)), cue], axis=1)
        seen = jnp.ones(rows.shape[:2], bool)
        if cached:
            return seam.answer_states(theta, rows, seen, context=seam.context(theta, text, mask))
        return seam.answer_states(theta, jnp.concatenate([text, rows], 1), jnp.concatenate([mask, seen], 1))

    def both(soft, cached):
        states = answer(soft, cached)
        return jnp.sin(states).sum(), states

    both = jax.jit(jax.value_and_grad(both, has_aux=True), static_argnums=1)
    (_, states), gradient = both(soft, False)
    (_, cached_states), cached_gradient = both(soft, True)
    np.testing.assert_allclose(cached_states, states, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(cached_gradient, gradient, rtol=1e-5, atol=1e-5 * np.abs(gradient).max())


def test_padding_and_neighbours_change_nothing(pair):
    _, config, theta, _ = pair
    seam = DecoderOnly(config)
    answer = jax.jit(lambda tokens, mask: seam.answer_states(theta, seam.embed(theta, tokens), mask))
    whole = answer(TOKENS, MASK)
    for i in range(4):
        row = TOKENS[i : i + 1, MASK[i]]
        np.testing.assert_allclose(whole[i], answer(row, np.ones(row.shape, bool))[0], rtol=1e-5, atol=1e-5)
    noise = np.where(MASK, TOKENS, RNG.integers(2, 97, TOKENS.shape))
    np.testing.assert_array_equal(whole[:4], answer(noise, MASK)[:4])


@pytest.mark.parametrize("scaling", [None, (32.0, 1.0, 4.0, 8192), (8.0, 1.0, 4.0, 8192)])
def test_rotary_tables_are_those_of_pytorch_at_the_sizes_of_llama_3(scaling):
    config = DecoderConfig(vocab_size=9, width=8, head_dim=64, d_ff=8, num_layers=1, num_heads=1, num_kv_heads=1,
                           rope_theta=5e5, rope_scaling=scaling and RopeScaling(*scaling))
    theirs = LlamaRotaryEmbedding(LlamaConfig(**config.to_hugging_face()))
    wanted = theirs(torch.zeros(1), torch.arange(3000)[None])
    for ours, other in zip(rotary(config, 3000), wanted, strict=True):
        # 3,000 radians in float32 are 1e-4 apart.
        np.testing.assert_allclose(ours, other[0, :, :32], rtol=0, atol=3e-4)
        np.testing.assert_allclose(ours[:100], other[0, :100, :32], rtol=0, atol=1e-5)
