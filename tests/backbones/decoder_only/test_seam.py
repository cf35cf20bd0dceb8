"""A decoder-only model behind the seam: cached decoding, meshes, the count of operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dawgen_jax.backbones.base import AXES, Work
from dawgen_jax.backbones.decoder_only import convert, model
from dawgen_jax.backbones.decoder_only.config import DecoderConfig
from dawgen_jax.backbones.decoder_only.seam import DecoderOnly
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.data.batches import GeneratorBatch
from dawgen_jax.generator.scores import hidden_states
from tests.backbones.decoder_only import torch_decoder

STEPS, LENGTH = 7, 9
RNG = np.random.default_rng(3)
TEXTS = [RNG.integers(2, 97, length) for length in (9, 4, 1, 6, 2)]
WIDE = DecoderConfig(vocab_size=48, width=16, head_dim=4, d_ff=24, num_layers=2, num_heads=8, num_kv_heads=4,
                     projection_bias=True, scan_unroll=1)


def embed_fn(seam):
    return lambda theta, prompts, rows: (seam.embed(theta, rows.source), rows.mask)


def written(seam, theta, texts=TEXTS, **options):
    decoder = Decoder(seam, embed_fn(seam), eos_id=0, banned=(1,), widths=(4, LENGTH), max_new_tokens=STEPS,
                      penalty=False, draw=False, **{"slots": 3, **options})  # fmt: skip
    work = [Work(0, i, text, None, Sampling(max_new_tokens=STEPS)) for i, text in enumerate(texts)]
    made = decoder.generate(theta, None, work, jax.random.key(0))
    return {one.index: [*one.tokens.tolist(), *[0] * one.finished] for one in made}


@pytest.mark.parametrize("kind", ["llama3", "qwen2", "qwen3"])
def test_cached_greedy_text_is_that_of_pytorch(kind, tmp_path):
    oracle = torch_decoder.write(tmp_path, kind)
    config, theta = convert.load(tmp_path, scan_unroll=1)
    mask = np.arange(LENGTH)[None] >= LENGTH - np.array([[len(text)] for text in TEXTS])
    tokens = np.zeros(mask.shape, int)
    tokens[mask] = np.concatenate(TEXTS)
    wanted, gaps = torch_decoder.greedy(oracle, tokens, mask, STEPS, banned=1)
    assert gaps.min() > 1e-4
    for i, text in written(DecoderOnly(config), theta).items():
        assert text == wanted[i, : len(text)].tolist() and (len(text) == STEPS or text[-1] == 0)


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 4, 1), (2, 2, 2)])
def test_a_mesh_of_eight_computes_what_one_device_does(shape):
    seam, theta = DecoderOnly(WIDE), model.init(WIDE, jax.random.key(0))
    tokens, mask = RNG.integers(2, 48, (8, 6)), np.arange(6)[None] >= np.arange(8)[:, None] // 2
    soft, target = RNG.normal(size=(3, 16)).astype(np.float32), RNG.integers(2, 48, (8, 4))

    @jax.value_and_grad
    def loss(soft, theta, tokens, mask, target):
        prompt = jnp.broadcast_to(soft, (len(tokens), *soft.shape))
        rows = jnp.concatenate([seam.embed(theta, tokens), prompt], axis=1)
        seen = jnp.concatenate([mask, jnp.ones(prompt.shape[:2], bool)], axis=1)
        scores = seam.logits(theta, seam.target_states(theta, rows, seen, target))
        answers = seam.answer_states(theta, prompt, seen[:, -3:], seam.context(theta, seam.embed(theta, tokens), mask))
        gold = jnp.take_along_axis(jax.nn.log_softmax(scores), target[..., None], -1)
        return jnp.mean(jnp.square(seam.logits(theta, answers, jnp.array([3, 7])))) - jnp.mean(gold)

    mesh = jax.make_mesh(shape, AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3)
    places = jax.tree.map(lambda spec: NamedSharding(mesh, spec), seam.layout(mesh.shape))
    placed = jax.device_put(theta, places)
    cut = {leaf.sharding.spec for leaf in jax.tree.leaves(placed)}
    assert (PartitionSpec(None, "fsdp", "tensor") in cut) == (shape == (2, 2, 2))
    rows = jax.device_put((tokens, mask, target), NamedSharding(mesh, PartitionSpec(("data", "fsdp"))))
    alone, spread = jax.jit(loss)(soft, theta, tokens, mask, target), jax.jit(loss)(soft, placed, *rows)
    for one, other in zip(alone, spread, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
    texts = [text % 46 + 2 for text in TEXTS]
    assert written(seam, placed, texts, slots=8, mesh=mesh) == written(seam, theta, texts)


def test_a_generator_reads_document_start_label_prompt_sentence_and_infix():
    seam, theta = DecoderOnly(WIDE, head=1), model.init(WIDE, jax.random.key(0))
    source = np.array([[5, 20, 21, 0, 0, 0], [5, 30, 0, 0, 0, 0]])
    slots = np.array([[-1, -1, -1, 0, 1, -1], [-1, -1, 0, 1, -1, -1]])
    target, target_mask, label = RNG.integers(2, 48, (2, 3)), np.ones((2, 3), bool), np.array([1, 0], np.int32)
    source_mask = np.arange(6)[None] < np.array([[5], [4]])
    label_prompts = {name: RNG.normal(size=(2, rows, 16)).astype(np.float32) for name, rows in
                     (("prompt", 3), ("infix", 2))}
    batch = GeneratorBatch(source, source_mask, slots, target, target_mask, label)
    found = hidden_states(label_prompts, theta, batch, range(2), model=seam)
    for i, sentence in enumerate(([20, 21], [30])):
        for shift in range(2):
            prompt, infix = (label_prompts[name][(label[i] + shift) % 2] for name in ("prompt", "infix"))
            start, text, written = (np.asarray(theta["embedding"])[ids] for ids in ([5], sentence, target[i, :-1]))
            row = np.concatenate([start, prompt, text, infix, written])[None]
            states = seam.input_states(theta, row, np.ones(row.shape[:2], bool))[0, -3:]
            np.testing.assert_allclose(found[shift, i], states, rtol=1e-5, atol=1e-5)


def test_bfloat16_stays_near_float32():
    texts = RNG.integers(2, 48, (2, 9))
    outputs = {}
    for dtype in ("float32", "bfloat16"):
        seam = DecoderOnly(DecoderConfig(**{**vars(WIDE), "dtype": dtype}))
        theta = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), model.init(WIDE, jax.random.key(0)))
        states = seam.input_states(theta, seam.embed(theta, texts), np.ones(texts.shape, bool))
        assert states.dtype == dtype
        outputs[dtype] = seam.logits(theta, states)
        assert outputs[dtype].dtype == jnp.float32
    error = np.abs(outputs["bfloat16"] - outputs["float32"])
    assert error.max() < 0.1 * np.std(outputs["float32"])


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("unroll", [0, 1, 2])
def test_unrolling_and_recomputing_change_nothing(remat, unroll):
    theta = model.init(WIDE, jax.random.key(0))
    tokens, mask = RNG.integers(2, 48, (2, 5)), np.ones((2, 5), bool)

    def answer(seam):
        def loss(embeddings):
            return jnp.sin(seam.answer_states(theta, embeddings, mask)).sum()

        return jax.jit(jax.value_and_grad(loss))(seam.embed(theta, tokens))

    plain, other = (answer(DecoderOnly(DecoderConfig(**{**vars(WIDE), **fields}))) for fields in (
        {}, {"remat": remat, "scan_unroll": unroll}))
    for one, two in zip(plain, other, strict=True):
        # Rounding is relative to the largest gradient, of which each is a sum of terms.
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6 * np.abs(one).max())


def test_operations_are_those_of_the_compiled_program():
    """XLA counts the products and some more; the count of a forward pass leaves nothing large out."""
    shape = DecoderConfig(vocab_size=512, width=128, head_dim=32, d_ff=256, num_layers=2, num_heads=4, num_kv_heads=2)
    seam = DecoderOnly(shape)
    theta, inputs, outputs = seam.abstract(), 40, 9
    rows = jax.ShapeDtypeStruct((1, inputs, 128), jnp.float32), jax.ShapeDtypeStruct((1, inputs), bool)
    target = jax.ShapeDtypeStruct((1, outputs), jnp.int32)

    def scores(theta, rows, mask, target):
        return seam.logits(theta, seam.target_states(theta, rows, mask, target))

    counted = jax.jit(scores).lower(theta, *rows, target).compile().cost_analysis()["flops"]
    assert 0.9 < seam.operations(inputs=inputs, outputs=outputs) / counted < 1.0
    answered = jax.jit(seam.answer_states).lower(theta, *rows).compile().cost_analysis()["flops"]
    assert 0.9 < seam.operations(inputs=inputs) / answered < 1.0
