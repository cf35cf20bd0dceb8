"""The backbone against PyTorch on random weights: block by block, logits, loss, prompt gradients, greedy tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from dawgen_jax.backbones.base import Work
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.backbones.t5 import convert, model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.modules import buckets
from dawgen_jax.backbones.t5.seam import T5
from tests.backbones.t5 import torch_t5

LENGTH, PROMPT, STEPS = 14, 3, 6
RNG = np.random.default_rng(1)
SOURCE = RNG.integers(2, 99, (4, LENGTH))
# Padding behind, in front and in the middle, and a row of nothing else (the prompt is all it has).
MASK = np.stack([np.arange(LENGTH) < 14, np.arange(LENGTH) < 5, np.arange(LENGTH) >= 6, np.zeros(LENGTH, bool)])
TARGET = RNG.integers(2, 99, (4, STEPS))
TARGET_MASK = np.arange(STEPS)[None] < np.array([[6], [3], [5], [1]])
SOFT = RNG.normal(size=(PROMPT, 32)).astype(np.float32)


def jax_outputs(theta, config):
    """Everything that is compared, in one compiled function."""

    def loss_fn(prompt):
        text = model.embed(theta, jnp.asarray(SOURCE), config=config)
        embeddings = jnp.concatenate([jnp.broadcast_to(prompt[None], (4, *prompt.shape)).astype(text.dtype), text], 1)
        mask = jnp.concatenate([jnp.ones((4, PROMPT), bool), jnp.asarray(MASK)], 1)
        encoded = model.encode(theta, embeddings, mask, config=config)
        inputs = jnp.pad(jnp.asarray(TARGET), ((0, 0), (1, 0)))[:, :-1]
        hidden = model.decode(theta, inputs, encoded, mask, config=config)
        scores = model.logits(theta, hidden, config=config)
        gold = jnp.take_along_axis(jax.nn.log_softmax(scores), jnp.asarray(TARGET)[..., None], -1)[..., 0]
        loss = -jnp.sum(jnp.where(TARGET_MASK, gold, 0)) / TARGET_MASK.sum()
        return loss, {"embeddings": embeddings, "encoded": encoded, "logits": scores, "loss": loss}

    def blocks():
        first = jax.tree.map(lambda leaf: leaf[0], {side: theta[side]["layers"] for side in ("encoder", "decoder")})

        def bias(side, length):
            table = first[side]["bias"] if config.per_layer_bias else theta[side]["bias"]
            return model.relative_bias(table, np.arange(length), length, config=config, bidirectional=side == "encoder")

        text = model.embed(theta, jnp.asarray(SOURCE), config=config)
        mask = jnp.asarray(MASK)[:, None, None]
        one = model.merge("encoder", first["encoder"], config=config)(text, mask, bias("encoder", LENGTH)[None])
        encoded = model.encode(theta, text, jnp.asarray(MASK), config=config)
        inputs = model.embed(theta, jnp.asarray(TARGET), config=config)
        causal = jnp.tril(jnp.ones((STEPS, STEPS), bool))[None, None]
        other = model.merge("decoder", first["decoder"], config=config)(
            inputs, causal, bias("decoder", STEPS)[None], encoded, mask
        )
        return {"encoder block": one, "decoder block": other}

    (_, outputs), gradient = jax.value_and_grad(loss_fn, has_aux=True)(jnp.asarray(SOFT))
    return {**outputs, **blocks(), "gradient": gradient}


# Compiled without LLVM optimisations in half of the time; the decoder below is optimised.
OUTPUTS = jax.jit(jax_outputs, static_argnums=1, compiler_options={"xla_backend_optimization_level": 0})


def torch_outputs(oracle):
    prompt = torch.tensor(SOFT, requires_grad=True)
    text = oracle.get_input_embeddings()(torch.tensor(SOURCE))
    embeddings = torch.cat([prompt.expand(4, -1, -1), text], 1)
    mask = torch.cat([torch.ones(4, PROMPT), torch.tensor(MASK)], 1).long()
    labels = torch.tensor(np.where(TARGET_MASK, TARGET, -100))
    inputs = torch.nn.functional.pad(torch.tensor(TARGET), (1, 0))[:, :-1]
    out = oracle(inputs_embeds=embeddings, attention_mask=mask, decoder_input_ids=inputs, labels=labels)
    out.loss.backward()
    blocks = {}
    for side in ("encoder", "decoder"):  # hooks, since the hidden states of a stack of one block are normed

        def keep(module, arguments, output, side=side):
            blocks[f"{side} block"] = output[0] if isinstance(output, tuple) else output

        getattr(oracle, side).block[0].register_forward_hook(keep)
    oracle(
        input_ids=torch.tensor(SOURCE),
        attention_mask=torch.tensor(MASK).long(),
        decoder_input_ids=torch.tensor(TARGET),
    )
    values = {
        **blocks,
        "embeddings": embeddings,
        "encoded": out.encoder_last_hidden_state,
        "logits": out.logits,
        "loss": out.loss,
        "gradient": prompt.grad,
    }
    return {name: value.detach().numpy() for name, value in values.items()}


@pytest.mark.parametrize("kind", torch_t5.KINDS)
def test_agrees_with_pytorch(kind, tmp_path, capsys):
    oracle = torch_t5.write(tmp_path, kind)
    # A rolled scan compiles one layer of each stack; two kinds show that the unrolled one is the same.
    config, theta = convert.load(tmp_path, scan_unroll=0 if kind in ("v1.0", "umt5") else 1)
    assert config.tied_head == (not torch_t5.KINDS[kind][1])
    ours, theirs = OUTPUTS(theta, config), torch_outputs(oracle)
    assert ours.keys() == theirs.keys()
    for name, wanted in theirs.items():
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(ours[name], wanted, rtol=1e-4, atol=1e-4 * scale, err_msg=name)
        if name == "logits":
            np.testing.assert_allclose(ours[name], wanted, rtol=0, atol=1e-4)

    rows = SOURCE[:3], MASK[:3]
    tokens, gaps = torch_t5.greedy(oracle, *rows, STEPS)

    def embed_fn(theta, prompts, rows):
        return model.embed(theta, rows.source, config=config), rows.mask & (rows.source != 98)

    # Left padding is written with a token of its own: the decoder takes ragged sources.
    source = np.where(MASK, SOURCE, 98)[:3] if (SOURCE[:3] != 98).all() else None
    assert source is not None
    decoder = Decoder(T5(config), embed_fn, eos_id=config.eos_id, banned=(config.pad_id,), slots=4, widths=(LENGTH,),
                      max_new_tokens=STEPS, penalty=False, draw=False)  # fmt: skip
    budget = Sampling(max_new_tokens=STEPS)
    samples = {
        s.index: s
        for s in decoder.generate(
            theta, None, [Work(0, i, x, None, budget) for i, x in enumerate(source)], jax.random.key(0)
        )
    }
    ties = 0
    for i in range(3):
        text = np.append(samples[i].tokens, [1] * samples[i].finished)
        differ = np.flatnonzero(text != tokens[i, : len(text)])
        assert not len(differ) or gaps[i, differ[0]] < 1e-4, (kind, i, text, tokens[i])
        assert len(differ) or len(text) == STEPS or text[-1] == 1
        ties += bool(len(differ))
    with capsys.disabled():
        print(f"[{kind}: {ties} near ties among 3 rows]", end=" ")


@pytest.mark.parametrize(("count", "distance"), [(32, 128), (8, 12)])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_bias_buckets_are_those_of_pytorch(count, distance, bidirectional):
    relative = np.arange(-2000, 2001)
    config = T5Config(9, 8, 4, 8, 1, 1, 2, relative_attention_num_buckets=count,
                      relative_attention_max_distance=distance)  # fmt: skip
    wanted = T5Attention._relative_position_bucket(torch.tensor(relative), bidirectional, count, distance)
    np.testing.assert_array_equal(buckets(relative, config=config, bidirectional=bidirectional), wanted)


def test_norms_and_softmax_of_bfloat16_are_computed_in_float32():
    """Bit for bit the formulas in float32: only what goes in and what comes out is rounded."""
    config = T5Config(9, 64, 16, 8, 1, 1, 2, dtype="bfloat16")
    draw, shapes = np.random.default_rng(0), model.abstract(config)["encoder"]["layers"]
    parameters = jax.tree.map(lambda leaf: jnp.asarray(draw.normal(0, 0.05, leaf.shape[1:]), leaf.dtype), shapes)
    layer = model.merge("encoder", parameters, config=config)
    x, keys, values = (
        jnp.asarray(draw.normal(3, 9, shape), jnp.bfloat16) for shape in ((2, 20, 64), *[(2, 2, 20, 16)] * 2)
    )
    exact = np.asarray(x, np.float32)
    wanted = exact / np.sqrt(np.mean(exact**2, -1, keepdims=True) + np.float32(1e-6))
    normed = layer.attention_norm(x)
    scale = np.asarray(parameters["attention_norm"]["scale"]).astype(jnp.bfloat16)
    np.testing.assert_array_equal(normed, wanted.astype(jnp.bfloat16) * scale)

    def softmax(dtype):
        scores = jnp.matmul(layer.attention.split(normed, layer.attention.query), keys.swapaxes(-1, -2),
                            preferred_element_type=jnp.float32)  # fmt: skip
        mixed = jnp.matmul(jax.nn.softmax(scores.astype(dtype), axis=-1).astype(jnp.bfloat16), values)
        return mixed.swapaxes(1, 2).reshape(2, 20, 32) @ layer.attention.output[...].astype(jnp.bfloat16)

    ours = layer.attention(normed, keys, values, jnp.ones((1, 1, 1, 1), bool))
    np.testing.assert_array_equal(ours, softmax(jnp.float32))
    assert (ours != softmax(jnp.bfloat16)).any()


def test_bfloat16_stays_near_float32(tmp_path):
    """Activations carry 8 bits: logits of unit scale stay within 5 % of their spread."""
    torch_t5.write(tmp_path, "v1.1")
    outputs = {}
    for dtype in ("float32", "bfloat16"):
        config, theta = convert.load(tmp_path, dtype=dtype, compute_dtype=dtype, scan_unroll=1)
        outputs[dtype] = OUTPUTS(theta, config)
    exact, rounded = outputs["float32"], outputs["bfloat16"]
    assert rounded["logits"].dtype == jnp.float32 and rounded["encoded"].dtype == jnp.bfloat16
    assert np.isfinite(rounded["logits"]).all()
    error = np.abs(rounded["logits"] - exact["logits"])
    assert error.max() < 0.05 * np.std(exact["logits"])
    assert abs(rounded["loss"] - exact["loss"]) < 0.02 * exact["loss"]
