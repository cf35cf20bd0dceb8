"""T5 in the registry: t5, mt5 and umt5 checkpoints (flan-t5, byt5 and t5-efficient say 't5')."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

from dawgen_jax.backbones.base import Family, Shardings
from dawgen_jax.backbones.t5 import check, convert
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.format import ADAPTER, T5Format
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.backbones.t5.sizes import SIZES
from dawgen_jax.backbones.tokens import read_tokenizer
from dawgen_jax.config import PAPER, BackboneConfig

__all__ = ["FAMILY"]


def load(folder: pathlib.Path, config: BackboneConfig, shardings: Shardings, storage: str
         ) -> tuple[T5, T5Format, dict]:
    """Read model, format and parameters of a checkpoint; see :class:`dawgen_jax.backbones.base.Family`."""
    t5, theta = convert.load(folder, dtype=storage, compute_dtype=config.dtype, scan_unroll=config.scan_unroll,
                             remat=config.remat, sharding=lambda shape: shardings(T5(shape)))
    tokens = T5Format(read_tokenizer(folder, t5.vocab_size), t5.vocab_size)
    return T5(t5, tokens.mask_id), tokens, theta


def read_format(folder: pathlib.Path) -> T5Format:
    """Read the format from config.json and the tokenizer."""
    size = convert.read_config(folder).vocab_size
    return T5Format(read_tokenizer(folder, size), size)


def read_model(folder: pathlib.Path, config: BackboneConfig) -> T5:
    """Read the model from config.json; its mask is the last row, which has the same shapes and costs as any other."""
    return _model(convert.read_config(folder), config)


def _model(shape: T5Config, config: BackboneConfig) -> T5:
    shape = dataclasses.replace(shape, dtype=config.dtype, scan_unroll=config.scan_unroll, remat=config.remat)
    return T5(shape, mask_id=shape.vocab_size - 1)


FAMILY = Family(load, read_format, read_model,
                {name: functools.partial(_model, shape) for name, shape in SIZES.items()},
                check.report, convert.FILES.rewrite, ADAPTER, PAPER, ("before",))
"""The T5 family: t5, mt5 and umt5 checkpoints."""
