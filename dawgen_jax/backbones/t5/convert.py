"""Hugging Face directories of a T5 to ``theta`` and back."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from typing import Any

import numpy as np

from dawgen_jax.backbones.checkpoint import Files, Tensors, read_object
from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.errors import ConfigError, UserError

__all__ = ["FILES", "load", "read_config", "save", "tensor_names"]

log = logging.getLogger(__name__)

_HEAD = "lm_head.weight"
_EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
"""Relative bias for cross-attention in original T5 checkpoints, which no implementation uses."""

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
    """Names of the tensors that make up the leaf of ``theta`` at ``path``, and whether they are transposed.

    A leaf that is stacked over layers has one tensor per layer.

    >>> tensor_names(("encoder", "layers", "attention", "query"), 2)[0][1]
    'encoder.block.1.layer.0.SelfAttention.q.weight'
    """
    if path == ("embedding",):
        return ["shared.weight"], False
    if path == ("head",):
        return [_HEAD], False
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


def _embedding_name(tensors: Tensors, folder: pathlib.Path, shape: tuple[int, int]) -> str:
    """The name under which the embedding is stored; copies under other names must be equal."""
    names = [name for name in _EMBEDDINGS if name in tensors.where]
    if not names and _HEAD in tensors.where:
        return _HEAD
    if not names:
        raise UserError(f"{folder}: tensor shared.weight is missing; copy the checkpoint again.")
    first = tensors.read(names[0], shape) if len(names) > 1 else None
    for name in names[1:]:
        if not np.array_equal(first, tensors.read(name, shape)):
            raise UserError(
                f"{folder}: {names[0]} and {name} differ; separate encoder and decoder embeddings are not T5."
            )
    return names[0]


def _tied(tensors: Tensors, values: dict[str, Any], embedding: str, config: T5Config) -> bool:
    """Whether the head is the embedding: as transformers 5 reads the files, with a warning if config.json denies it."""
    file, name = tensors.folder / "config.json", "tie_word_embeddings"
    if _HEAD not in tensors.where or embedding == _HEAD:
        if values.get(name) is False:
            log.warning("%s: %s = false, but the weights hold only %s; the head is the embedding, as transformers 5 "
                        "reads it. If it is not, copy the checkpoint again.", file, name, embedding)
        return True
    if not config.tied_head:
        return False
    shape = config.vocab_size, config.d_model
    if np.array_equal(tensors.read(embedding, shape), tensors.read(_HEAD, shape)):
        return True
    # transformers 5 writes true for every T5: in its files, which have scale_decoder_outputs except for mt5, the flag
    # says nothing about the weights.
    if "scale_decoder_outputs" not in values and config.model_type != "mt5":
        log.warning("%s: %s = true, but %s and %s differ; the head is %s, as transformers 5 reads it. If the head is "
                    "the embedding, copy the checkpoint again.", file, name, _HEAD, embedding, _HEAD)
    return False


def read_config(folder: pathlib.Path, **numerics) -> T5Config:
    """The configuration in a folder; ``numerics`` are dtype, scan_unroll and remat.

    Raises:
      UserError: the file cannot be read, or is not a T5's.
    """
    file = folder / "config.json"
    try:
        return T5Config.from_hugging_face(read_object(file), **numerics)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{file}: {error}") from None


def _resolve(tensors: Tensors, config: T5Config) -> tuple[T5Config, str, tuple[str, ...]]:
    embedding = _embedding_name(tensors, tensors.folder, (config.vocab_size, config.d_model))
    values = read_object(tensors.folder / "config.json")
    config = dataclasses.replace(config, tied_head=_tied(tensors, values, embedding, config))
    return config, embedding, (*_EMBEDDINGS, _HEAD, _UNUSED)


FILES = Files(read_config, model.abstract, tensor_names, _resolve)
"""Reads and writes directories of the family."""
load, save = FILES.load, FILES.save
