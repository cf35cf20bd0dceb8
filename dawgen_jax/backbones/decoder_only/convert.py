"""Hugging Face directories of a decoder-only model to ``theta`` and back."""

from __future__ import annotations

import dataclasses
import logging
import pathlib

import numpy as np

from dawgen_jax.backbones.checkpoint import Files, Tensors, read_object
from dawgen_jax.backbones.decoder_only import model
from dawgen_jax.backbones.decoder_only.config import DecoderConfig
from dawgen_jax.errors import ConfigError, UserError

__all__ = ["FILES", "load", "read_config", "save", "tensor_names"]

log = logging.getLogger(__name__)

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_PARTS = {"attention": "self_attn", "attention_norm": "input_layernorm", "feed_forward": "mlp",
          "feed_forward_norm": "post_attention_layernorm"}
_KERNELS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj", "gate": "gate_proj",
            "up": "up_proj", "down": "down_proj", "query_norm": "q_norm", "key_norm": "k_norm"}


def tensor_names(path: tuple[str, ...], layers: int) -> tuple[list[str], bool]:
    """Names of the tensors that make up the leaf of ``theta`` at ``path``, and whether they are transposed.

    A leaf that is stacked over layers has one tensor per layer.

    >>> tensor_names(("layers", "attention", "query"), 2)
    (['model.layers.0.self_attn.q_proj.weight', 'model.layers.1.self_attn.q_proj.weight'], True)
    """
    if path[0] != "layers":
        return [{"embedding": _EMBEDDING, "head": _HEAD, "norm": "model.norm.weight"}[path[0]]], False
    part, *rest = path[1:]
    name, kind = _PARTS[part], "weight"
    if rest[0].endswith("_bias"):
        rest, kind = [rest[0].removesuffix("_bias")], "bias"
    if rest[0] != "scale":
        name = f"{name}.{_KERNELS[rest[0]]}"
    transposed = kind == "weight" and rest[-1] != "scale"
    return [f"model.layers.{i}.{name}.{kind}" for i in range(layers)], transposed


def read_config(folder: pathlib.Path, **numerics) -> DecoderConfig:
    """The configuration in a folder; ``numerics`` are dtype, scan_unroll and remat.

    Raises:
      UserError: the file cannot be read, or belongs to another family.
    """
    file = folder / "config.json"
    try:
        return DecoderConfig.from_hugging_face(read_object(file), **numerics)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def _ties(tensors: Tensors, config: DecoderConfig) -> tuple[DecoderConfig, str]:
    """(config, name of the embedding): whether the head is the embedding, as transformers 5 reads the files.

    Raises:
      UserError: an untied head is missing, which transformers would draw at random.
    """
    file, stored = tensors.folder / "config.json", {_EMBEDDING, _HEAD} & tensors.where.keys()
    if not config.tied_head and stored == {_EMBEDDING}:
        raise UserError(f"{file}: tie_word_embeddings is not true, but the weights hold no {_HEAD}; set it to true if "
                        "the head is the embedding, else copy the checkpoint again.")
    if not config.tied_head or not stored:
        return config, _EMBEDDING
    if len(stored) == 1:
        return config, *stored
    shape = config.vocab_size, config.width
    if np.array_equal(tensors.read(_EMBEDDING, shape), tensors.read(_HEAD, shape)):
        return config, _EMBEDDING
    log.warning("%s: tie_word_embeddings = true, but %s and %s differ; the head is %s, as transformers 5 reads it. Set "
                "tie_word_embeddings to false.", file, _HEAD, _EMBEDDING, _HEAD)
    return dataclasses.replace(config, tied_head=False), _EMBEDDING


def _resolve(tensors: Tensors, config: DecoderConfig) -> tuple[DecoderConfig, str, list[str]]:
    config, embedding = _ties(tensors, config)
    # Older Llama checkpoints store the rotary frequencies, which follow from config.json.
    rotary = [f"model.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(config.num_layers)]
    return config, embedding, [_HEAD, *rotary]


FILES = Files(read_config, model.abstract, tensor_names, _resolve)
"""Reads and writes directories of the family."""
load, save = FILES.load, FILES.save
