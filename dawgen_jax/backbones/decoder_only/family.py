"""Decoder-only models in the registry: llama (SmolLM2, TinyLlama), qwen2 and qwen3 checkpoints."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

from dawgen_jax.backbones.base import Family, Shardings
from dawgen_jax.backbones.checkpoint import read_object
from dawgen_jax.backbones.decoder_only import check, convert
from dawgen_jax.backbones.decoder_only.config import DecoderConfig
from dawgen_jax.backbones.decoder_only.format import CausalFormat, adapter, document_start
from dawgen_jax.backbones.decoder_only.seam import DecoderOnly
from dawgen_jax.backbones.tokens import read_tokenizer
from dawgen_jax.config import BackboneConfig

__all__ = ["FAMILY"]


def load(folder: pathlib.Path, config: BackboneConfig, shardings: Shardings, storage: str
         ) -> tuple[DecoderOnly, CausalFormat, dict]:
    """Model, format and parameters of a checkpoint; see :class:`dawgen_jax.backbones.base.Family`."""
    shape, theta = convert.load(folder, dtype=storage, compute_dtype=config.dtype, scan_unroll=config.scan_unroll,
                                remat=config.remat, sharding=lambda shape: shardings(DecoderOnly(shape)))
    form = read_format(folder)
    return DecoderOnly(shape, len(form.start)), form, theta


def read_format(folder: pathlib.Path) -> CausalFormat:
    """The format alone, from config.json and the tokenizer."""
    size = convert.read_config(folder).vocab_size
    tokenizer = read_tokenizer(folder, size)
    start = document_start(tokenizer, read_object(folder / "config.json"))
    return CausalFormat(tokenizer, size, () if start is None else (start,))


def read_model(folder: pathlib.Path, config: BackboneConfig) -> DecoderOnly:
    """The model alone, from config.json; a document start has the shapes and costs of any other token."""
    return _model(convert.read_config(folder), config)


def _model(shape: DecoderConfig, config: BackboneConfig) -> DecoderOnly:
    return DecoderOnly(dataclasses.replace(shape, dtype=config.dtype, scan_unroll=config.scan_unroll,
                                           remat=config.remat))


_SHAPES = {
    "smollm2-135m": DecoderConfig(
        vocab_size=49152, width=576, head_dim=64, d_ff=1536, num_layers=30, num_heads=9, num_kv_heads=3,
        norm_epsilon=1e-5, rope_theta=1e5, tied_head=True),
}
FAMILY = Family(load, read_format, read_model,
                {name: functools.partial(_model, shape) for name, shape in _SHAPES.items()},
                check.report, convert.FILES.rewrite, adapter(()),
                {"prompt_length": 20, "prompt_init": "sampled", "prompt_place": "after", "optimiser": "adamw",
                 "learning_rate": 0.02}, ("after", "before"))
"""How decoder-only checkpoints are read."""
