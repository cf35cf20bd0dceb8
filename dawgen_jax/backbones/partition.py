"""Sharding of parameters over the model axes of a mesh, by their names.

A kernel [N, in, out] that reads the residual stream has ``in`` = H sharded over 'fsdp' and ``out`` (heads, or the
feed-forward width) over 'tensor'; a kernel that writes it has the opposite, so that a layer's two products need one sum
over 'tensor'. Embedding and head [V, H] are sharded over 'tensor' and 'fsdp'. All other leaves are replicated, as is
every dimension that its axis does not divide. A head is never split.

References:
  Shoeybi et al.: Megatron-LM, https://arxiv.org/abs/1909.08053, 2019 (tensor parallelism).
  Rajbhandari et al.: ZeRO, https://arxiv.org/abs/1910.02054, 2019 (what 'fsdp' does).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import jax
from jax.sharding import PartitionSpec

__all__ = ["READS", "WRITES", "heads_axis", "layout", "unstacked"]

READS, WRITES = ("fsdp", "tensor"), ("tensor", "fsdp")


def layout(shapes: Any, rules: Mapping[str, tuple[str, ...]], axes: Mapping[str, int], *, heads: int,
           attentions: Collection[str]) -> Any:
    """A tree like ``theta`` with the ``PartitionSpec`` of every leaf.

    Args:
      shapes: tree like ``theta`` of ``jax.ShapeDtypeStruct``.
      rules: the axes of a leaf's last dimensions, by the last key of its path.
      axes: sizes of the mesh's axes by name; a missing axis has size 1.
      heads: number of attention heads, which are sharded as a whole over 'tensor'.
      attentions: keys in ``theta`` of the attention modules.
    """
    def spec(path, leaf) -> PartitionSpec:
        names = [key.key for key in path]
        rule = rules.get(names[-1], ())
        extents = dict(zip(rule, leaf.shape[leaf.ndim - len(rule):], strict=True))
        if names[-2:-1] and names[-2] in attentions:
            extents["tensor"] = heads
        chosen = [axis if axes.get(axis, 1) > 1 and extents[axis] % axes[axis] == 0 else None for axis in rule]
        return PartitionSpec(*[None] * (leaf.ndim - len(rule)), *chosen) if rule else PartitionSpec()

    return jax.tree_util.tree_map_with_path(spec, shapes)


def heads_axis(heads: int, axes: Mapping[str, int]) -> str | None:
    """The axis over which ``heads`` attention heads are sharded: 'tensor' if it divides them."""
    size = axes.get("tensor", 1)
    return "tensor" if size > 1 and heads % size == 0 else None


def unstacked(specs: Any, layers: int) -> list:
    """The specs of a list of layers, from the specs of the stacked leaves."""
    return [jax.tree.map(lambda spec: PartitionSpec(*spec[1:]), specs)] * layers
