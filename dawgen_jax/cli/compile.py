"""Compile every step for other devices, to see whether it fits and how long it takes.

    dawgen compile CONFIG --topology v5e:4x4 [--mesh.fsdp 16] [--shape t5-xl] [--field.sub value ...]

Compiles for a TPU topology (pip install 'dawgen-jax[tpu]'; no TPU is needed), or without --topology for the devices of
this machine. The generator step, decoding of one token, the prompt step with surgery and full fine-tuning are compiled
from shapes alone, for the mesh of --mesh.fsdp and --mesh.tensor, and printed as a Markdown table. Exits with status 2
if a step does not fit.

    GiB        per chip: persistent data (parameters, state, batch), results, temporary buffers
    TFLOP      operations required by the mathematics for the real rows, of all chips
    ms         the compiler's estimate of a run, if it gives one
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from dawgen_jax.backbones import registry
from dawgen_jax.backbones.base import Family, Model
from dawgen_jax.cli.options import Configured, parse_config
from dawgen_jax.config import BackboneConfig, Config, MeshConfig
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.pipeline import programs
from dawgen_jax.pipeline.inputs import backbone_folder, find_task, resolved
from dawgen_jax.pipeline.programs import DECODING, GENERATOR, PROGRAMS, Shapes, operations

GIB = 2.0**30
CHIPS = {"v5e": 15.75, "v4": 32.0, "v5p": 95.0, "v6e": 31.25}
"""GiB per chip that programs can use, by the first part of a topology's name."""


@dataclasses.dataclass(frozen=True)
class Arguments(Configured):
    """Options in addition to the configuration."""

    topology: str = ""
    """A TPU topology, for instance 'v5e:4x4'; empty compiles for the devices of this machine."""
    shape: str = ""
    """A published size instead of the configuration's backbones: t5-large, t5-xl or t5-xxl (v1.1), in bfloat16, with
    layers scanned and recomputed."""
    memory: float = 0.0
    """GiB per chip; 0 uses the published size of the topology, or the memory of this machine."""
    steps: tuple[str, ...] = PROGRAMS
    """Steps to compile."""


class Machine(NamedTuple):
    """What programs are compiled for: devices, GiB of each, shapes, (model, storage dtype, family) of each role, and
    the names of machine and backbone."""

    devices: Sequence
    gib: float
    shapes: Shapes
    backbones: dict[str, tuple[Model, str, Family]]
    where: str
    label: str

    def backbone(self, step: str) -> tuple[Model, str]:
        """The model of a step, and the dtype that its parameters are stored in."""
        return self.backbones["generator" if step in (GENERATOR, DECODING) else "classifier"][:2]

    @property
    def title(self) -> str:
        """A line that names backbone and machine."""
        return (f"{self.label} ({self.backbones['classifier'][1]}) on {self.where}, {self.gib:.4g} GiB per chip; "
                f"{self.shapes.labels} labels, {len(self.shapes.config.seeds)} seeds ({self.shapes.seeds} of the "
                "classifier together)")


class Memory(NamedTuple):
    """Bytes per chip while a program runs, without results that are written over arguments."""

    arguments: float
    results: float
    temporary: float
    code: float = 0.0

    @property
    def total(self) -> float:
        """Bytes that a chip needs."""
        return sum(self)

    def __str__(self) -> str:
        parts = " + ".join(f"{part / GIB:.2f}" for part in self[:3])
        return f"{self.total / GIB:.2f} = {parts}"


class Compiled(NamedTuple):
    """A step on a mesh; ``program`` is None if it was not compiled, and ``why`` is the reason if it does not fit."""

    mesh: tuple[int, int, int]
    why: str
    memory: Memory | None = None
    program: Any = None

    @property
    def milliseconds(self) -> float | None:
        """The compiler's estimate of one run."""
        seconds = (self.program.cost_analysis() or {}).get("optimal_seconds", 0.0) if self.program else 0.0
        return 1e3 * seconds if seconds > 0 else None


def topology_devices(name: str) -> list:
    """The devices of a TPU topology.

    Raises:
      UserError: the topology is unknown, or the TPU compiler is not installed.
    """
    if not re.fullmatch(r"\w+:\d+x\d+(x\d+)?", name) or name.partition(":")[0] not in CHIPS:
        raise UserError(f"--topology {name[:60]}: must be a kind of {', '.join(CHIPS)} and its extents, for instance "
                        "v5e:4x4.")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(f"--topology {name}: the TPU compiler is not installed; pip install 'dawgen-jax[tpu]'.")
    for variable, value in (("TPU_SKIP_MDS_QUERY", "1"), ("TPU_MIN_LOG_LEVEL", "3"), ("TPU_STDERR_LOG_LEVEL", "3"),
                            ("TPU_WORKER_HOSTNAMES", "localhost"), ("TPU_ACCELERATOR_TYPE", "v5litepod-4")):
        os.environ.setdefault(variable, value)  # avoids a query for this machine's TPU type
    import jax
    from jax.experimental import topologies

    jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS") or "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # no local device could load the compiled programs
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
    except Exception as error:  # the TPU's runtime raises many types
        raise UserError(f"--topology {name}: unknown to the TPU compiler "
                        f"({str(error).splitlines()[0][:120]}); give one like v5e:4x4.") from None


def local_memory(device: Any, count: int) -> float:
    """GiB of memory per local device; CPU devices share the machine's memory."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return (limit or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / count) / GIB


def backbone_of(config: Config, arguments: Arguments, role: str) -> tuple[Model, str, Family]:
    """The model, its storage dtype and its family, for a published size by name or from the folder's config.json.

    Raises:
      UserError: the size is unknown, or config.json cannot be read or belongs to no known family.
    """
    shapes = {name: family for family in registry.FAMILIES.values() for name in family.shapes}
    stated = getattr(config, role).backbone
    if arguments.shape:
        stated = BackboneConfig(arguments.shape, dtype="bfloat16", scan_unroll=1, remat=True)
    name = pathlib.Path(stated.path).name.removesuffix("-lm-adapt")
    if family := shapes.get(name):
        return family.shapes[name](stated), stated.dtype, family
    if arguments.shape:
        raise ConfigError(f"--shape {arguments.shape}: must be one of {', '.join(shapes)}; name a directory by "
                          f"--{role}.backbone.path.")
    folder = backbone_folder(stated.path)
    return registry.read_model(folder, stated), stated.dtype, registry.family_of(folder)


def compile_step(step: str, machine: Machine, mesh: MeshConfig) -> Compiled:
    """Compile a step for a mesh, if its persistent data leaves room on a chip."""
    import jax

    from dawgen_jax.training.placement import Placement, make_mesh

    model, dtype = machine.backbone(step)
    placement = Placement(make_mesh(0, mesh, among=machine.devices))
    sizes, room = (placement.mesh.shape["data"], mesh.fsdp, mesh.tensor), machine.gib * GIB
    theta = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), model.abstract())
    held, lower = programs.lower(step, model, theta, machine.shapes, placement)
    if held > room:
        return Compiled(sizes, f"parameters and state alone are {held / GIB:.1f} GiB")
    try:
        program = lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        used = re.search(r"Used ([\d.]+[KMGT]) of", str(error))
        return Compiled(sizes, f"the compiler needs {used[1] if used else 'more'}")
    found = program.memory_analysis()
    # Decoding reads only a part of the persistent data.
    arguments = held + found.alias_size_in_bytes if step == DECODING else found.argument_size_in_bytes
    memory = Memory(arguments, found.output_size_in_bytes - found.alias_size_in_bytes, found.temp_size_in_bytes,
                    found.generated_code_size_in_bytes)
    return Compiled(sizes, f"needs {memory.total / GIB:.1f} GiB" if memory.total > room else "", memory, program)


def machine_of(config: Config, arguments: Arguments) -> Machine:
    """The machine, backbones and shapes that the options name.

    Raises:
      UserError: an option is wrong.
    """
    if unknown := [step for step in arguments.steps if step not in PROGRAMS]:
        raise UserError(f"--steps '{unknown[0]}': must be some of {', '.join(map(repr, PROGRAMS))}.")
    if arguments.memory < 0:
        raise UserError(f"--memory {arguments.memory}: must be a positive number of GiB, or 0 for the known size.")
    if arguments.topology:
        devices = topology_devices(arguments.topology)
        gib = CHIPS[arguments.topology.partition(":")[0]]
    else:
        import jax

        devices = jax.devices()
        gib = local_memory(devices[0], len(devices))
    devices = devices[:config.devices or None]
    tasks = [find_task(name, config) for name in config.tasks]
    backbones = {role: backbone_of(config, arguments, role) for role in ("generator", "classifier")}
    config = dataclasses.replace(config, classifier=resolved(config.classifier, backbones["classifier"][2]))
    return Machine(devices, arguments.memory or gib, Shapes.of(config, max(tasks, key=lambda task: len(task.labels))),
                   backbones,
                   arguments.topology or f"{len(devices)} local {devices[0].platform} devices",
                   arguments.shape or config.classifier.backbone.label)


def no_room(machine: Machine, failed: Sequence[str]) -> UserError:
    """An error that names the steps that do not fit, and offers a next step."""
    return UserError(f"{machine.label} does not fit {machine.where} with {machine.gib:.4g} GiB per chip: "
                     f"{', '.join(failed)}; use more chips, shard parameters over more of them (--mesh.fsdp), "
                     "recompute layers (backbone.remat), or lower batch sizes.")


def main(argv: Sequence[str]) -> None:
    """Print the table; raise for steps that do not fit."""
    config, _, arguments = parse_config(argv, __doc__, Arguments)
    machine, failed = machine_of(config, arguments), []
    print(f"\n{machine.title}\n\n| step | data x fsdp x tensor | GiB = stays + results + temporary | TFLOP | ms |\n"
          "|---|---|---|---|---|")
    for step in arguments.steps:
        one = compile_step(step, machine, config.mesh)
        fits = f"does not fit: {one.why}" if one.why else str(one.memory)
        milliseconds = f"{one.milliseconds:.3g}" if one.milliseconds else "–"
        flops = operations(step, machine.backbone(step)[0], machine.shapes)
        print(f"| {step} | {' x '.join(map(str, one.mesh))} | {fits} | {flops / 1e12:.3g} | {milliseconds} |",
              flush=True)
        failed += [f"the {step} ({one.why})"] if one.why else []
    if failed:
        raise no_room(machine, failed)
