"""Where arrays live and where steps are compiled: the mesh, its shardings, ``jax.jit``, and who writes files.

A step is a pure function ``step(state, frozen, batch) -> (state, metrics)``; a scorer is ``score(params, theta,
batch) -> values``. Parameters and state are replicated over the mesh and the batch is split along its data axis, so
that a mean over the batch is an all-reduce and everything after it (the gradient surgery above all) sees the
gradient of the whole batch. Model axes and several processes come in here, behind the same methods.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dawgen_jax.config import ConfigError

__all__ = ["Placement", "data_mesh"]


def data_mesh(devices: int = 0) -> Mesh:
    """A mesh with one axis, 'data', over the first ``devices`` devices (0: all).

    Raises:
      ConfigError: there are not so many devices.
    """
    have = jax.devices()
    if devices > len(have):
        raise ConfigError(f"Config.devices = {devices}: only {len(have)} {have[0].platform} devices are here.")
    chosen = have[:devices] if devices else have
    return jax.make_mesh((len(chosen),), ("data",), axis_types=(AxisType.Auto,), devices=chosen)


@dataclasses.dataclass(frozen=True)
class Placement:
    """Devices, and this process's part in them; frozen and hashable, so that compiled programs are cached by it.

    Attributes:
      mesh: from :func:`data_mesh`.
    """

    mesh: Mesh

    @classmethod
    def on(cls, devices: int = 0) -> Placement:
        """The placement over the first ``devices`` devices (0: all).

        Raises:
          ConfigError: there are not so many devices.
        """
        return cls(data_mesh(devices))

    @classmethod
    def of(cls, tree: Any) -> Placement:
        """The placement of a tree that :meth:`replicate` placed."""
        return cls(jax.tree.leaves(tree)[0].sharding.mesh)

    @property
    def whole(self) -> NamedSharding:
        """The sharding of state, parameters and metrics: a whole copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def writes(self) -> bool:
        """Whether this process writes files; all others only read them."""
        return jax.process_index() == 0

    def split(self, axis: int) -> NamedSharding:
        """The sharding of a batch whose examples are on ``axis`` (leading axes hold sources or seeds)."""
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, "data"))

    def rows(self, count: int) -> int:
        """The smallest multiple of the data axis that is at least ``count``: batches are padded to it with weight 0."""
        return -(-count // self.mesh.size) * self.mesh.size

    def replicate(self, tree: Any) -> Any:
        """``tree`` whole on every device: matches the step's output sharding, to avoid a recompilation."""
        return jax.device_put(tree, self.whole)

    def barrier(self, name: str) -> None:
        """Wait until every process has come to the barrier of that name."""
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(name)

    def compile_step(self, step: Callable, *, batch_axis: int) -> Callable:
        """Compile ``step(state, frozen, batch) -> (state, metrics)``; the state's buffers are donated.

        Args:
          step: pure; everything static is bound already.
          batch_axis: axis of the batch's leaves that holds examples: [S, B, ...] has 1, [K, S, B, ...] has 2.
        """
        return jax.jit(step, in_shardings=(self.whole, self.whole, self.split(batch_axis)), out_shardings=self.whole,
                       donate_argnums=0)

    def compile_score(self, score: Callable, *, batch_axis: int) -> Callable:
        """Compile ``score(params, theta, batch) -> values``; nothing is donated and the values come back whole."""
        return jax.jit(score, in_shardings=(self.whole, self.whole, self.split(batch_axis)), out_shardings=self.whole)
