"""The main job: a list of units (a task and an arm, all seeds), then results.jsonl, the tables and the report.

Artefacts that several units need come first, each once: generators, synthetic sets, source prompts. A unit that fails
is reported and the others run. Finished artefacts in the run directory are reused, also those of other processes.
"""

from __future__ import annotations

import functools
import logging
import pathlib
import shlex
import statistics
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console

from dawgen_jax.config import Config
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.io import world
from dawgen_jax.io.files import storage_fault, write_file, write_json
from dawgen_jax.io.store import artefact, claim
from dawgen_jax.io.terminal import Pace, plain
from dawgen_jax.methods.arms import GENERATORS, RELEASED, Arm, arms_of
from dawgen_jax.pipeline.cells import Cell, cells_of, is_current, run_arm
from dawgen_jax.pipeline.checks import examine
from dawgen_jax.pipeline.generators import tune_generators
from dawgen_jax.pipeline.inputs import Encoded, TaskData, find_task, is_own, read_task
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.sets import SyntheticSet, read_released, synthesize
from dawgen_jax.pipeline.source_prompts import SourcePrompt, train_source
from dawgen_jax.results.measures import label_sentences
from dawgen_jax.results.report import write_report
from dawgen_jax.results.report.reading import finished, optional_rows
from dawgen_jax.results.rows import Row, SyntheticRow, merge, read_cell, read_rows, write_rows
from dawgen_jax.results.tables import result_tables
from dawgen_jax.results.verdict import verdicts

__all__ = ["Unit", "Work", "best_cell", "print_tables", "run", "shared_by", "units_of"]

log = logging.getLogger(__name__)


class Unit(NamedTuple):
    """What runs as a whole: a task and an arm, every seed of the configuration."""

    task: str
    arm: Arm

    def __str__(self) -> str:
        return f"{self.task} {self.arm}"


def units_of(config: Config, methods: Iterable[str] = (), shard: tuple[int, int] = (0, 1)) -> list[Unit]:
    """The units of a configuration.

    Args:
      config: its tasks and arms.
      methods: only arms of these; empty is all.
      shard: (i, n) takes every n-th unit from the i-th on.

    Raises:
      UserError: a task or method is unknown, an arm names a generator alone, or the shard is out of range.
    """
    for name in config.arms:
        if name.strip() in GENERATORS:
            raise ConfigError(f"Config.arms: '{name}' is a generator; write the method that learns from its data too, "
                              f"for instance '{name.strip()}: (Real, Syn) + GS'.")
    part, count = shard
    if not 0 <= part < count:
        raise UserError(f"--shard {part}/{count}: must be i/n with i from 0 to n - 1.")
    for name in config.tasks:
        find_task(name, config)
    return [Unit(name, arm) for name in config.tasks for arm in arms_of(config, methods)][part::count]


def shared_by(units: Sequence[Unit]) -> list[tuple[str, str, str]]:
    """What units need made first, in order: ('generators', task, generator), ('sets', ...), ('sources', task, kind)."""
    written = dict.fromkeys((unit.task, unit.arm.generator) for unit in units
                            if unit.arm.generator not in ("", RELEASED))
    sources = dict.fromkeys((unit.task, unit.arm.method.source) for unit in units if unit.arm.method.source)
    return [(kind, *pair) for kind, pairs in (("generators", written), ("sets", written), ("sources", sources))
            for pair in pairs]


class Work:
    """The inputs and shared artefacts of a job's units, each read or made once in this process."""

    def __init__(self, job: Job, units: Sequence[Unit]):
        """Read what every task needs before the first one starts, so that a mistake in the last is reported at once.

        Raises:
          UserError: an input of some task is missing or wrong.
        """
        self.job, self._memory = job, {}
        self.given: dict[str, TaskData] = {}
        for name in dict.fromkeys(unit.task for unit in units):
            writes = any(unit.arm.generator not in ("", RELEASED) for unit in units if unit.task == name)
            self.given[name] = read_task(name, job.config, generates=writes)
            if is_own(name, job.config):
                found = examine(self.given[name], job.config)
                if found.problems:
                    raise UserError(" ".join(found.problems))
                for warning in found.warnings:
                    log.warning("%s: %s", name, warning)
            if any(unit.arm.generator == RELEASED for unit in units if unit.task == name):
                self.sets(name, RELEASED)

    def _once(self, key: tuple, make: Callable[[], Any]) -> Any:
        """What ``make`` gives; an error that it raised before is raised again."""
        if key not in self._memory:
            try:
                self._memory[key] = make()
            except Exception as error:
                self._memory[key] = error
        if isinstance(self._memory[key], Exception):
            raise self._memory[key]
        return self._memory[key]

    def generators(self, task: str, generator: str) -> list[pathlib.Path]:
        """The folders of a task's tuned generators, one per seed."""
        return self._once((task, generator, "tuned"), lambda: tune_generators(self.job, self.given[task], generator))

    def sets(self, task: str, generator: str) -> list[SyntheticSet]:
        """The synthetic sets of a task by a generator, one per seed."""
        given = self.given[task]
        if generator == RELEASED:
            return self._once((task, generator), lambda: read_released(self.job.config, given))
        return self._once((task, generator), lambda: synthesize(
            self.job, given, generator, self.generators(task, generator)))

    def encoded(self, task: str) -> Encoded:
        """Token arrays of a task for the classifier's backbone."""
        config = self.job.config.classifier
        return self._once((task, Encoded), lambda: Encoded(
            self.given[task].task, self.job.backbone(config.backbone), config))

    def sources(self, task: str, kind: str) -> SourcePrompt:
        """The prompt that methods of that kind start from."""
        return self._once((task, SourcePrompt, kind), lambda: train_source(
            self.job, self.given[task], self.encoded(task), kind))

    def cells(self, unit: Unit) -> list[Cell]:
        """The cells of a unit; what they need is made first."""
        made = self.sets(unit.task, unit.arm.generator) if unit.arm.generator else None
        source = self.sources(unit.task, unit.arm.method.source) if unit.arm.method.source else None
        return cells_of(self.job, self.given[unit.task], unit.arm, made, source)

    def run(self, unit: Unit) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
        """Run a unit, or find it finished: the folders of its cells, and those of its synthetic sets."""
        cells = self.cells(unit)
        folders = run_arm(self.job, self.given[unit.task], self.encoded(unit.task), unit.arm, cells)
        return folders, [cell.synthetic.folder for cell in cells if cell.synthetic and cell.synthetic.folder]


def run(job: Job, units: Sequence[Unit] | None = None, pace: Pace | None = None, work: Work | None = None
        ) -> list[Row]:
    """Run units (all of the configuration's by default); what is finished in the run directory is reused.

    Args:
      job: config and run directory.
      units: of :func:`units_of`.
      pace: knows the steps of the run, for its progress bars and the time left.
      work: the inputs of the units, if they are read already.

    Returns:
      All rows of the run directory.

    Raises:
      UserError: an input of some task is missing or wrong (before any work), or, after all other units have run, a
        unit failed.
    """
    units, pace = units_of(job.config) if units is None else units, pace or Pace({})
    work, failures, mine, told = work or Work(job, units), [], [], ""

    def attempt(key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        """A step's result, or the error that it failed with."""
        nonlocal told
        try:
            with pace.step(*key):
                made = make()
        except Exception as error:
            if world.count() > 1 and not isinstance(error, UserError):
                raise  # it may be this process's alone: then the others must end
            return error
        if pace.left not in ("", told):
            log.info("%s", told := pace.left)
        return made

    for kind, task, name in shared_by(units):  # units that need what failed here raise its error again
        attempt((kind, task, name), functools.partial(getattr(work, kind), task, name))
    for unit in units:
        made = attempt(("cells", unit.task, str(unit.arm)), functools.partial(work.run, unit))
        if isinstance(made, Exception):
            failures.append(world.led(functools.partial(_failed, job, unit, made)))
        else:
            world.led(functools.partial(_publish, work, *made))
            mine += made[0]
    if mine:  # what other processes have finished meanwhile, oldest first; of rows with one key this run's count
        world.led(lambda: _publish(work, [*sorted(finished(job.root, "cells"), key=lambda folder: (
            folder.stat().st_mtime_ns, folder)), *mine], []))
    with job.stage("write report"), claim(job.root / "report"):
        world.led(lambda: write_report(job.root) and None)
    rows = read_rows(job.root / "results.jsonl") if mine else []
    if failures:
        others = f"{len(failures)} of {len(units)} units failed, the others are finished: " if len(units) > 1 else ""
        raise UserError(others + " ".join(failures))
    return rows


def _failed(job: Job, unit: Unit, error: Exception) -> str:
    """One sentence on a unit that failed; unless the user made a mistake, its traceback is kept in a file."""
    if isinstance(error, UserError):
        reason = str(error)
    elif fault := storage_fault(error):
        reason = f"{fault} ({job.root}): free some space, and the same command resumes."
    else:
        path = artefact(job.root, "failures", str(unit), "traceback").with_suffix(".txt")
        write_file(path, "".join(traceback.format_exception(error)))
        reason = f"{type(error).__name__} (the traceback is in {path})."
    log.error("%s failed: %s", unit, reason)
    return f"{unit}: {reason}"


def _publish(work: Work, cells: Sequence[pathlib.Path], sets: Sequence[pathlib.Path]) -> None:
    """Merge the rows of finished cells and sets into results.jsonl and synthetic.jsonl, one process at a time."""
    job, data = work.job, {name: given.digest for name, given in work.given.items()}
    with claim(job.root / "results"):
        _merged(job.root / "results.jsonl", Row, [read_cell(cell / "result.json") for cell in cells], data)
        _merged(job.root / "synthetic.jsonl", SyntheticRow,
                [read_rows(folder / "quality.jsonl", SyntheticRow) for folder in sets], data)
        write_json(job.root / "timings.json", {name: round(seconds, 1) for name, seconds in job.seconds.items()})


def _merged(path: pathlib.Path, kind: type, groups: list[list], data: Mapping[str, str]) -> None:
    """Add rows to a file. All are of the current revision, and of one set of data per task: that of ``data``."""
    def fits(row: Row | SyntheticRow) -> bool:
        return is_current(row.settings) and row.data in ("", data.get(row.task, row.data))

    earlier = optional_rows(path, kind)
    if dropped := sum(not fits(row) for row in earlier):
        log.warning("%s: dropped %d rows that were computed on different data or by an earlier revision; the folders "
                    "of their cells stay.", path, dropped)
    rows = [row for row in merge(earlier, *groups) if fits(row)]
    if rows:
        write_rows(path, rows)


def best_cell(root: pathlib.Path, rows: Sequence[Row]) -> pathlib.Path | None:
    """The cell to predict with: of the arm with the best mean dev accuracy, the seed with the best dev accuracy.

    Test accuracy is not read. Only arms with a stored classifier are considered; None without any.
    """
    arms: dict[tuple[str, str], list[tuple[float, pathlib.Path]]] = {}
    for row in rows:
        if row.metric == "accuracy" and "dev_accuracy" in row.extras:
            for folder in (root / "cells").glob(f"*-{row.config_hash}"):
                if (folder / "classifier.json").is_file():
                    arms.setdefault((row.task, row.arm), []).append((float(row.extras["dev_accuracy"]), folder))
    if not arms:
        return None
    return max(max(arms.values(), key=lambda cells: statistics.fmean(dev for dev, _ in cells)))[1]


def print_tables(job: Job, rows: Sequence[Row], console: Console) -> None:
    """Print the tables of a run, the verdict, where its files are, the time, and how to predict with the best cell."""
    metric = job.config.own.metric if job.config.own.name in job.config.tasks else "accuracy"
    for table in result_tables(rows, metric):
        console.print(table)
    for verdict in verdicts(rows, metric):
        console.print(plain(f"Verdict ({verdict.title}): {verdict.headline}"))
        for sentence in verdict.sentences:
            console.print(plain(sentence))
    for sentence in label_sentences(optional_rows(job.root / "synthetic.jsonl", SyntheticRow)):
        console.print(plain(sentence))
    # Paths are not broken at the width of the terminal: people copy them.
    console.print(plain(f"results: {job.root / 'results.jsonl'}, report: {job.root / 'report.html'}"), soft_wrap=True)
    spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in job.seconds.items())
    console.print(plain(f"total {sum(job.seconds.values()) / 60:.1f} minutes: {spent}"))
    if best := world.led(lambda: str(best_cell(job.root, rows) or "")):
        world.led(lambda: write_file(job.root / "best", best + "\n") and None)
        console.print(plain(f"best by dev accuracy: dawgen predict {shlex.quote(best)} FILE"), soft_wrap=True)
