"""Stage 1 alone: tune the label prompts of every generator that the arms need.

    python -m train.tune_generator configs/mini.py [--out DIR] [--field.sub value ...]
"""

from dawgen_jax.io.terminal import printable
from dawgen_jax.methods.arms import RELEASED, arms_of
from dawgen_jax.pipeline.generators import tune_generators
from dawgen_jax.pipeline.inputs import read_task
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.main import generators_of
from train import cli


def main(argv: list[str]) -> None:
    """Tune generators and print their folders."""
    config, out = cli.parse(argv, __doc__)
    generators = [name for name in generators_of(arms_of(config)) if name != RELEASED]
    given = [read_task(name, config, generates=False) for name in config.tasks]
    job = Job.start(config, out)
    for task in given:
        for generator in generators:
            print(*map(printable, tune_generators(job, task, generator)), sep="\n")


if __name__ == "__main__":
    cli.guard(main)
