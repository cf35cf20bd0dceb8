"""Sharding of a decoder-only model; see :mod:`dawgen_jax.backbones.partition`.

Query heads are sharded with the key head that they share, so 'tensor' must divide the number of key heads.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from dawgen_jax.backbones import partition
from dawgen_jax.backbones.decoder_only import model
from dawgen_jax.backbones.decoder_only.config import DecoderConfig
from dawgen_jax.backbones.partition import READS, WRITES

__all__ = ["heads_axis", "layout", "unstacked"]

_RULES = {"embedding": WRITES, "head": WRITES, "query": READS, "key": READS, "value": READS, "output": WRITES,
          "gate": READS, "up": READS, "down": WRITES,
          **dict.fromkeys(("query_bias", "key_bias", "value_bias"), ("tensor",))}


def layout(config: DecoderConfig, axes: Mapping[str, int]) -> dict:
    """A tree like ``theta`` with the ``PartitionSpec`` of every leaf.

    Args:
      config: the model.
      axes: sizes of the mesh's axes by name; a missing axis has size 1.

    >>> shape = DecoderConfig(vocab_size=30, width=8, head_dim=4, d_ff=12, num_layers=1, num_heads=4, num_kv_heads=2,
    ...                       projection_bias=True)
    >>> specs = layout(shape, {"data": 2, "fsdp": 4, "tensor": 2})["layers"]["attention"]
    >>> specs["query"], specs["key_bias"]
    (P(None, 'fsdp', 'tensor'), P(None, 'tensor'))
    >>> layout(shape, {"tensor": 4})["layers"]["attention"]["query"]
    P(None, None, None)
    """
    return _layout(config, axes.get("fsdp", 1), axes.get("tensor", 1))


@functools.cache
def _layout(config: DecoderConfig, fsdp: int, tensor: int) -> dict:
    return partition.layout(model.abstract(config), _RULES, {"fsdp": fsdp, "tensor": tensor},
                            heads=config.num_kv_heads, attentions=("attention",))


def heads_axis(config: DecoderConfig, axes: Mapping[str, int]) -> str | None:
    """The axis over which key heads are sharded: 'tensor' if it divides them."""
    return partition.heads_axis(config.num_kv_heads, axes)


def unstacked(specs: dict, config: DecoderConfig) -> dict:
    """:func:`layout` for the result of :func:`dawgen_jax.backbones.decoder_only.model.unstack`."""
    return {**specs, "layers": partition.unstacked(specs["layers"], config.num_layers)}
