"""Compile every step on several meshes and compare their memory, operations, bytes and collectives.

    python -m tools.meshes CONFIG --topology v5e:4x4 [--shape t5-xl] [--field.sub value ...]

The options are those of `dawgen compile`. It tries several meshes data x fsdp x tensor, or only the mesh of --mesh.fsdp
and --mesh.tensor. Of the meshes that fit, the one with the least estimated time is in bold. Exits with status 2 if a
step fits no mesh.

    TFLOP      of matrix products per chip, including padding and recomputation
    useful     operations required by the mathematics for the real rows / operations of all chips
    GB moved   to and from a chip's memory
    ms         the compiler's estimate, in cycles, of a chip's computation, and the time of the collectives at
               the links' nominal rate, which may overlap
    MB sent    per chip in collectives: (R) all-reduce, (G) all-gather, (S) reduce-scatter, (O) others
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

from dawgen_jax.cli import process
from dawgen_jax.cli.compile import GIB, Arguments, Machine, compile_step, machine_of, no_room
from dawgen_jax.cli.options import parse_config
from dawgen_jax.config import MeshConfig
from dawgen_jax.pipeline import programs
from tools.costs import Cost, analyse

RATES = {"v5e": (1.5e9, 200e9)}
"""Clock in Hz, and bytes per second of all links of a chip in one direction: of a v5e 197e12 / (2 * 4 * 128 * 128) and
1600 Gbit/s."""


class Tried(NamedTuple):
    """A step on a mesh; ``cost`` is None if it was not compiled, and ``why`` is the reason if it does not fit."""

    mesh: tuple[int, int, int]
    cost: Cost | None
    why: str
    seconds: float
    exchange: float


def meshes_of(count: int, asked: MeshConfig) -> list[MeshConfig]:
    """The meshes to try: the requested one; otherwise data parallel, and sharded over fsdp, over tensor, or both."""
    if asked != MeshConfig():
        return [asked]
    most, some = math.gcd(count, 16), math.gcd(count, 4)
    sizes = {(1, 1), (most, 1), (1, some), (most // some, some)}
    return [MeshConfig(fsdp, tensor) for fsdp, tensor in sorted(sizes)]


def attempt(step: str, machine: Machine, mesh: MeshConfig) -> Tried:
    """Compile a step for a mesh, and count its operations, bytes and collectives."""
    one = compile_step(step, machine, mesh)
    if one.program is None:
        return Tried(one.mesh, None, one.why, math.inf, 0.0)
    cost = analyse(one.program)
    cost.arguments = one.memory.arguments
    clock, links = RATES.get(machine.where.partition(":")[0], (math.inf, math.inf))
    return Tried(one.mesh, cost, one.why, cost.cycles / clock, cost.exchanged / links)


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
    machine, failed = machine_of(config, arguments), []
    print(f"\n{machine.title}\n\n"
          "| step | data x fsdp x tensor | GiB = stays + results + temporary | TFLOP | useful | GB moved | ms "
          "| MB sent |\n|---|---|---|---|---|---|---|---|")
    for step in arguments.steps:
        tries = [attempt(step, machine, mesh) for mesh in meshes_of(len(machine.devices), config.mesh)]
        best, useful = _best(tries), programs.operations(step, machine.backbone(step)[0], machine.shapes)
        for tried in tries:
            print(_row(step, tried, tried is best, useful, len(machine.devices)), flush=True)
        if best is None:
            failed.append(f"the {step} ({min(tries, key=lambda one: one.mesh[0]).why})")
    if failed:
        raise no_room(machine, failed)


if __name__ == "__main__":
    process.guard(lambda argv: main(process.start(argv)), sys.argv[1:])
