"""The main job: tune the generator, synthesise, tune the prompt, evaluate, print the table.

    python -m train.run configs/mini.py [--out DIR] [--field.sub value ...]
"""

from rich.console import Console

from dawgen_jax.pipeline import main as pipeline
from dawgen_jax.pipeline.job import Job
from train import cli


def main(argv: list[str]) -> None:
    """Run all stages of a config in its run directory."""
    config, out = cli.parse(argv, "All stages of the main job, resumable.")
    units = pipeline.units_of(config)
    job = Job.start(config, out)
    pipeline.print_tables(job, pipeline.run(job, units), Console())


if __name__ == "__main__":
    cli.guard(main)
