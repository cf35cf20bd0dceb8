"""Stage 2: write the synthetic sets of tuned generators (which are tuned first where they are not there).

    python -m train.synthesize configs/mini.py [--out DIR] [--field.sub value ...]

Each set is then judged by the figures that need no backbone, which RUN/quality/NAME.json keeps.
"""

from pathlib import Path

from rich.console import Console

from dawgen_jax.evaluation.quality import Figure, Real, appraise
from dawgen_jax.evaluation.quality.flags import Rules
from dawgen_jax.io.files import write_json
from dawgen_jax.io.terminal import printable
from dawgen_jax.methods.arms import RELEASED
from dawgen_jax.pipeline.inputs import TaskData
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.main import Work, units_of
from dawgen_jax.results.measures import appraisal_table
from dawgen_jax.results.render import to_rich
from dawgen_jax.synthesis.files import read_counts, read_set
from train import cli
from train.quality import GivenSet, findings


def _appraise(work: Work, data: TaskData, seed: int, folder: Path) -> list[Figure]:
    """Judge a set against its shots and the unseen training pool; RUN/quality/NAME.json keeps the findings."""
    given, rules = GivenSet(folder, data.task, read_set(folder), read_counts(folder)), Rules()
    found = appraise(given.samples, data.task.labels, Real(data.splits[seed].train, data.pools.train), data.test, rules)
    write_json(work.job.root / "quality" / f"{folder.name}.json", findings(given, found, rules))
    return found.figures


def main(argv: list[str]) -> None:
    """Write synthetic sets and print their folders."""
    config, out = cli.parse(argv, __doc__)
    units = [unit for unit in units_of(config) if unit.arm.generator not in ("", RELEASED)]
    work = Work(Job.start(config, out), units)
    console = Console()
    for task, generator in dict.fromkeys((unit.task, unit.arm.generator) for unit in units):
        sets = work.sets(task, generator)
        print(*(printable(synthetic.folder) for synthetic in sets), sep="\n")
        for seed, synthetic in zip(config.seeds, sets, strict=True):
            figures = _appraise(work, work.given[task], seed, synthetic.folder)
            console.print(to_rich(appraisal_table(f"Quality of {synthetic.folder.name}", figures)))


if __name__ == "__main__":
    cli.guard(main)
