"""The one place where steps are compiled: meshes, shardings and ``jax.jit``.

A step is a pure function ``step(state, theta, batch) -> (state, metrics)``; a scorer is ``score(params, theta,
batch) -> values``. Parameters and state are replicated over the mesh and the batch is split along its data axis, so
that a mean over the batch is an all-reduce and everything after it (the gradient surgery above all) sees the
gradient of the whole batch. Model axes and several processes come in here, behind the same functions.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dawgen_jax.config import ConfigError

__all__ = ["batch_sharding", "compile_score", "compile_step", "data_mesh", "replicated", "rows_for"]


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


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of state, parameters and metrics: a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, axis: int) -> NamedSharding:
    """The sharding of a batch whose examples lie along ``axis`` (leading axes hold sources or seeds)."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def rows_for(mesh: Mesh, rows: int) -> int:
    """The smallest multiple of the data axis that is at least ``rows``: batches are padded to it with weight 0."""
    return -(-rows // mesh.size) * mesh.size


def compile_step(step: Callable, mesh: Mesh, *, batch_axis: int, frozen: bool = True) -> Callable:
    """Compile ``step(state, theta, batch) -> (state, metrics)``; the state's buffers are donated.

    Args:
      step: pure; everything static is bound already.
      mesh: from :func:`data_mesh`.
      batch_axis: axis of the batch's leaves that holds examples: [S, B, ...] has 1, [K, S, B, ...] has 2.
      frozen: False for full fine-tuning, ``step(state, batch)``: there theta is in the state and trained.
    """
    whole = replicated(mesh)
    arguments = (whole, whole) if frozen else (whole,)
    return jax.jit(step, in_shardings=(*arguments, batch_sharding(mesh, batch_axis)), out_shardings=whole,
                   donate_argnums=0)


def compile_score(score: Callable, mesh: Mesh, *, batch_axis: int) -> Callable:
    """Compile ``score(params, theta, batch) -> values``; nothing is donated and the values come back whole."""
    whole = replicated(mesh)
    return jax.jit(score, in_shardings=(whole, whole, batch_sharding(mesh, batch_axis)), out_shardings=whole)
