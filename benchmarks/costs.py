"""What a run of configs/own_task.py costs on larger backbones: minutes by the cost model, nothing is run.

    python -m benchmarks.costs

Prints the tables of docs/guides/own_task.md: operations of the steps of a run (``pipeline.plan.steps``), and minutes at
the rates of :data:`MACHINES`, which are assumptions. The task is one of single texts with two classes and 16 shots, and
every text is as long as the config allows. Compilation and scoring (zero-shot, dev, test) are not counted.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import NamedTuple

from dawgen_jax.backbones.base import Family, Model
from dawgen_jax.backbones.registry import FAMILIES
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.config import BackboneConfig, load_config
from dawgen_jax.pipeline.inputs import find_task, resolved
from dawgen_jax.pipeline.main import units_of
from dawgen_jax.pipeline.plan import plan, steps
from dawgen_jax.pipeline.programs import Shapes


class Machine(NamedTuple):
    """Operations per second that are assumed: of training steps, and of decoding, which waits for memory."""

    training: float
    decoding: float


MACHINES = {"2 CPU cores": Machine(1e11, 0.5e11), "8 CPU cores": Machine(4e11, 1e11), "one GPU": Machine(4e13, 1e12)}


def _t5(width: int, d_ff: int, layers: int, heads: int) -> tuple[Model, Family]:
    return T5(T5Config(vocab_size=32128, d_model=width, d_kv=64, d_ff=d_ff, num_layers=layers,
                       num_decoder_layers=layers, num_heads=heads)), FAMILIES["t5"]


BACKBONES: dict[str, tuple[Model, Family]] = {
    "T5-small": _t5(512, 1024, 8, 6), "T5-base": _t5(768, 2048, 12, 12), "T5-large": _t5(1024, 2816, 24, 16),
    "SmolLM2-135M": (FAMILIES["llama"].shapes["smollm2-135m"](BackboneConfig()), FAMILIES["llama"]),
}
"""Published shapes; the T5s are v1.1."""
COLUMNS = {"generators": "generator", "sets": "synthetic set", "cells": "prompts and LoRA"}


def operations(model: Model, family: Family) -> dict[str, float]:
    """Floating-point operations of each stage of configs/own_task.py with a backbone."""
    config = dataclasses.replace(load_config("own_task"), tasks=("MR",))  # of single texts and two classes
    config = dataclasses.replace(config, classifier=resolved(config.classifier, family))
    cue = Shapes.of(config, find_task("MR")).cue or None
    planned, found = plan(config, units_of(config), model=model, tail=cue), collections.Counter()
    for (kind, *_), step in steps(config, planned, model, model).items():
        found[kind] += step.operations
    return dict(found)


def minutes(found: dict[str, float], machine: Machine) -> float:
    """How long the stages take."""
    return sum(flops / (machine.decoding if kind == "sets" else machine.training) for kind, flops in found.items()) / 60


def main() -> None:
    """Print the tables."""
    print("| machine | training, operations per second (assumed) | decoding (assumed) |\n|---|---|---|")
    for name, machine in MACHINES.items():
        print(f"| {name} | {machine.training:.1e} | {machine.decoding:.1e} |")
    print(f"\n| backbone | {', '.join(COLUMNS.values())}: 10^12 operations | "
          + " | ".join(f"{name}, minutes (computed)" for name in MACHINES) + " |\n|---|---|" + "---|" * len(MACHINES))
    for name, (model, family) in BACKBONES.items():
        found = operations(model, family)
        times = [minutes(found, machine) for machine in MACHINES.values()]
        print(f"| {name} | {', '.join(f'{found[kind] / 1e12:,.0f}' for kind in COLUMNS)} | "
              + " | ".join("under 1" if time < 1 else f"{time:.0f}" for time in times) + " |")


if __name__ == "__main__":
    main()
