"""Hugging Face directories to ``theta`` and back, without PyTorch.

Tensors are read one at a time from (sharded) safetensors into one stacked leaf, which is placed into its sharding
before the next is begun: beyond ``theta`` itself memory holds one leaf. PyTorch's Linear weights are [out, in] and are
transposed; embeddings, norms and relative bias tables are not. Storage dtypes float16 and bfloat16 are widened.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from dawgen_jax.backbones.checkpoint import STORAGE, Tensors, read_object
from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.tokens import TOKENIZER_FILES
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.io import world
from dawgen_jax.io.files import replacing, write_file, write_json

__all__ = ["load", "read_config", "rewrite", "save", "tensor_names"]

_EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
"""Original T5 checkpoints carry a relative bias for cross-attention that no implementation uses."""
_SHARD_BYTES = 5 * 10**9

_BLOCKS = {
    "encoder": {
        "attention": "layer.0.SelfAttention",
        "attention_norm": "layer.0",
        "feed_forward": "layer.1.DenseReluDense",
        "feed_forward_norm": "layer.1",
        "bias": "layer.0.SelfAttention",
    },
    "decoder": {
        "attention": "layer.0.SelfAttention",
        "attention_norm": "layer.0",
        "cross": "layer.1.EncDecAttention",
        "cross_norm": "layer.1",
        "feed_forward": "layer.2.DenseReluDense",
        "feed_forward_norm": "layer.2",
        "bias": "layer.0.SelfAttention",
    },
}
_KERNELS = {
    "query": "q",
    "key": "k",
    "value": "v",
    "output": "o",
    "wi": "wi",
    "wi_0": "wi_0",
    "wi_1": "wi_1",
    "wo": "wo",
}


def tensor_names(path: tuple[str, ...], layers: int) -> tuple[list[str], bool]:
    """The tensors that make up the leaf of ``theta`` at ``path``, and whether each is transposed.

    A leaf that is stacked over layers takes one tensor a layer.

    >>> tensor_names(("encoder", "layers", "attention", "query"), 2)[0][1]
    'encoder.block.1.layer.0.SelfAttention.q.weight'
    """
    if path == ("embedding",):
        return ["shared.weight"], False
    if path == ("head",):
        return ["lm_head.weight"], False
    side, *rest = path
    if rest == ["norm", "scale"]:
        return [f"{side}.final_layer_norm.weight"], False
    if rest == ["bias"]:
        return [f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"], False
    part = _BLOCKS[side][rest[1]]
    if rest[1] == "bias":
        name, transposed = "relative_attention_bias", False
    elif rest[2] == "scale":
        name, transposed = "layer_norm", False
    else:
        name, transposed = _KERNELS[rest[2]], True
    return [f"{side}.block.{i}.{part}.{name}.weight" for i in range(layers)], transposed


def _leaves(config: T5Config) -> Iterator[tuple[tuple[str, ...], jax.ShapeDtypeStruct, list[str], bool, bool]]:
    """(path, shape, tensor names, transposed, stacked) of every leaf of ``theta``."""
    for keys, leaf in jax.tree_util.tree_leaves_with_path(model.abstract(config)):
        path = tuple(key.key for key in keys)
        layers = config.num_layers if path[0] == "encoder" else config.num_decoder_layers
        yield path, leaf, *tensor_names(path, layers), "layers" in path


def _embedding_name(tensors: Tensors, folder: pathlib.Path, shape: tuple[int, int]) -> str:
    """The name under which the embedding is stored; copies under the other names must be equal."""
    names = [name for name in _EMBEDDINGS if name in tensors.where]
    if not names:
        raise UserError(f"{folder}: tensor shared.weight is missing; copy the checkpoint again.")
    first = tensors.read(names[0], shape) if len(names) > 1 else None
    for name in names[1:]:
        if not np.array_equal(first, tensors.read(name, shape)):
            raise UserError(
                f"{folder}: {names[0]} and {name} differ; separate encoder and decoder embeddings are not T5."
            )
    return names[0]


def _parsed(folder: pathlib.Path, values: dict[str, Any], **fields) -> T5Config:
    try:
        return T5Config.from_hugging_face(values, **fields)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{folder / 'config.json'}: {error}") from None


def read_config(folder: pathlib.Path, **numerics) -> T5Config:
    """What config.json says; ``numerics`` are dtype, scan_unroll and remat.

    Raises:
      UserError: the file cannot be read, or is not a T5's.
    """
    return _parsed(folder, read_object(folder / "config.json"), **numerics)


def load(
    path: str | os.PathLike,
    *,
    dtype: str = "float32",
    compute_dtype: str = "float32",
    scan_unroll: int = 0,
    remat: bool = False,
    sharding: jax.sharding.Sharding | Callable | None = None,
) -> tuple[T5Config, dict]:
    """Read a Hugging Face directory.

    Args:
      path: directory with config.json and safetensors weights, sharded or not.
      dtype: storage of ``theta``: float32, bfloat16 or float64.
      compute_dtype: ``T5Config.dtype``.
      scan_unroll: ``T5Config.scan_unroll``.
      remat: ``T5Config.remat``.
      sharding: of every leaf, or a function config -> tree like ``theta`` of shardings; by default the default
        device.

    Returns:
      (config, theta).

    Raises:
      UserError: missing, extra, wrongly shaped or unreadable tensors or config, or values that are not finite; the
        sentence names file and tensor.
    """
    if dtype not in ("float32", "bfloat16", "float64"):
        raise ConfigError(
            f"dtype = {dtype!r}: must be float32 or bfloat16; float16 overflows in T5 and is widened on loading."
        )
    folder = pathlib.Path(path)
    values = read_object(folder / "config.json")
    tensors = Tensors(folder)
    config = _parsed(folder, values, tied_head="lm_head.weight" not in tensors.where, dtype=compute_dtype,
                     scan_unroll=scan_unroll, remat=remat)
    leaves = list(_leaves(config))
    embedding = _embedding_name(tensors, folder, (config.vocab_size, config.d_model))
    wanted = {name for _, _, names, _, _ in leaves for name in names} - {"shared.weight"} | set(_EMBEDDINGS) | {_UNUSED}
    missing = sorted(wanted - set(tensors.where) - set(_EMBEDDINGS) - {_UNUSED})
    extra = sorted(set(tensors.where) - wanted)
    for names, what in ((missing, "are missing"), (extra, "are not part of this model")):
        if names:
            raise UserError(
                f"{folder}: {len(names)} tensors {what} ({', '.join(names[:3])}{', ...' * (len(names) > 3)}); "
                "config.json and weights do not belong together."
            )
    theta: dict = {}
    places = sharding(config) if callable(sharding) else jax.tree.map(lambda _: sharding, model.abstract(config))
    for keys, leaf, names, transposed, stacked in leaves:
        names = [embedding] if keys == ("embedding",) else names
        target = np.empty(leaf.shape, STORAGE[dtype])
        shape = leaf.shape[1:] if stacked else leaf.shape
        for i, name in enumerate(names):
            tensor = tensors.read(name, shape[::-1] if transposed else shape)
            position = i if stacked else ...
            with np.errstate(over="ignore"):
                target[position] = tensor.T if transposed else tensor
            if not np.isfinite(target[position]).all():
                file = tensors.where[name][0]
                raise UserError(f"{file}: tensor {name} overflows in {dtype}; load it in a wider one.")
        node, place = theta, places
        for key in keys[:-1]:
            node, place = node.setdefault(key, {}), place[key]
        node[keys[-1]] = jax.block_until_ready(world.place(target, place[keys[-1]]))
    return config, theta


def save(
    path: str | os.PathLike,
    config: T5Config,
    theta,
    *,
    dtype: str | None = None,
    tokenizer_from: str | os.PathLike | None = None,
) -> None:
    """Write a Hugging Face directory that ``transformers`` and :func:`load` read; config.json comes last.

    Args:
      path: directory, made where missing.
      config: the model.
      theta: its parameters.
      dtype: storage of the file (float32, bfloat16, float16); by default that of ``theta``.
      tokenizer_from: directory whose tokenizer files are copied.

    Raises:
      ConfigError: ``dtype`` is none of these.
      UserError: the weights would overflow in ``dtype``.
    """
    if dtype is not None and dtype not in STORAGE:
        raise ConfigError(f"dtype = {dtype!r}: must be one of {', '.join(STORAGE)}.")
    folder = pathlib.Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, np.ndarray]] = [{}]
    sizes = [0]
    for keys, leaf, names, transposed, stacked in _leaves(config):
        node = theta
        for key in keys:
            node = node[key]
        if node.shape != leaf.shape:
            raise UserError(f"{'/'.join(keys)} has shape {node.shape} where the configuration asks for {leaf.shape}.")
        for i, name in enumerate(names):
            tensor = np.asarray(node[i] if stacked else node)
            with np.errstate(over="ignore"):
                stored = tensor if dtype is None else tensor.astype(STORAGE[dtype])
            if not np.array_equal(np.isfinite(tensor), np.isfinite(stored)):
                raise UserError(f"{folder}: {name} overflows in {dtype}; store bfloat16 or float32.")
            if sizes[-1] + stored.nbytes > _SHARD_BYTES and shards[-1]:
                shards.append({})
                sizes.append(0)
            shards[-1][name] = np.ascontiguousarray(stored.T if transposed else stored)
            sizes[-1] += stored.nbytes
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        names = ["model.safetensors"]
    for name, tensors in zip(names, shards, strict=True):
        with replacing(folder / name) as temporary:
            save_file(tensors, temporary, {"format": "pt"})
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(sizes)},
            "weight_map": {key: name for name, shard in zip(names, shards, strict=True) for key in shard},
        }
        write_json(folder / "model.safetensors.index.json", index)
    if tokenizer_from is not None:
        for name in TOKENIZER_FILES:
            source = pathlib.Path(tokenizer_from) / name
            if source.is_file():
                with replacing(folder / name) as temporary:
                    shutil.copyfile(source, temporary)
    text = json.dumps(config.to_hugging_face(), indent=2) + "\n"
    write_file(folder / "config.json", text)


def rewrite(tensors: dict[str, np.ndarray], source: pathlib.Path, target: pathlib.Path, dtype: str) -> int:
    """Write the tensors of a checkpoint that is not in safetensors, with its config.json and tokenizer files.

    Args:
      tensors: by name, in float32.
      source: directory of config.json and the tokenizer.
      target: directory to be made.
      dtype: storage.

    Returns:
      The number of parameters.

    Raises:
      UserError: as :func:`load` and :func:`save`.
    """
    repeated = {"lm_head.weight", "shared.weight"} <= tensors.keys() and np.array_equal(
        tensors["lm_head.weight"], tensors["shared.weight"])
    if read_object(source / "config.json").get("tie_word_embeddings", True) and repeated:
        # Old files repeat a tied head; without it the loader sees that it is tied.
        tensors = {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        aside = pathlib.Path(folder)
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, aside / "model.safetensors")
        shutil.copyfile(source / "config.json", aside / "config.json")
        try:
            config, theta = load(aside)
        except UserError as error:
            raise UserError(str(error).replace(folder, str(source))) from None
    save(target, config, theta, dtype=dtype, tokenizer_from=source)
    return sum(leaf.size for leaf in jax.tree.leaves(theta))
