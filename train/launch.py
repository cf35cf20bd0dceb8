"""Print how a program is started on many machines: ``python -m train.launch LAUNCHER [options] -- PROGRAM ...``.

    python -m train.launch gke --processes 4 --devices 4 -- train.run configs/paper.py --out /runs/paper
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from typing import Annotated, Literal

import tyro

from dawgen_jax.errors import UserError
from dawgen_jax.pipeline.recipes import RECIPES
from train import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What a launcher's file depends on."""

    launcher: Annotated[Literal["tpu-vm", "gke", "slurm-node", "slurm-gpu", "skypilot", "ssh"], tyro.conf.Positional]
    """A Cloud TPU slice; a JobSet on GKE; Slurm with one task a node, or a GPU; SkyPilot; plain ssh."""
    processes: int = 2
    """Processes, one a machine (with slurm-gpu: machines)."""
    devices: int = 8
    """Accelerators of each machine."""
    name: str = "dawgen"
    """Of the job."""


def main(argv: list[str]) -> None:
    """Print the recipe for the words after ``--``."""
    own, program = (argv[:argv.index("--")], argv[argv.index("--") + 1:]) if "--" in argv else (argv, [])
    arguments = cli.parse_options(own, Arguments, __doc__)
    if not program or not program[0].startswith("train.") or importlib.util.find_spec(program[0]) is None:
        raise UserError("No program to start; put it after --, for instance: -- train.run configs/paper.py --out DIR.")
    for field in ("processes", "devices"):
        if getattr(arguments, field) < 1:
            raise UserError(f"--{field} {getattr(arguments, field)}: must be 1 or more.")
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", arguments.name):
        raise UserError(f"--name {arguments.name}: must be a lower-case letter, then letters, digits or dashes, at "
                        "most 40.")
    words = ["python", "-m", *program]
    print(RECIPES[arguments.launcher](words, arguments.processes, arguments.devices, arguments.name), end="")


if __name__ == "__main__":
    cli.guard(main)
