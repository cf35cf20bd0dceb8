"""Stage 2: write the synthetic sets of tuned generators (which are tuned first where they are not there).

    python -m train.synthesize configs/mini.py [--out DIR] [--field.sub value ...]

Each set is then judged by what needs no backbone; RUN/quality/NAME.json keeps the figures.
"""

from rich.console import Console

from dawgen_jax.io.terminal import printable
from dawgen_jax.methods.arms import RELEASED
from dawgen_jax.pipeline.appraise import appraise_written
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.main import Work, units_of
from dawgen_jax.results.measures import appraisal_table
from dawgen_jax.results.render import to_rich
from train import cli


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
            figures = appraise_written(work.job, work.given[task], seed, synthetic.folder)
            console.print(to_rich(appraisal_table(f"Quality of {synthetic.folder.name}", figures)))


if __name__ == "__main__":
    cli.guard(main)
