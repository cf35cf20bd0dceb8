"""Hugging Face directories: exact round trips, storage dtypes, shards, memory, and what is refused."""

import json
import math
import shutil
import tracemalloc

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from dawgen_jax.backbones.t5 import convert, model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.errors import ConfigError, UserError
from tests.backbones.t5 import torch_t5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untied v1.1 checkpoint; copied by whoever changes it."""
    folder = tmp_path_factory.mktemp("v1.1")
    torch_t5.write(folder, "v1.1")
    return folder


def copy(checkpoint, tmp_path, change=lambda tensors: None, **config):
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **config}))
    return folder


def equal(first, second):
    return jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and (a == b).all(), first, second))


@pytest.mark.parametrize("kind", torch_t5.KINDS)
def test_round_trip_is_exact_and_pytorch_reads_it(kind, tmp_path, monkeypatch):
    oracle = torch_t5.write(tmp_path / "theirs", kind)
    config, theta = convert.load(tmp_path / "theirs")
    monkeypatch.setattr("dawgen_jax.backbones.checkpoint.SHARD_BYTES", 20_000)
    convert.save(tmp_path / "ours", config, theta)
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 2
    again, copied = convert.load(tmp_path / "ours")
    assert again == config and equal(theta, copied)
    reread = torch_t5.read(tmp_path / "ours", torch_t5.KINDS[kind][0])
    for name, tensor in oracle.state_dict().items():
        assert torch.equal(tensor, reread.state_dict()[name]), name
    if config.model_type == "t5":
        assert (
            reread.config.scale_decoder_outputs == oracle.config.scale_decoder_outputs == config.scale_decoder_outputs
        )


def test_random_theta_has_the_same_tree_and_reads_back(tmp_path):
    config = T5Config(
        50, 16, 4, 24, 1, 2, 3, tied_head=True, scale_decoder_outputs=True, gated=False, activation="relu"
    )
    theta = jax.jit(model.init, static_argnums=0)(config, jax.random.key(0))
    convert.save(tmp_path, config, theta)
    assert equal(theta, convert.load(tmp_path)[1])
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), theta)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), model.abstract(config))


@pytest.mark.parametrize(("name", "stored"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)])
def test_storage_dtypes_are_widened(name, stored, checkpoint, tmp_path):
    config, theta = convert.load(checkpoint)
    convert.save(tmp_path, config, theta, dtype=name)
    assert {t.dtype for t in load_file(tmp_path / "model.safetensors").values()} == {np.dtype(stored)}
    wanted = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).astype(stored).astype(np.float32)), theta)
    assert equal(wanted, convert.load(tmp_path)[1])
    assert torch_t5.read(tmp_path, dtype=torch.float32).shared.weight.dtype == torch.float32
    with pytest.raises(ConfigError, match="float16 overflows"):
        convert.load(tmp_path, dtype="float16")


def test_bfloat16_comes_back_bit_for_bit(checkpoint, tmp_path):
    config, theta = convert.load(checkpoint, dtype="bfloat16")
    convert.save(tmp_path, config, theta)
    assert {t.dtype for t in load_file(tmp_path / "model.safetensors").values()} == {np.dtype(ml_dtypes.bfloat16)}
    assert equal(theta, convert.load(tmp_path, dtype="bfloat16")[1])


def test_values_that_overflow_float16_are_not_written(checkpoint, tmp_path):
    config, theta = convert.load(checkpoint)
    theta["embedding"] = theta["embedding"].at[3, 3].set(1e6)
    with pytest.raises(UserError, match=r"shared.weight overflows in float16"):
        convert.save(tmp_path / "new", config, theta, dtype="float16")
    assert not list((tmp_path / "new").iterdir())


def test_harmless_extras_are_passed_over_and_differing_embeddings_refused(checkpoint, tmp_path):
    def harmless(tensors):
        tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
        tensors["decoder.embed_tokens.weight"] = tensors["encoder.embed_tokens.weight"].copy()
        tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = np.ones((32, 3), np.float32)

    assert equal(convert.load(checkpoint)[1], convert.load(copy(checkpoint, tmp_path, harmless))[1])

    def differing(tensors):
        harmless(tensors)
        tensors["decoder.embed_tokens.weight"][0] += 1

    with pytest.raises(UserError, match=r"encoder.embed_tokens.weight and decoder.embed_tokens.weight differ"):
        convert.load(copy(checkpoint, tmp_path / "second", differing))


@pytest.mark.parametrize("stored", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["shared.weight", "decoder.block.1.layer.2.DenseReluDense.wo.weight"])
def test_weights_that_are_not_finite_are_refused(name, value, stored, checkpoint, tmp_path):
    def change(tensors):
        tensors[name] = tensors[name].astype(stored)
        tensors[name][1, 1] = value

    message = rf"model.safetensors: tensor {name} holds NaN or infinity; copy the checkpoint again"
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(UserError, match=message):
            convert.load(copy(checkpoint, tmp_path / dtype, change), dtype=dtype)


def test_a_copy_of_the_embedding_that_is_not_finite_is_told_as_such(checkpoint, tmp_path):
    def change(tensors):
        tensors["encoder.embed_tokens.weight"] = np.full_like(tensors["shared.weight"], np.nan)

    with pytest.raises(UserError, match=r"tensor encoder.embed_tokens.weight holds NaN or infinity"):
        convert.load(copy(checkpoint, tmp_path, change))


def test_weights_beyond_the_wanted_dtype_are_refused(checkpoint, tmp_path):
    def change(tensors):
        tensors["shared.weight"] = tensors["shared.weight"].astype(np.float64)
        tensors["shared.weight"][0, 0] = 1e300

    with pytest.raises(UserError, match=r"tensor shared.weight overflows in float32; load it in a wider dtype"):
        convert.load(copy(checkpoint, tmp_path, change))


def test_eight_bit_floats_are_refused(checkpoint, tmp_path):
    folder = copy(checkpoint, tmp_path)
    values = json.loads((folder / "config.json").read_text())
    size = values["vocab_size"] * values["d_model"]
    shape = [values["vocab_size"], values["d_model"]]
    header = {"shared.weight": {"dtype": "F8_E4M3", "shape": shape, "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    (folder / "model-1.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    (folder / "model-0.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"shared.weight": "model-1.safetensors", "rest": "model-0.safetensors"}})
    )
    with pytest.raises(UserError, match=r"model-1.safetensors: tensor shared.weight is stored as F8_E4M3; save"):
        convert.load(folder)


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (
            lambda t: t.pop("encoder.final_layer_norm.weight"),
            {},
            "1 tensors are missing .encoder.final_layer_norm.weight",
        ),
        (lambda t: [t.pop(name) for name in ("shared.weight", "lm_head.weight")], {}, "shared.weight is missing"),
        (lambda t: t.update(adapter=np.ones(3, np.float32)), {}, r"1 tensors are not part of this model \(adapter\)"),
        (lambda t: None, {"d_model": 48}, r"shared.weight has shape \[99, 32\] where config.json asks for \[99, 48\]"),
        (lambda t: None, {"num_layers": 3}, "9 tensors are missing"),
        (lambda t: None, {"d_ff": 41}, r"wi_0.weight has shape \[40, 32\] where config.json asks for \[41, 32\]"),
        (lambda t: t.update({"shared.weight": t["shared.weight"].astype(np.int8)}), {}, "stored as I8"),
        (lambda t: None, {"model_type": "bert"}, "config.json: model_type = 'bert'"),
    ],
)
def test_wrong_checkpoints_are_named(change, config, message, checkpoint, tmp_path):
    with pytest.raises(UserError, match=message):
        convert.load(copy(checkpoint, tmp_path, change, **config))


def test_unfinished_checkpoints_are_named(checkpoint, tmp_path):
    with pytest.raises(UserError, match=r"config.json: no such file"):
        convert.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json: cannot be read"):
        convert.load(tmp_path)
    for text, message in (("[1]", "holds no JSON object"), ("[" * 100_000, "cannot be read"), ("\0", "cannot be read")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=rf"config.json: {message}"):
            convert.load(tmp_path)
    shutil.copy(checkpoint / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"neither model.safetensors nor"):
        convert.load(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="dawgen backbone convert SRC DST"):
        convert.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        convert.load(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"shared.weight": "gone.safetensors"}})
    )
    with pytest.raises(UserError, match=r"gone.safetensors: is named in model.safetensors.index.json but missing"):
        convert.load(tmp_path)
    for names in ({"a": "../x.safetensors"}, {"a": 3}, {"a": [1]}, {"a": ""}, {"a": ".."}, {}, ["a"], None):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
        with pytest.raises(UserError, match="names no usable files"):
            convert.load(tmp_path)


def test_leaves_go_straight_into_their_sharding(checkpoint):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, None, "model"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    _, theta = convert.load(checkpoint, sharding=lambda config: jax.tree_util.tree_map_with_path(
        lambda path, _: spread if path[-1].key == "wi_0" else whole, model.abstract(config)))
    assert theta["encoder"]["layers"]["feed_forward"]["wi_0"].sharding == spread
    assert theta["embedding"].sharding == whole
    assert equal(jax.tree.map(np.asarray, theta), jax.tree.map(np.asarray, convert.load(checkpoint)[1]))


SIZES = {
    # name: (config.json, parameters as PyTorch counts them)
    "t5-small": ({}, 60_506_624),
    "t5-v1_1-small": ({"d_ff": 1024, "num_layers": 8, "num_heads": 6}, 76_961_152),
    "t5-v1_1-large": ({"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16}, 783_150_080),
    "t5-v1_1-xxl": ({"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64}, 11_135_332_352),
    "t5-11b": ({"d_model": 1024, "d_kv": 128, "d_ff": 65536, "num_layers": 24, "num_heads": 128}, 11_307_321_344),
}


def test_loading_holds_one_leaf_beyond_theta(tmp_path):
    config = T5Config(vocab_size=4096, d_model=256, d_kv=64, d_ff=512, num_layers=4, num_decoder_layers=4, num_heads=4)
    convert.save(tmp_path, config, jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float16), model.abstract(config)))
    sizes = [4 * leaf.size for leaf in jax.tree.leaves(model.abstract(config))]
    assert sum(sizes) > 5 * max(sizes)  # so that reading everything before placing it would not go unseen
    tracemalloc.start()
    try:
        loaded = convert.load(tmp_path)
        kept, peak = tracemalloc.get_traced_memory()  # what the device shares with the host counts as kept
    finally:
        tracemalloc.stop()
    del loaded
    assert peak - kept < 1.2 * max(sizes)


@pytest.mark.parametrize("name", SIZES)
def test_full_sizes_by_shape_alone(name):
    values, wanted = SIZES[name]
    if "v1_1" in name:
        values = {**values, "tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"}
    config = T5Config.from_hugging_face(values)
    theta = model.abstract(config)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(theta)) == wanted

    def run(theta, tokens, mask):
        encoded = model.encode(theta, model.embed(theta, tokens, config=config), mask, config=config)
        hidden = model.decode(theta, tokens[:, :5], encoded, mask, config=config)
        return model.logits(theta, hidden, config=config), model.label_logits(
            theta, hidden[:, 0], [4, 5], config=config
        )

    tokens = jax.ShapeDtypeStruct((2, 7), jnp.int32), jax.ShapeDtypeStruct((2, 7), bool)
    full, labels = jax.eval_shape(run, theta, *tokens)
    assert full.shape == (2, 5, config.vocab_size) and labels.shape == (2, 2)
