"""Families of backbones by the ``model_type`` of config.json, and loading of checkpoints."""

from __future__ import annotations

import hashlib
import pathlib

from dawgen_jax.backbones.base import Backbone, Family, Format, Model, Shardings
from dawgen_jax.backbones.checkpoint import read_object
from dawgen_jax.backbones.decoder_only import family as decoder_only
from dawgen_jax.backbones.t5 import family as t5
from dawgen_jax.backbones.tokens import TOKENIZER_FILES
from dawgen_jax.config import BackboneConfig, digest
from dawgen_jax.config.validation import shown
from dawgen_jax.errors import UserError

__all__ = ["FAMILIES", "family_of", "load", "read_format", "read_model"]

FAMILIES: dict[str, Family] = {**dict.fromkeys(("t5", "mt5", "umt5"), t5.FAMILY),
                               **dict.fromkeys(("llama", "qwen2", "qwen3"), decoder_only.FAMILY)}
"""model_type -> family."""


def family_of(folder: pathlib.Path) -> Family:
    """The family of the checkpoint in a folder.

    Raises:
      UserError: config.json is missing or broken, or its model_type belongs to no known family.
    """
    file = folder / "config.json"
    model_type = read_object(file).get("model_type", "t5")  # old T5 files have no model_type
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise UserError(f"{file}: model_type = {shown(model_type)}: not a known family of backbones; give a checkpoint "
                        f"of {', '.join(FAMILIES)}.")
    return FAMILIES[model_type]


def load(folder: pathlib.Path, config: BackboneConfig, shardings: Shardings, storage: str) -> Backbone:
    """Load a checkpoint.

    Args:
      folder: a Hugging Face directory.
      config: name in results, compute dtype and numerics.
      shardings: gives the sharding of each parameter.
      storage: dtype of the parameters in memory.

    Raises:
      UserError: the checkpoint or its tokenizer cannot be used.
    """
    model, tokens, theta = family_of(folder).load(folder, config, shardings, storage)
    content = hashlib.sha256()
    tokenizer_files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    for file in [*sorted(folder.glob("*.safetensors")), folder / "config.json", *tokenizer_files]:
        with file.open("rb") as stream:
            content.update(hashlib.file_digest(stream, "sha256").digest())
    return Backbone(model, tokens, theta, config.label, digest(content.hexdigest(), config.dtype), config)


def read_format(folder: pathlib.Path) -> Format:
    """The tokens and templates of a checkpoint, without its weights."""
    return family_of(folder).read_format(folder)


def read_model(folder: pathlib.Path, config: BackboneConfig) -> Model:
    """The model of a checkpoint, without its weights."""
    return family_of(folder).read_model(folder, config)
