"""Directories of decoder-only models: exact round trips, shards, storage dtypes, shardings, and what is refused."""

import json
import math
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
import torch
from jax.sharding import PartitionSpec
from safetensors.numpy import load_file, save_file

from dawgen_jax.backbones.decoder_only import convert, model, partition
from dawgen_jax.backbones.decoder_only.config import DecoderConfig
from dawgen_jax.errors import ConfigError, UserError
from tests.backbones.decoder_only import torch_decoder
from tests.backbones.decoder_only.test_config import HUB


@pytest.fixture(scope="module", params=["llama", "llama-tied", "qwen2", "qwen3"])
def checkpoint(request, tmp_path_factory):
    """(folder, the model as PyTorch reads it); copied by whoever changes it."""
    folder = tmp_path_factory.mktemp(request.param)
    return folder, torch_decoder.write(folder, request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    torch_decoder.write(folder, "llama")
    return folder


def copy(folder, tmp_path, change=lambda tensors: None, **config):
    target = tmp_path / "copy"
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    values = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**values, **config}))
    return target


def equal(first, second):
    return jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and (a == b).all(), first, second))


def test_round_trip_is_exact_and_pytorch_reads_it(checkpoint, tmp_path, monkeypatch):
    folder, oracle = checkpoint
    config, theta = convert.load(folder)
    monkeypatch.setattr("dawgen_jax.backbones.checkpoint.SHARD_BYTES", 20_000)
    convert.save(tmp_path, config, theta)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    again, copied = convert.load(tmp_path)
    assert again == config and equal(theta, copied)
    reread = torch_decoder.read(tmp_path)
    for name, tensor in oracle.state_dict().items():
        assert torch.equal(tensor, reread.state_dict()[name]), name


@pytest.mark.parametrize(("name", "stored"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)])
def test_storage_dtypes_are_widened(name, stored, llama, tmp_path):
    config, theta = convert.load(llama)
    convert.save(tmp_path, config, theta, dtype=name)
    assert {t.dtype for t in load_file(tmp_path / "model.safetensors").values()} == {np.dtype(stored)}
    wanted = jax.tree.map(lambda leaf: np.asarray(leaf).astype(stored).astype(np.float32), theta)
    assert equal(wanted, convert.load(tmp_path)[1])
    with pytest.raises(ConfigError, match="float16 overflows in T5 and is widened"):
        convert.load(tmp_path, dtype="float16")


def test_repeated_heads_and_old_rotary_frequencies_are_passed_over(tmp_path):
    torch_decoder.write(tmp_path / "tied", "llama-tied")

    def harmless(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(5, np.float32)

    folder = copy(tmp_path / "tied", tmp_path, harmless)
    assert equal(convert.load(tmp_path / "tied")[1], convert.load(folder)[1])


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), {}, "1 tensors are missing .model.norm.weight"),
        (lambda t: t.pop("lm_head.weight"), {}, "is not true, but the weights hold no lm_head.weight"),
        (lambda t: t.update(adapter=np.ones(3, np.float32)), {}, r"1 tensors are not part of this model \(adapter\)"),
        (lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": np.ones(50, np.float32)}), {},
         "1 tensors are not part of this model .model.layers.0.self_attn.q_proj.bias"),
        (lambda t: None, {"hidden_size": 48}, r"has shape \[\d+, 35\] where config.json asks for \[\d+, 48\]"),
        (lambda t: None, {"num_hidden_layers": 4}, "9 tensors are missing"),
        (lambda t: t["model.norm.weight"].fill(np.nan), {}, "tensor model.norm.weight holds NaN or infinity"),
        (lambda t: None, {"model_type": "t5"}, "config.json: model_type = 't5'"),
        (lambda t: None, {"model_type": "gemma2"}, "config.json: model_type = 'gemma2'"),
    ],
)  # fmt: skip
def test_wrong_checkpoints_are_named(change, config, message, llama, tmp_path):
    with pytest.raises(UserError, match=message):
        convert.load(copy(llama, tmp_path, change, **config))


def test_a_truncated_file_and_a_pickle_are_refused(llama, tmp_path):
    folder = copy(llama, tmp_path)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:5000])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        convert.load(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="a pickle, which is never loaded"):
        convert.load(folder)


def test_a_pickle_is_rewritten(llama, tmp_path):
    convert.FILES.rewrite(load_file(llama / "model.safetensors"), llama, tmp_path / "made", "float32")
    assert equal(convert.load(llama)[1], convert.load(tmp_path / "made")[1])


def test_leaves_go_straight_into_their_sharding(llama):
    mesh = jax.make_mesh((2, 2), ("fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

    def places(config):
        return jax.tree.map(lambda spec: jax.sharding.NamedSharding(mesh, spec), partition.layout(config, mesh.shape))

    config, theta = convert.load(llama, sharding=places)
    assert jax.tree.map(lambda leaf: leaf.sharding, theta) == places(config)
    assert theta["layers"]["feed_forward"]["gate"].sharding.spec == PartitionSpec(None, None, "tensor")  # 35 is odd
    assert equal(jax.tree.map(np.asarray, theta), jax.tree.map(np.asarray, convert.load(llama)[1]))


@pytest.mark.parametrize(("name", "wanted"), [("SmolLM2-135M", 134_515_008), ("Llama-2-7b", 6_738_415_616),
                                              ("Llama-3.2-1B", 1_235_814_400), ("Qwen2.5-0.5B", 494_032_768),
                                              ("Qwen3-0.6B", 596_049_920)])
def test_full_sizes_by_shape_alone(name, wanted):
    theta = model.abstract(DecoderConfig.from_hugging_face(HUB[name][0]))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(theta)) == wanted
