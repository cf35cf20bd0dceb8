"""The main job: tune the generator, synthesise, tune the prompt, evaluate, print the table.

    python -m train.run configs/mini.py [--out DIR] [--seed 13] [--quiet] [--field.sub value ...]
"""

import logging

from rich.console import Console

from dawgen_jax.pipeline import main as pipeline
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.plan import outline, plan
from dawgen_jax.results.rows import read_rows
from train import cli

log = logging.getLogger("dawgen_jax.run")


def main(argv: list[str]) -> None:
    """Run all stages of a config in its run directory."""
    config, out = cli.parse(argv, __doc__)
    units = pipeline.units_of(config)
    path = out / "results.jsonl"
    for line in outline(config, plan(config, units, read_rows(path) if path.exists() else [])):
        log.info("%s", line)
    log.info("Results go to %s. The first update of each stage waits for the compiler, which may take minutes.", out)
    job = Job.start(config, out)
    pipeline.print_tables(job, pipeline.run(job, units), Console())


if __name__ == "__main__":
    cli.guard(main)
