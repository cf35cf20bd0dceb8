"""Sharding of a T5; see :mod:`dawgen_jax.backbones.partition`."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from dawgen_jax.backbones import partition
from dawgen_jax.backbones.partition import READS, WRITES
from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config

__all__ = ["heads_axis", "layout", "unstacked"]

_RULES = {"embedding": WRITES, "head": WRITES, "query": READS, "key": READS, "value": READS, "output": WRITES,
          "wi": READS, "wi_0": READS, "wi_1": READS, "wo": WRITES}


def layout(config: T5Config, axes: Mapping[str, int]) -> dict:
    """A tree like ``theta`` with the ``PartitionSpec`` of every leaf.

    Args:
      config: the model.
      axes: sizes of the mesh's axes by name; a missing axis has size 1.

    >>> shape = T5Config(vocab_size=30, d_model=8, d_kv=4, d_ff=12, num_layers=1, num_decoder_layers=1, num_heads=2)
    >>> specs = layout(shape, {"data": 2, "fsdp": 4, "tensor": 2})
    >>> specs["encoder"]["layers"]["attention"]["query"], specs["encoder"]["norm"]["scale"]
    (P(None, 'fsdp', 'tensor'), P())
    >>> layout(shape, {"fsdp": 3, "tensor": 4})["embedding"]
    P(None, None)
    """
    return _layout(config, axes.get("fsdp", 1), axes.get("tensor", 1))


@functools.cache
def _layout(config: T5Config, fsdp: int, tensor: int) -> dict:
    return partition.layout(model.abstract(config), _RULES, {"fsdp": fsdp, "tensor": tensor}, heads=config.num_heads,
                            attentions=("attention", "cross"))


def heads_axis(config: T5Config, axes: Mapping[str, int]) -> str | None:
    """The axis over which attention heads are sharded: 'tensor' if it divides them."""
    return partition.heads_axis(config.num_heads, axes)


def unstacked(specs: dict, config: T5Config) -> dict:
    """:func:`layout` for the result of :func:`dawgen_jax.backbones.t5.model.unstack`."""
    return {**specs, **{
        side: {**specs[side], "layers": partition.unstacked(specs[side]["layers"], layers)}
        for side, layers in (("encoder", config.num_layers), ("decoder", config.num_decoder_layers))}}
