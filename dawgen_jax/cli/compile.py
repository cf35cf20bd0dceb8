"""Compile every step for other devices, to see whether it fits and what it costs.

    dawgen compile CONFIG --topology v5e:4x4 [--shape t5-xl] [--field.sub value ...]

Compiles for a TPU topology (pip install 'dawgen-jax[tpu]'; no TPU is needed), or without --topology for the devices of
this machine. The generator step, decoding of a token, the prompt step with surgery and full fine-tuning are compiled
from shapes alone, for several meshes data x fsdp x tensor (or only for the mesh of --mesh.fsdp and --mesh.tensor), and
printed as a Markdown table. Of the meshes that fit, the one with the least estimated time is in bold. Exits with status
2 if a step fits no mesh.

    GiB        per chip: persistent data (parameters, state, batch), results, temporary buffers
    TFLOP      of matrix products per chip, including padding and recomputation
    useful     operations required by the mathematics for the real rows / operations of all chips
    GB moved   to and from a chip's memory
    ms         the compiler's estimate, in cycles, of a chip's computation, and the time of the collectives at
               the links' nominal rate, which may overlap
    MB sent    per chip in collectives: (R) all-reduce, (G) all-gather, (S) reduce-scatter, (O) others
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
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
from dawgen_jax.training.costs import Cost, analyse

GIB = 2.0**30


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


class Chip(NamedTuple):
    """Published properties of a chip: GiB of memory, clock in Hz, bytes per second of all links in one direction."""

    gib: float
    clock: float = math.inf
    links: float = math.inf


CHIPS = {"v5e": Chip(15.75, 1.5e9, 200e9), "v4": Chip(32), "v5p": Chip(95), "v6e": Chip(31.25)}
"""Chips by the first part of a topology's name. Programs can use 15.75 of a v5e's 16 GiB; its clock is
197e12 / (2 * 4 * 128 * 128), and its rate is 1600 Gbit/s."""


class Tried(NamedTuple):
    """A step on a mesh; ``cost`` is None if it was not compiled, and ``why`` is the reason if it does not fit."""

    mesh: tuple[int, int, int]
    cost: Cost | None
    why: str
    seconds: float
    exchange: float


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


def meshes_of(count: int, asked: MeshConfig) -> list[MeshConfig]:
    """The meshes to try: the requested one; otherwise data parallel, and sharded over fsdp, over tensor, or both."""
    if asked != MeshConfig():
        return [asked]
    most, some = math.gcd(count, 16), math.gcd(count, 4)
    sizes = {(1, 1), (most, 1), (1, some), (most // some, some)}
    return [MeshConfig(fsdp, tensor) for fsdp, tensor in sorted(sizes)]


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


def attempt(step: str, model: Model, dtype: str, shapes: Shapes, devices: Sequence, mesh: MeshConfig, gib: float,
            chip: Chip) -> Tried:
    """Compile a step for a mesh, if its persistent data leaves room on a chip."""
    import jax

    from dawgen_jax.training.placement import Placement, make_mesh

    placement = Placement(make_mesh(0, mesh, among=devices))
    sizes = (placement.mesh.shape["data"], mesh.fsdp, mesh.tensor)
    theta = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), model.abstract())
    held, lower = programs.lower(step, model, theta, shapes, placement)
    if held > gib * GIB:
        return Tried(sizes, None, f"parameters and state alone are {held / GIB:.1f} GiB", math.inf, 0.0)
    try:
        cost = analyse(lower().compile())
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        used = re.search(r"Used ([\d.]+[KMGT]) of", str(error))
        return Tried(sizes, None, f"the compiler needs {used[1] if used else 'more'}", math.inf, 0.0)
    if step == DECODING:  # it reads only a part of the persistent data
        cost.arguments = held + cost.reused
    why = f"needs {cost.memory / GIB:.1f} GiB" if cost.memory > gib * GIB else ""
    return Tried(sizes, cost, why, cost.cycles / chip.clock, cost.exchanged / chip.links)


def _best(tries: Sequence[Tried]) -> Tried | None:
    fitting = [one for one in tries if not one.why]
    return min(fitting, key=lambda one: (one.seconds + one.exchange, one.cost.flops, one.cost.memory), default=None)


def _sent(cost: Cost) -> str:
    letters = {"all-reduce": "R", "all-gather": "G", "reduce-scatter": "S"}
    found: dict[str, list[float]] = {}
    for kind, size in cost.collectives.items():
        total = found.setdefault(letters.get(kind, "O"), [0.0, 0.0])
        total[0], total[1] = total[0] + size, total[1] + cost.counts[kind]
    return ", ".join(f"{size / 1e6:.3g} in {count:.0f} ({letter})" for letter, (size, count) in found.items()) or "–"


def _row(step: str, tried: Tried, best: bool, useful: float, chips: int) -> str:
    mesh = " x ".join(map(str, tried.mesh))
    name = f"**{mesh}**" if best else mesh
    if tried.cost is None:
        return f"| {step} | {name} | does not fit: {tried.why} | | | | | |"
    cost, gib = tried.cost, [tried.cost.arguments / GIB, tried.cost.results / GIB, tried.cost.temporary / GIB]
    memory = f"{cost.memory / GIB:.2f} = " + " + ".join(f"{part:.2f}" for part in gib)
    times = f"{1e3 * tried.seconds:.3g} + {1e3 * tried.exchange:.3g}" if cost.cycles else "–"
    share = f"{100 * useful / (chips * cost.flops):.1f} %" if cost.flops else "–"  # 1 row per chip: no matrix product
    return (f"| {step} | {name} | {f'does not fit: {memory}' if tried.why else memory} | {cost.flops / 1e12:.3g} | "
            f"{share} | {cost.bytes / 1e9:.3g} | {times} | {_sent(cost)} |")


def main(argv: Sequence[str]) -> None:
    """Print the table; raise for steps that fit no mesh."""
    config, _, arguments = parse_config(argv, __doc__, Arguments)
    if unknown := [step for step in arguments.steps if step not in PROGRAMS]:
        raise UserError(f"--steps '{unknown[0]}': must be some of {', '.join(map(repr, PROGRAMS))}.")
    if arguments.memory < 0:
        raise UserError(f"--memory {arguments.memory}: must be a positive number of GiB, or 0 for the known size.")
    if arguments.topology:
        devices, kind = topology_devices(arguments.topology), arguments.topology.partition(":")[0]
        chip = CHIPS[kind]
    else:
        import jax

        devices = jax.devices()
        chip = Chip(local_memory(devices[0], len(devices)))
    devices, gib = devices[:config.devices or None], arguments.memory or chip.gib
    tasks = [find_task(name, config) for name in config.tasks]
    backbones = {role: backbone_of(config, arguments, role) for role in ("generator", "classifier")}
    config = dataclasses.replace(config, classifier=resolved(config.classifier, backbones["classifier"][2]))
    shapes = Shapes.of(config, max(tasks, key=lambda task: len(task.labels)))
    where = arguments.topology or f"{len(devices)} local {devices[0].platform} devices"
    label = arguments.shape or config.classifier.backbone.label
    print(f"\n{label} ({backbones['classifier'][1]}) on {where}, {gib:.4g} GiB per chip; {shapes.labels} labels, "
          f"{len(config.seeds)} seeds ({shapes.seeds} of the classifier together)\n\n"
          "| step | data x fsdp x tensor | GiB = stays + results + temporary | TFLOP | useful | GB moved | ms "
          "| MB sent |\n|---|---|---|---|---|---|---|---|")
    failed = []
    for step in arguments.steps:
        model, dtype, _ = backbones["generator" if step in (GENERATOR, DECODING) else "classifier"]
        tries = [attempt(step, model, dtype, shapes, devices, mesh, gib, chip)
                 for mesh in meshes_of(len(devices), config.mesh)]
        best, useful = _best(tries), operations(step, model, shapes)
        for tried in tries:
            print(_row(step, tried, tried is best, useful, len(devices)), flush=True)
        if best is None:
            failed.append(f"the {step} ({min(tries, key=lambda one: one.mesh[0]).why})")
    if failed:
        raise UserError(f"{label} does not fit {where} with {gib:.4g} GiB per chip: {', '.join(failed)}; use more "
                        "chips, recompute layers (backbone.remat), or lower batch sizes.")
