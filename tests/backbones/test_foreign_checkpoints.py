"""Checkpoints whose config.json and weights disagree are read as transformers reads them, with a warning."""

import json
import pathlib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dawgen_jax import UserError
from dawgen_jax.backbones.t5 import convert as t5
from tests.backbones.t5 import torch_t5

HEAD = "lm_head.weight"
STORED = {"embedding": (True, False), "head": (False, True), "both": (True, True), "equal": (True, True)}
FLAGS = [None, True, False]


def write(folder: pathlib.Path, embedding: str, stored: str, flag: bool | None) -> None:
    """Change a checkpoint with a tied head: which of the two tensors it stores, and what config.json says."""
    tensors = load_file(folder / "model.safetensors")
    rows = tensors.pop(embedding)
    tensors.pop(HEAD, None)
    has_embedding, has_head = STORED[stored]
    if has_embedding:
        tensors[embedding] = rows
    if has_head:
        tensors[HEAD] = rows.copy() if stored == "equal" else np.flip(rows, 0).copy()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    values = json.loads((folder / "config.json").read_text())
    for name in ("tie_word_embeddings", "scale_decoder_outputs"):
        values.pop(name, None)
    if flag is not None:
        values["tie_word_embeddings"] = flag
    (folder / "config.json").write_text(json.dumps(values))


def assert_same(theta, oracle) -> None:
    """Embedding and head are those of PyTorch."""
    np.testing.assert_array_equal(theta["embedding"], oracle.get_input_embeddings().weight.detach())
    np.testing.assert_array_equal(theta.get("head", theta["embedding"]), oracle.get_output_embeddings().weight.detach())


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("stored", STORED)
def test_a_t5_is_read_as_transformers_reads_it(stored, flag, tmp_path, caplog):
    torch_t5.write(tmp_path, "v1.0", num_layers=1, num_decoder_layers=1)
    write(tmp_path, "shared.weight", stored, flag)
    config, theta = t5.load(tmp_path)
    assert_same(theta, torch_t5.read(tmp_path))
    contradicts = flag is False if stored in ("embedding", "head") else flag is not False and stored == "both"
    wanted = f"{tmp_path}/config.json: tie_word_embeddings = {'false' if flag is False else 'true'}, but "
    assert [record.getMessage().startswith(wanted) for record in caplog.records] == [True] * contradicts
    assert config.tied_head == (stored in ("embedding", "head") or (stored == "equal" and flag is not False))


def test_a_t5_of_transformers_5_says_true_whatever_its_head(tmp_path, caplog):
    torch_t5.write(tmp_path, "v1.1")
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["tie_word_embeddings"] and not values["scale_decoder_outputs"]
    assert not t5.load(tmp_path)[0].tied_head and not caplog.records


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("stored", STORED)
def test_a_llama_is_read_as_transformers_reads_it(stored, flag, tmp_path, caplog):
    from dawgen_jax.backbones.decoder_only import convert as decoder
    from tests.backbones.decoder_only import torch_decoder

    torch_decoder.write(tmp_path, "llama-tied", num_hidden_layers=1)
    write(tmp_path, "model.embed_tokens.weight", stored, flag)
    if flag is not True and stored in ("embedding", "head"):  # transformers draws the missing one at random
        missing = {"embedding": f"{tmp_path}/config.json: tie_word_embeddings is not true, .* hold no lm_head.weight",
                   "head": "1 tensors are missing .model.embed_tokens.weight"}[stored]
        with pytest.raises(UserError, match=missing):
            decoder.load(tmp_path)
        return
    _, theta = decoder.load(tmp_path)
    assert_same(theta, torch_decoder.read(tmp_path))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (stored == "both" and flag is True)
    assert all(line.startswith(f"{tmp_path}/config.json: tie_word_embeddings = true") for line in told)
