"""The main job: every task, generator and arm of a configuration, then results.jsonl, the table and the report."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from rich.console import Console

from dawgen_jax.config import GENERATORS, Arm
from dawgen_jax.results.report import write_report
from dawgen_jax.results.rows import Row, SyntheticRow, merge, read_cell, read_rows, write_rows
from dawgen_jax.results.tables import result_tables, to_rich
from dawgen_jax.stages import inputs
from dawgen_jax.stages.cells import run_arm
from dawgen_jax.stages.generators import tune_generators
from dawgen_jax.stages.job import Job
from dawgen_jax.stages.store import write_json
from dawgen_jax.stages.synthetic import synthesize

__all__ = ["generators_of", "print_tables", "publish", "run"]


def generators_of(arms: Sequence[Arm]) -> list[str]:
    """The generators that the arms need, FewGen first."""
    return [generator for generator in GENERATORS if any(arm.generator == generator for arm in arms)]


def run(job: Job) -> list[Row]:
    """All stages; what is finished in the run directory is reused.

    Returns:
      All rows of the run directory.

    Raises:
      UserError: an input of some task is missing or wrong (before any work), or a stage cannot go on.
    """
    arms, cells, made = job.config.parsed_arms, [], []
    _check_inputs(job, arms)
    for name in job.config.tasks:
        sets = {generator: synthesize(job, name, generator, tune_generators(job, name, generator))
                for generator in generators_of(arms)}
        made += [synthetic.folder for group in sets.values() for synthetic in group]
        for arm in arms:
            cells += run_arm(job, name, arm, sets.get(arm.generator))
    return publish(job, cells, made)


def _check_inputs(job: Job, arms: Sequence[Arm]) -> None:
    """Read what every task needs before the first is worked on: a mistake in the last is told at once."""
    for name in job.config.tasks:
        inputs.load_pools(name, job.config.data.root).scored(inputs.find_task(name))
        for seed in job.config.seeds:
            inputs.load_split(name, job.config.data, seed)
        if generators_of(arms):
            inputs.first_sentences(name, job.config.data)


def publish(job: Job, cells: Sequence[pathlib.Path], made: Sequence[pathlib.Path]) -> list[Row]:
    """Rewrite results.jsonl and synthetic.jsonl and the report.

    Args:
      job: configuration, directory.
      cells: of this run; rows that earlier runs left in the directory are kept where no cell replaces them.
      made: the synthetic sets of this run, likewise.
    """
    rows = _publish(job.root / "results.jsonl", Row, [read_cell(cell / "result.json") for cell in cells])
    _publish(job.root / "synthetic.jsonl", SyntheticRow,
             [read_rows(folder / "quality.jsonl", SyntheticRow) for folder in made])
    write_json(job.root / "timings.json", {name: round(seconds, 1) for name, seconds in job.seconds.items()})
    with job.stage("write report"):
        write_report(job.root)
    return rows


def _publish(path: pathlib.Path, kind: type, groups: list[list]) -> list:
    earlier = read_rows(path, kind) if path.exists() else []
    rows = merge(earlier, *groups)
    if rows:
        write_rows(path, rows)
    return rows


def print_tables(job: Job, rows: Sequence[Row], console: Console) -> None:
    """Print the tables of a run, where its files are, and the seconds of each stage."""
    for table in result_tables(rows):
        console.print(to_rich(table))
    console.print(f"results: {job.root / 'results.jsonl'}, report: {job.root / 'report.html'}", markup=False)
    spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in job.seconds.items())
    console.print(f"seconds per stage: {spent}", markup=False)
