"""How T5's parameters are cut over the model axes of a mesh, by their paths.

Of a kernel [N, in, out] that reads the residual stream, ``in`` = H is cut over 'fsdp' and ``out`` (heads, or the
feed-forward width) over 'tensor'; of one that writes it, the other way round, so that a layer's two products need one
sum over 'tensor'. Embedding and head [V, H] have the vocabulary over 'tensor' and H over 'fsdp'. Norms and bias tables
are whole everywhere, as is every dimension that its axis does not divide; heads are never cut apart.

References:
  Shoeybi et al.: Megatron-LM, https://arxiv.org/abs/1909.08053, 2019 (tensor parallelism).
  Rajbhandari et al.: ZeRO, https://arxiv.org/abs/1910.02054, 2019 (what 'fsdp' does).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
from jax.sharding import PartitionSpec

from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config

__all__ = ["heads_axis", "layout", "unstacked"]

_READS = ("fsdp", "tensor")
_WRITES = ("tensor", "fsdp")
_RULES = {"embedding": _WRITES, "head": _WRITES, "query": _READS, "key": _READS, "value": _READS, "output": _WRITES,
          "wi": _READS, "wi_0": _READS, "wi_1": _READS, "wo": _WRITES}


def layout(config: T5Config, axes: Mapping[str, int]) -> dict:
    """A tree like ``theta`` with the ``PartitionSpec`` of every leaf.

    Args:
      config: the model.
      axes: sizes of the mesh's axes by name; one that is missing has size 1.

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
    sizes = {"fsdp": fsdp, "tensor": tensor}

    def spec(path, leaf) -> PartitionSpec:
        names = [key.key for key in path]
        rule = _RULES.get(names[-1])
        if rule is None:
            return PartitionSpec()
        extents = dict(zip(rule, leaf.shape[-2:], strict=True))
        if names[-2:-1] in (["attention"], ["cross"]):
            extents["tensor"] = config.num_heads
        chosen = [axis if sizes[axis] > 1 and extents[axis] % sizes[axis] == 0 else None for axis in rule]
        return PartitionSpec(*[None] * (leaf.ndim - 2), *chosen)

    return jax.tree_util.tree_map_with_path(spec, model.abstract(config))


def heads_axis(config: T5Config, axes: Mapping[str, int]) -> str | None:
    """The axis that attention heads are cut over: 'tensor' where it divides them."""
    size = axes.get("tensor", 1)
    return "tensor" if size > 1 and config.num_heads % size == 0 else None


def unstacked(specs: dict, config: T5Config) -> dict:
    """:func:`layout` of :func:`dawgen_jax.backbones.t5.model.unstack`'s form of ``theta``."""
    def split(side: str, layers: int) -> dict:
        layer = jax.tree.map(lambda spec: PartitionSpec(*spec[1:]), specs[side]["layers"])
        return {**specs[side], "layers": [layer] * layers}

    return {**specs, "encoder": split("encoder", config.num_layers),
            "decoder": split("decoder", config.num_decoder_layers)}
