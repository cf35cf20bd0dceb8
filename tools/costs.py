"""What a compiled program costs a chip: memory, operations, bytes, collectives, the compiler's own cycles.

XLA's cost analysis counts the body of a loop once, whatever the number of its rounds, and a step here is mostly loops
(over layers, over parts of a batch). So operations, bytes and collectives are read from the optimised program's text,
each instruction as often as it runs. A loop whose number of rounds is decided while it runs (decoding) counts once:
its figures are those of one token. Collectives are counted with the larger of what a chip gives and what it gets.

Two inaccuracies are known: elementwise operations are not counted, and bytes that the compiler keeps on the chip are
left out where the text says so (TPUs) and counted as memory traffic elsewhere.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

__all__ = ["Cost", "Instruction", "analyse", "parse", "text_costs"]

_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*?) ?\b([a-z][a-z0-9\-]*)\((.*)$")
_SHAPE = re.compile(r"\b(pred|bf16|f8\w+|[csuf]\d+)\[([\d,]*)\](\{[^}]*\})?")
_CALLS = re.compile(r"(?:calls|to_apply|body|branch_computations|true_computation|false_computation)="
                    r"(?:\{([^}]*)\}|%?([\w.\-]+))")
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
                "collective-broadcast", "ragged-all-to-all")
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "after-all",
         "partition-id", "replica-id", "iota", "opt-barrier", "async-start", "async-update", "async-done"}
_SLICES = {"dynamic-slice", "slice", "gather"}


class Shape(NamedTuple):
    """An array's dimensions, its bytes, and whether the compiler keeps it on the chip."""

    dims: tuple[int, ...]
    bytes: float
    on_chip: bool


class Instruction(NamedTuple):
    """A line of a program.

    Attributes:
      name: of its value.
      shapes: of its value, one for each array of a tuple.
      opcode: what it does.
      operands: names.
      rest: the text behind the operands.
      root: whether it is its computation's result.
    """

    name: str
    shapes: tuple[Shape, ...]
    opcode: str
    operands: tuple[str, ...]
    rest: str
    root: bool

    @property
    def size(self) -> float:
        """Bytes of the value."""
        return sum(shape.bytes for shape in self.shapes)


@dataclasses.dataclass
class Cost:
    """What one run of a program costs one chip.

    Attributes:
      flops: of matrix products, two a multiplication and addition.
      bytes: read from and written to the chip's memory.
      collectives: bytes by kind.
      counts: how many collectives run, by kind.
      cycles: the compiler's estimate, 0 where it gives none (elsewhere than on TPUs).
      unknown_loops: loops whose rounds the text does not say; they count once.
      arguments, results, temporary, code: bytes of memory; results that are written over arguments are not counted.
      reused: bytes of arguments that results are written over.
      reported: what XLA's own cost analysis says, loops counted once.
    """

    flops: float = 0.0
    bytes: float = 0.0
    collectives: dict[str, float] = dataclasses.field(default_factory=dict)
    counts: dict[str, float] = dataclasses.field(default_factory=dict)
    cycles: float = 0.0
    unknown_loops: int = 0
    arguments: float = 0.0
    results: float = 0.0
    temporary: float = 0.0
    code: float = 0.0
    reused: float = 0.0
    reported: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def memory(self) -> float:
        """Bytes that the chip must have."""
        return self.arguments + self.results + self.temporary + self.code

    @property
    def exchanged(self) -> float:
        """Bytes of all collectives."""
        return sum(self.collectives.values())


def analyse(compiled: jax.stages.Compiled) -> Cost:
    """The cost of a compiled program.

    Args:
      compiled: of ``jax.jit(...).lower(...).compile()``.
    """
    cost = text_costs(compiled.as_text())
    memory = compiled.memory_analysis()
    cost.arguments, cost.temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    cost.results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    cost.reused = memory.alias_size_in_bytes
    cost.code = memory.generated_code_size_in_bytes
    reported = compiled.cost_analysis() or {}
    names = {"flops": "flops", "bytes": "bytes accessed", "seconds": "optimal_seconds"}
    cost.reported = {ours: reported[name] for ours, name in names.items() if name in reported}
    return cost


def parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The computations of a program's text by name, and the name of the one that is run.

    >>> computations, entry = parse('''ENTRY %main (x: f32[2,3]) -> f32[2,3] {
    ...   %x = f32[2,3]{1,0} parameter(0)
    ...   ROOT %y = f32[2,3]{1,0} add(%x, %x), metadata={}
    ... }''')
    >>> entry, [(line.opcode, line.operands, line.size) for line in computations[entry]]
    ('main', [('parameter', (), 24.0), ('add', ('x', 'x'), 24.0)])
    """
    computations: dict[str, list[Instruction]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            lines = computations[head[1]] = []
            entry = head[1] if line.startswith("ENTRY") else entry
        elif found := _LINE.match(line):
            root, name, kind, opcode, after = found.groups()
            inside, _, rest = after.partition(")")
            lines.append(Instruction(name, tuple(_shapes(kind)), opcode, tuple(re.findall(r"%([\w.\-]+)", inside)),
                                     inside if opcode in ("constant", "parameter") else rest, bool(root)))
    return computations, entry


def _shapes(text: str) -> Iterator[Shape]:
    for kind, dims, layout in _SHAPE.findall(text):
        dims = tuple(int(dim) for dim in dims.split(",") if dim)
        bits = 8 if kind == "pred" else int(re.search(r"\d+", kind)[0])
        yield Shape(dims, math.prod(dims) * bits / 8, "S(1)" in layout)


def text_costs(text: str) -> Cost:
    """What the text of an optimised program says: all of :class:`Cost` but memory.

    Args:
      text: of ``compiled.as_text()``.
    """
    computations, entry = parse(text)
    cost = Cost()
    _walk(computations, entry, 1.0, cost, moves=True)
    return cost


def _walk(computations: dict, name: str, times: float, cost: Cost, *, moves: bool) -> None:
    """Add a computation that runs so many times; ``moves``: its values are in memory (not inside a fusion)."""
    lines = computations[name]
    known = {line.name: line for line in lines}
    for line in lines:
        kind = line.opcode.removesuffix("-start")
        if line.opcode in ("dot", "convolution"):
            lhs, rhs = (known[operand].shapes[0].dims for operand in line.operands[:2])
            count = _dot if line.opcode == "dot" else _convolution
            cost.flops += times * count(line.shapes[0].dims, lhs, rhs, line.rest)
        elif kind in _COLLECTIVES:
            given = sum(known[operand].size for operand in line.operands)
            got = line.size - given if line.opcode.endswith("-start") and line.size > given else line.size
            cost.collectives[kind] = cost.collectives.get(kind, 0.0) + times * max(given, got)
            cost.counts[kind] = cost.counts.get(kind, 0.0) + times
        if moves:
            cost.bytes += times * _traffic(line, known, computations)
            if cycles := re.search(r'"estimated_cycles":"(\d+)"', line.rest):
                cost.cycles += times * int(cycles[1])
        rounds = 1
        if line.opcode == "while":
            rounds = _rounds(line, computations)
            cost.unknown_loops += rounds is None
        if line.opcode in ("while", "call", "conditional", "fusion", "async-start"):
            inside = moves and line.opcode != "fusion"
            for callee in _callees(line):
                _walk(computations, callee, times * (rounds or 1), cost, moves=inside)


def _callees(line: Instruction) -> list[str]:
    return [name.strip().lstrip("%") for many, one in _CALLS.findall(line.rest) for name in (many or one).split(",")]


def _rounds(line: Instruction, computations: dict) -> int | None:
    """Rounds of a loop: what the compiler notes, else the bound of a counter that is compared with a constant."""
    if noted := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', line.rest):
        return int(noted[1])
    test = [computations[re.search(r"condition=%?([\w.\-]+)", line.rest)[1]]]
    test += [computations[callee] for other in test[0] if other.opcode == "fusion" for callee in _callees(other)]
    lines = [other for part in test for other in part]
    compared = [other for other in lines if other.opcode == "compare"]
    bounds = [int(other.rest) for other in lines if other.opcode == "constant" and re.fullmatch(r"\d+", other.rest)]
    plain = {"compare", "constant", "parameter", "get-tuple-element", "fusion", "bitcast", "copy"}
    if len(compared) == len(bounds) == 1 and {other.opcode for other in lines} <= plain:
        return bounds[0] + ("direction=LE" in compared[0].rest)
    return None


def _dot(out: tuple, lhs: tuple, rhs: tuple, rest: str) -> float:
    del rhs
    summed = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)
    return 2.0 * math.prod(out) * math.prod(lhs[int(axis)] for axis in (summed[1].split(",") if summed else ()) if axis)


def _convolution(out: tuple, lhs: tuple, rhs: tuple, rest: str) -> float:
    """Operations of a convolution, which is what a TPU has for a matrix product; padding is not counted.

    A batch axis of a product becomes a spatial axis whose window meets one valid position.
    """
    inputs, kernel, outputs = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", rest).groups()
    total = 2.0 * out[outputs.index("b")] * out[outputs.index("f")] * rhs[kernel.index("i")]
    window = dict(part.split("=") for part in (re.search(r"window=\{([^}]*)\}", rest) or ("", ""))[1].split())
    for axis in (label for label in outputs if label.isdigit()):
        def field(name: str, default: str, axis=axis) -> str:
            return window[name].split("x")[int(axis)] if name in window else default

        stride, spread, hole = (int(field(name, "1")) for name in ("stride", "lhs_dilate", "rhs_dilate"))
        place = np.arange(out[outputs.index(axis)])[:, None] * stride - int(field("pad", "0_0").split("_")[0])
        place = place + np.arange(rhs[kernel.index(axis)])[None] * hole
        last = (lhs[inputs.index(axis)] - 1) * spread
        total *= int(((place >= 0) & (place <= last) & (place % spread == 0)).sum())
    return total


def _traffic(line: Instruction, known: dict, computations: dict) -> float:
    """Bytes that an instruction reads from and writes to memory; of arrays that it slices, the slices."""
    if line.opcode in _FREE or line.opcode.endswith("-done"):
        return 0.0
    if line.opcode in _SLICES:
        return 2 * line.size
    if line.opcode == "dynamic-update-slice":
        return 2 * known[line.operands[1]].size
    read = [_off_chip(known[operand]) for operand in line.operands]
    if line.opcode != "fusion":
        return sum(read) + _off_chip(line)
    (callee,) = _callees(line)
    inside = {each.name: each for each in computations[callee]}
    for each in inside.values():
        if each.opcode == "parameter" and read[int(each.rest)]:
            read[int(each.rest)] = min(read[int(each.rest)], _used(each.name, inside))
    (root,) = (each for each in inside.values() if each.root)
    parts = [_behind(name, inside) for name in (root.operands if root.opcode == "tuple" else [root.name])]
    written = sum(0.0 if shape.on_chip else shape.bytes if part.opcode != "dynamic-update-slice"
                  else inside[part.operands[1]].size for part, shape in zip(parts, line.shapes, strict=False))
    return sum(read) + written


def _off_chip(line: Instruction) -> float:
    return sum(shape.bytes for shape in line.shapes if not shape.on_chip)


def _behind(name: str, inside: dict) -> Instruction:
    """The instruction whose value a chain of bitcasts renames."""
    while inside[name].opcode == "bitcast":
        name = inside[name].operands[0]
    return inside[name]


def _used(name: str, inside: dict) -> float:
    """Bytes of a fusion's argument that it reads: slices of it, or all."""
    total = 0.0
    for each in inside.values():
        if name in each.operands:
            if each.opcode == "bitcast":
                total += _used(each.name, inside)
            elif each.opcode in _SLICES and each.operands[0] == name:
                total += each.size
            elif each.opcode != "dynamic-update-slice" or each.operands[0] != name:
                return math.inf
    return total
