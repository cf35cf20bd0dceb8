"""Stage 1 alone: tune the label prompts of every generator that the arms need.

    python -m train.tune_generator configs/mini.py [--out DIR] [--field.sub value ...]
"""

from dawgen_jax.stages import main as stages
from dawgen_jax.stages.generators import tune_generators
from dawgen_jax.stages.job import Job
from train import cli


def main(argv: list[str]) -> None:
    """Tune generators and print their folders."""
    config, out = cli.parse(argv, "Stage 1: tune the generators' label prompts.")
    job = Job.start(config, out)
    for name in config.tasks:
        for generator in stages.generators_of(config.parsed_arms):
            print(*tune_generators(job, name, generator), sep="\n")


if __name__ == "__main__":
    cli.guard(main)
