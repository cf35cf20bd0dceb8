"""A grid of tasks, arms and seeds, resumable and in shards.

    python -m train.grid CONFIG.py --out DIR [--tasks A B] [--seeds 13 21] [--methods "Prompt Tuning" ...] \\
        [--shard 0/4] [--dry-run]

Every cell (task, arm, seed) has its own folder, named by a hash of all that it reads. Finished ones are skipped, a
failed one is reported and the rest go on (exit status 2 at the end), and what several cells need (a tuned generator, a
synthetic set, a source prompt) is made once. Shard i of n takes every n-th unit (a task and an arm, all seeds in one
program); several processes may work in one DIR, shards or not: each artefact is made by the process that holds its
lock, and the lock goes with the process.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re

from rich.console import Console
from rich.table import Table

from dawgen_jax.config import Config
from dawgen_jax.errors import UserError
from dawgen_jax.io.terminal import plain
from dawgen_jax.pipeline import main as pipeline
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.plan import plan
from dawgen_jax.results.rows import read_rows
from train import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What this program takes besides the configuration."""

    methods: tuple[str, ...] = ()
    """Only arms with these methods ('Prompt Tuning'), or these arms ('DawGen: (Real, Syn) + GS'); empty is all."""
    shard: str = "0/1"
    """i/n: every n-th unit from the i-th on."""
    dry_run: bool = False
    """Print the plan with updates, operations and time, and run nothing."""


def show_plan(config: Config, out: pathlib.Path, units: list[pipeline.Unit], console: Console) -> None:
    """Print what would run, and what it would cost."""
    path = out / "results.jsonl"
    planned = plan(config, units, read_rows(path) if path.exists() else [])
    table = Table("task", "arm", "cells", "finished", "updates", "PFLOP", "minutes")
    for line in planned:
        minutes = "–" if math.isnan(line.seconds) else f"{line.seconds / 60:.1f}"
        table.add_row(plain(line.unit.task), plain(line.unit.arm), str(line.cells), str(line.finished),
                      str(line.updates), f"{line.flops / 1e15:.3g}", minutes)
    console.print(table)
    console.print(f"{len(units)} units, {sum(line.cells for line in planned)} cells, "
                  f"{sum(line.finished for line in planned)} finished. Operations are of the cells' training alone: "
                  "generators, synthetic sets, source prompts and evaluation are not counted. Minutes come from "
                  "finished cells of this directory; where there are none, run one first.", markup=False)


def main(argv: list[str]) -> None:
    """Run the units of a shard, or show what they would cost."""
    config, out, arguments = cli.parse_with(argv, __doc__, Arguments())
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", arguments.shard)
    if not match:
        raise UserError(f"--shard {arguments.shard[:60]}: must be i/n, for instance 0/4.")
    units = pipeline.units_of(config, arguments.methods, (int(match[1]), int(match[2])))
    if arguments.dry_run:
        show_plan(config, out, units, Console())
        return
    job = Job.start(config, out)
    pipeline.print_tables(job, pipeline.run(job, units), Console())


if __name__ == "__main__":
    cli.guard(main)
