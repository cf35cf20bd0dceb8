"""Stage 2: write the synthetic sets of tuned generators (which are tuned first where they are not there).

    python -m train.synthesize configs/mini.py [--out DIR] [--field.sub value ...]
"""

from dawgen_jax.io.terminal import printable
from dawgen_jax.methods.arms import RELEASED
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.main import Work, units_of
from train import cli


def main(argv: list[str]) -> None:
    """Write synthetic sets and print their folders."""
    config, out = cli.parse(argv, "Stage 2: write synthetic sets.")
    units = [unit for unit in units_of(config) if unit.arm.generator not in ("", RELEASED)]
    work = Work(Job.start(config, out), units)
    for task, generator in dict.fromkeys((unit.task, unit.arm.generator) for unit in units):
        print(*(printable(synthetic.folder) for synthetic in work.sets(task, generator)), sep="\n")


if __name__ == "__main__":
    cli.guard(main)
