"""Run a configuration: tune generators, write synthetic sets, tune prompts, evaluate, print tables, write a report.

    dawgen run CONFIG [--out DIR] [--shard 0/4] [--stage prompts] [--dry-run] [--field.sub value ...]

An arm is a method with the generator of its synthetic data; a cell is one seed of an arm on a task, a unit all of its
seeds. Every artefact (a generator, a synthetic set, a cell) has its own folder in the run directory, named by a hash of
everything that it depends on. Finished artefacts are reused, and an interrupted run resumes. If a cell fails, the
others still run, and the exit status is 2. Shard i/n takes every n-th unit; several processes may work in one run
directory.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table

from dawgen_jax.cli.options import Configured, parse_config
from dawgen_jax.cli.quality import GivenSet, findings
from dawgen_jax.config import Config
from dawgen_jax.errors import UserError
from dawgen_jax.evaluation.quality import Figure, Real, appraise
from dawgen_jax.evaluation.quality.flags import Rules
from dawgen_jax.io.files import write_json
from dawgen_jax.io.terminal import Pace, plain, printable
from dawgen_jax.pipeline import main as pipeline
from dawgen_jax.pipeline.inputs import TaskData
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.plan import Planned, earlier_cells, outline, plan, prompt_lines, steps
from dawgen_jax.results.measures import appraisal_table
from dawgen_jax.results.report.reading import optional_rows
from dawgen_jax.results.rows import Row
from dawgen_jax.synthesis.files import read_counts, read_set

__all__ = ["Arguments", "main"]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Arguments(Configured):
    """Options of ``dawgen run``."""

    methods: tuple[str, ...] = ()
    """Run only arms with these methods ('Prompt Tuning'), or only these arms ('DawGen: (Real, Syn) + GS')."""
    shard: str = "0/1"
    """i/n: every n-th unit, starting with the i-th, counted from 0."""
    stage: Literal["generators", "sets", "prompts"] = "prompts"
    """Stop after this stage: tuned generators, synthetic sets (with their quality), or everything."""
    dry_run: bool = False
    """Print the plan and its cost, and run nothing."""


def _planned(config: Config, out: pathlib.Path, units: Sequence[pipeline.Unit]) -> list[Planned]:
    return plan(config, units, optional_rows(out / "results.jsonl", Row))


def show_plan(config: Config, planned: Sequence[Planned], console: Console) -> None:
    """Print what would run, and what it would cost."""
    table = Table("task", "arm", "cells", "finished", "updates", "PFLOP", "minutes")
    for line in planned:
        minutes = "–" if math.isnan(line.seconds) else f"{line.seconds / 60:.1f}"
        table.add_row(plain(line.unit.task), plain(line.unit.arm), str(line.cells), str(line.finished),
                      str(line.updates), f"{line.flops / 1e15:.3g}", minutes)
    console.print(table)
    for line in prompt_lines(config, [line.unit.arm for line in planned]):
        console.print(plain(line))
    console.print(f"{len(planned)} units, {sum(line.cells for line in planned)} cells, "
                  f"{sum(line.finished for line in planned)} finished. PFLOP counts the updates of the cells only, not "
                  "generators, synthetic sets, source prompts and evaluation. Minutes are estimated from finished "
                  f"cells of the run directory. {earlier_cells(planned)}".rstrip(), markup=False)


def write_stage(work: pipeline.Work, units: Sequence[pipeline.Unit], stage: str, console: Console) -> None:
    """Make the generators or the synthetic sets that the units need; print their folders, and the quality of sets."""
    for _, task, generator in (needed for needed in pipeline.shared_by(units) if needed[0] == stage):
        if stage == "generators":
            print(*map(printable, work.generators(task, generator)), sep="\n")
            continue
        sets = work.sets(task, generator)
        print(*(printable(synthetic.folder) for synthetic in sets), sep="\n")
        for seed, synthetic in zip(work.job.config.seeds, sets, strict=True):
            figures = _appraise(work, work.given[task], seed, synthetic.folder)
            console.print(appraisal_table(f"Quality of {synthetic.folder.name}", figures))


def _appraise(work: pipeline.Work, data: TaskData, seed: int, folder: pathlib.Path) -> list[Figure]:
    """Judge a set against its shots and the unseen training pool; RUN/quality/NAME.json keeps the findings."""
    given, rules = GivenSet(folder, data.task, read_set(folder), read_counts(folder)), Rules()
    found = appraise(given.samples, data.task.labels, Real(data.splits[seed].train, data.pools.train), data.test, rules)
    write_json(work.job.root / "quality" / f"{folder.name}.json", findings(given, found, rules))
    return found.figures


def main(argv: Sequence[str]) -> None:
    """Run the units of a shard, or show what they would cost."""
    config, out, options = parse_config(argv, __doc__, Arguments)
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", options.shard)
    if not match:
        raise UserError(f"--shard {options.shard[:60]}: must be i/n, for instance 0/4.")
    units, console = pipeline.units_of(config, options.methods, (int(match[1]), int(match[2]))), Console()
    if options.dry_run:
        show_plan(config, _planned(config, out, units), console)
        return
    job = Job.start(config, out)
    work = pipeline.Work(job, units)  # what is wrong with the data comes before any estimate
    if options.stage != "prompts":
        write_stage(work, units, options.stage, console)
        return
    planned = _planned(config, out, units)
    for line in outline(config, planned):
        log.info("%s", line)
    if any(line.finished < line.cells for line in planned):
        log.info("Results go to %s. The time left is shown once the first updates are timed; the compiler, which comes "
                 "before the first update of a stage, may take minutes.", out)
    else:
        log.info("Everything is finished in %s, if the data are the same; tables and report are written again.", out)
    pipeline.print_tables(job, pipeline.run(job, units, Pace(steps(config, planned)), work), console)
