"""Where arrays live and where steps are compiled: the mesh, its shardings, ``jax.jit``, and who writes files.

A step is a pure function ``step(state, theta, batch) -> (state, metrics)``; a scorer is ``score(params, theta,
batch) -> values``. The mesh has the axes 'data', 'fsdp' and 'tensor'. Examples are spread over the first two, so that a
mean over the batch is an all-reduce and everything after it (the gradient surgery above all) sees the gradient of the
whole batch. The backbone's parameters are sharded over the last two by its rules (``Model.layout``), wherever a tree
holds them under the key 'theta': so optimiser state is cut as the parameters that it belongs to. All else (prompts,
low-rank factors, heads, metrics) is whole on every device. Several processes come in here, behind the same methods.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.tree_util import DictKey

from dawgen_jax.backbones.base import AXES, BATCH_AXES, Model
from dawgen_jax.config import MeshConfig
from dawgen_jax.errors import ConfigError
from dawgen_jax.io import world

__all__ = ["Placement", "Program", "Team", "disjoint", "make_mesh"]

_FLAT = MeshConfig()


def make_mesh(devices: int = 0, shape: MeshConfig = _FLAT, *, among=None,
              axis_type: AxisType = AxisType.Auto) -> Mesh:
    """A mesh (data, fsdp, tensor).

    Args:
      devices: how many, the first ones; 0 takes all.
      shape: sizes of 'fsdp' and 'tensor'; 'data' is what is left.
      among: devices to choose from, in place of those of this machine.
      axis_type: of every axis.

    Raises:
      ConfigError: there are not so many devices, or the axes do not divide them.
    """
    have = jax.devices() if among is None else among
    if devices > len(have):
        raise ConfigError(f"Config.devices = {devices}: only {len(have)} {have[0].platform} devices are here.")
    chosen = have[:devices] if devices else have
    model = shape.fsdp * shape.tensor
    if len(chosen) % model:
        raise ConfigError(f"Config.mesh: fsdp {shape.fsdp} x tensor {shape.tensor} = {model} does not divide the "
                          f"{len(chosen)} devices; choose other sizes, or Config.devices.")
    if among is None and len({device.process_index for device in chosen}) < world.count():
        raise ConfigError(f"Config.devices = {devices}: leaves a process without a device; start fewer of them.")
    return jax.make_mesh((len(chosen) // model, shape.fsdp, shape.tensor), AXES, axis_types=(axis_type,) * len(AXES),
                         devices=chosen)


def disjoint(owners: Sequence[set[int]]) -> list[list[int]]:
    """Positions, grouped so that no process owns a part of two groups; one group where these would not be of one size.

    Args:
      owners: the processes at each position.

    >>> disjoint([{0}, {1}, {0}, {1}]), disjoint([{0, 1}, {2, 3}]), disjoint([{0}, {0, 1}, {1}])
    ([[0, 2], [1, 3]], [[0], [1]], [[0, 1, 2]])
    """
    groups: list[list[int]] = []
    for position, processes in enumerate(owners):
        joined = [group for group in groups if any(owners[one] & processes for one in group)]
        groups = [group for group in groups if group not in joined] + [[*itertools.chain(*joined), position]]
    groups = sorted(sorted(group) for group in groups)
    return groups if len({len(group) for group in groups}) == 1 else [list(range(len(owners)))]


@dataclasses.dataclass(frozen=True)
class Placement:
    """Devices, and this process's part in them; frozen and hashable, so that compiled programs are cached by it.

    Attributes:
      mesh: from :func:`make_mesh`.
    """

    mesh: Mesh

    @classmethod
    def on(cls, devices: int = 0, shape: MeshConfig = _FLAT) -> Placement:
        """The placement over the first ``devices`` devices (0: all).

        Raises:
          ConfigError: there are not so many devices, or ``shape`` does not divide them.
        """
        return cls(make_mesh(devices, shape))

    @classmethod
    def of(cls, tree: Any) -> Placement:
        """The placement of a tree that :meth:`put` placed."""
        return cls(jax.tree.leaves(tree)[0].sharding.mesh)

    @property
    def whole(self) -> NamedSharding:
        """The sharding of all that is small: a whole copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def writes(self) -> bool:
        """Whether this process writes files, the first of the mesh; all others only read them."""
        return world.number() == min(device.process_index for device in self.mesh.devices.flat)

    def team(self) -> Team:
        """The smallest part of the mesh, cut along 'data', that holds all devices of its processes, one of them this.

        It needs no other team for what is independent over 'data', as decoding is. Parameters that are cut over
        processes make one team of these.
        """
        slices = self.mesh.devices
        groups = disjoint([{device.process_index for device in one.flat} for one in slices])
        if len(groups) == 1:
            return Team(0, 1, self)
        number = next(number for number, group in enumerate(groups)
                      if any(device.process_index == world.number() for device in slices[group].flat))
        mesh = Mesh(slices[groups[number]], self.mesh.axis_names, axis_types=self.mesh.axis_types)
        return Team(number, len(groups), Placement(mesh))

    def narrowed(self, tree: Any) -> Any:
        """A tree that is placed on a mesh that this one is cut from, on this one: the same buffers, none copied."""
        def narrow(leaf: jax.Array) -> jax.Array:
            if leaf.sharding.mesh == self.mesh:
                return leaf
            sharding = NamedSharding(self.mesh, leaf.sharding.spec)
            here = {shard.device: shard.data for shard in leaf.addressable_shards}
            return jax.make_array_from_single_device_arrays(
                leaf.shape, sharding, [here[device] for device in sharding.addressable_devices])

        return jax.tree.map(narrow, tree)

    def split(self, axis: int) -> NamedSharding:
        """The sharding of a batch whose examples are on ``axis`` (leading axes hold sources or seeds)."""
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, BATCH_AXES))

    def rows(self, count: int) -> int:
        """The smallest number of rows that the batch's devices share evenly and that is at least ``count``.

        Batches are padded to it with rows of weight 0.
        """
        parts = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
        return -(-count // parts) * parts

    def shardings(self, tree: Any, model: Model | None) -> Any:
        """The sharding of every leaf of a tree.

        Args:
          tree: of arrays or shapes. What is under a key 'theta' is parameters of the backbone, or belongs to them leaf
            by leaf, perhaps with leading axes; it is placed by the backbone's layout.
          model: the backbone; None places everything whole.
        """
        layout = None if model is None else model.layout(self.mesh.shape)

        def sharding(path, leaf) -> NamedSharding:
            keys = [key.key if isinstance(key, DictKey) else None for key in path]
            spec = layout if "theta" in keys else None
            for key in keys[::-1][:keys[::-1].index("theta")][::-1] if spec else ():
                spec = spec.get(key) if isinstance(spec, dict) else None
            if not isinstance(spec, PartitionSpec):
                return self.whole
            return NamedSharding(self.mesh, PartitionSpec(*[None] * (len(leaf.shape) - len(spec)), *spec))

        return jax.tree_util.tree_map_with_path(sharding, tree)

    def put(self, tree: Any, model: Model | None = None) -> Any:
        """``tree``, which every process holds, in its :meth:`shardings`: matches the step's output, to avoid a
        recompilation."""
        return jax.tree.map(world.place, tree, self.shardings(tree, model))

    def create(self, function: Callable, argument: Any, model: Model | None = None) -> Any:
        """``function(argument)``, created in its :meth:`shardings`: no device ever holds more than its part.

        Args:
          function: of one tree, pure.
          argument: a tree, on the host or placed; it shares no buffers with what is created, which may be donated.
          model: the backbone whose parameters the tree holds, if any.
        """
        def copied(argument):
            return jax.tree.map(jnp.copy, function(argument))  # what is handed through would be shared

        made = jax.jit(copied, in_shardings=(self.shardings(argument, model),),
                       out_shardings=self.shardings(jax.eval_shape(function, argument), model))
        return made(self.put(argument, model))

    def compile_step(self, step: Callable, *, batch_axis: int, model: Model | None = None) -> Program:
        """Compile ``step(state, theta, batch) -> (state, metrics)``; the state's buffers are donated.

        Args:
          step: pure; everything static is bound already.
          batch_axis: axis of the batch's leaves that holds examples: [S, B, ...] has 1, [K, S, B, ...] has 2.
          model: the backbone, whose layout state and ``theta`` follow; None: all is whole on every device.
        """
        return Program(step, self, batch_axis, model, donates=True)

    def compile_score(self, score: Callable, *, batch_axis: int, model: Model | None = None) -> Program:
        """Compile ``score(params, theta, batch) -> values``; nothing is donated and the values come back whole."""
        return Program(score, self, batch_axis, model, donates=False)


class Team(NamedTuple):
    """Processes that compute together what needs no others.

    Attributes:
      number: of this process's team, from 0.
      count: how many there are, of equally many devices.
      placement: on the devices of this one.
    """

    number: int
    count: int
    placement: Placement

    def shares(self, label: int, index: int) -> bool:
        """Whether a sample is this team's to generate; the labels, of unlike lengths, are dealt evenly to all teams."""
        return (label + index) % self.count == self.number


class Program:
    """A step or scorer with its shardings, compiled for each structure of its first two arguments."""

    def __init__(self, function: Callable, placement: Placement, batch_axis: int, model: Model | None, *,
                 donates: bool):
        self._function, self._placement, self._model, self._donates = function, placement, model, donates
        self._batch = placement.split(batch_axis)
        self._compiled: dict[Any, tuple[Callable, tuple]] = {}

    def __call__(self, first: Any, theta: Any, batch: Any) -> Any:
        """Run it; the batch is that of all processes, which each of them has drawn."""
        program, shardings = self._jit(first, theta)
        return program(*world.spread((first, theta, batch), shardings))

    def lower(self, first: Any, theta: Any, batch: Any) -> jax.stages.Lowered:
        """Lower it for arguments that may be shapes alone."""
        return self._jit(first, theta)[0].lower(first, theta, batch)

    def _jit(self, first: Any, theta: Any) -> tuple[Callable, tuple]:
        structure = jax.tree.structure((first, theta))
        if structure not in self._compiled:
            whole = self._placement.whole
            place = self._placement.shardings({"first": first, "theta": theta}, self._model)
            arguments = (place["first"], place["theta"], self._batch)
            options = {"donate_argnums": 0, "out_shardings": (place["first"], whole)}
            self._compiled[structure] = jax.jit(
                self._function, in_shardings=arguments,
                **(options if self._donates else {"out_shardings": whole})), arguments
        return self._compiled[structure]
