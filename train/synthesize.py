"""Stage 2: write the synthetic sets of tuned generators (which are tuned first where they are not there).

    python -m train.synthesize configs/mini.py [--out DIR] [--field.sub value ...]
"""

from dawgen_jax.stages import main as stages
from dawgen_jax.stages.generators import tune_generators
from dawgen_jax.stages.job import Job
from dawgen_jax.stages.synthetic import synthesize
from train import cli


def main(argv: list[str]) -> None:
    """Write synthetic sets and print their folders."""
    config, out = cli.parse(argv, "Stage 2: write synthetic sets.")
    job = Job.start(config, out)
    for name in config.tasks:
        for generator in stages.generators_of(config.parsed_arms):
            made = synthesize(job, name, generator, tune_generators(job, name, generator))
            print(*(synthetic.folder for synthetic in made), sep="\n")


if __name__ == "__main__":
    cli.guard(main)
