"""GGUF files: every supported quantisation is read as it was stored, and what cannot be read is refused by name."""

import json

import jax
import numpy as np
import pytest

from dawgen_jax.backbones import registry
from dawgen_jax.backbones.decoder_only import convert, gguf, model
from dawgen_jax.errors import UserError
from tests.backbones.decoder_only import tiny

TEXTS = ["A man is playing a guitar .", "It was 127 ½ great\n\n  terrible", "naïve <|im_end|> café"]


@pytest.fixture(scope="module")
def random():
    config = tiny.shape()
    return config, jax.jit(model.init, static_argnums=0)(config, jax.random.key(0))


@pytest.mark.parametrize(("quantisation", "error"), [("F32", 0), ("F16", 1e-3), ("BF16", 1e-2), ("Q8_0", 1e-2),
                                                     ("Q4_1", 0.2)])
def test_weights_are_those_that_were_stored(quantisation, error, random, tmp_path):
    config, theta = random
    stored = tiny.write_gguf(tmp_path / "model.gguf", config, theta, quantisation)
    gguf.convert(tmp_path / "model.gguf", tmp_path / "made")
    again, loaded = convert.load(tmp_path / "made")
    assert again == config and jax.tree.structure(loaded) == jax.tree.structure(theta)
    for ours, kept, original in zip(*map(jax.tree.leaves, (loaded, stored, theta)), strict=True):
        np.testing.assert_array_equal(ours, kept)
        assert np.abs(ours - original).max() <= error * np.abs(original).max()


def test_an_untied_head_and_the_rope_base_are_read(tmp_path):
    config = tiny.shape(tied_head=False, rope_theta=1e5, norm_epsilon=1e-5)
    theta = model.init(config, jax.random.key(1))
    tiny.write_gguf(tmp_path / "model.gguf", config, theta)
    gguf.convert(tmp_path / "model.gguf", tmp_path / "made")
    again, loaded = convert.load(tmp_path / "made")
    assert (again.tied_head, again.rope_theta) == (False, 1e5) and again.norm_epsilon == np.float32(1e-5)
    np.testing.assert_array_equal(loaded["head"], theta["head"])


def test_the_tokenizer_and_the_document_start_are_those_of_the_file(random, tmp_path):
    tiny.write_gguf(tmp_path / "model.gguf", *random)
    gguf.convert(tmp_path / "model.gguf", tmp_path / "made")
    form, wanted = registry.read_format(tmp_path / "made"), tiny.wrapped(tiny.byte_level())
    assert form.tokenizer(TEXTS)["input_ids"] == wanted(TEXTS)["input_ids"]
    assert form.tokenizer.get_vocab() == wanted.get_vocab()
    assert form.start == (0,) and form.tokenizer.eos_token == "<|im_end|>"
    values = json.loads((tmp_path / "made" / "config.json").read_text())
    assert (values["document_start_token_id"], values["bos_token_id"], values["eos_token_id"]) == (0, 1, 2)


def refused(path, match):
    with pytest.raises(UserError, match=match) as caught:
        gguf.convert(path, path.parent / "made")
    assert str(path) in str(caught.value) and not (path.parent / "made").exists()


@pytest.mark.parametrize(("options", "match"), [
    ({"architecture": "gemma3"}, "architecture is 'gemma3'; only 'llama'"),
    ({"quantisation": "Q4_0"}, "token_embd.weight is stored as Q4_0; take a file in F32, F16, BF16, Q8_0 or Q4_1"),
    ({"kind": None}, "has no tokenizer"),
    ({"kind": "llama"}, "tokenizer is of kind 'llama'"),
    ({"pre": "llama-bpe"}, "tokenizer.ggml.pre = 'llama-bpe': unknown rule"),
    ({"llama__expert_count": 8}, "llama.expert_count = 8 is not supported"),
    ({"llama__rope__scaling__type": "yarn"}, "llama.rope.scaling.type = 'yarn' is not supported"),
    ({"llama__attention__sliding_window": 64}, "llama.attention.sliding_window = 64 is not supported"),
])  # fmt: skip
def test_what_would_be_read_wrongly_is_refused(options, match, random, tmp_path):
    tiny.write_gguf(tmp_path / "model.gguf", *random, **options)
    refused(tmp_path / "model.gguf", match)


@pytest.mark.parametrize("kept", [0, 3, 30, 1000, 20_000, -1])
def test_truncated_files_are_refused(kept, random, tmp_path):
    tiny.write_gguf(tmp_path / "model.gguf", *random)
    content = (tmp_path / "model.gguf").read_bytes()
    (tmp_path / "model.gguf").write_bytes(content[:kept])
    refused(tmp_path / "model.gguf", "not a complete GGUF file")


def test_missing_and_foreign_files_are_refused(tmp_path):
    refused(tmp_path / "model.gguf", "no such file")
    (tmp_path / "model.gguf").write_bytes(b"PK" * 5000)
    refused(tmp_path / "model.gguf", "not a complete GGUF file")


def test_shapes_and_values_are_checked(random, tmp_path):
    config, theta = random
    broken = dict(theta, embedding=theta["embedding"].at[3, 3].set(np.nan))
    tiny.write_gguf(tmp_path / "model.gguf", config, broken)
    refused(tmp_path / "model.gguf", "tensor token_embd.weight holds NaN or infinity")
    tiny.write_gguf(tmp_path / "model.gguf", tiny.shape(d_ff=64), theta)
    refused(tmp_path / "model.gguf", "tensor blk.0.ffn_down.weight has shape")
    smaller = dict(theta, embedding=theta["embedding"][:-1])
    tiny.write_gguf(tmp_path / "model.gguf", config, smaller)
    refused(tmp_path / "model.gguf", "different pieces, but the embedding has")
