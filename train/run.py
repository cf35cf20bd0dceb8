"""The main job: tune the generator, synthesise, tune the prompt, evaluate, print the table.

    python -m train.run configs/mini.py [--out DIR] [--seed 13] [--quiet] [--field.sub value ...]
"""

import logging

import jax
from rich.console import Console

from dawgen_jax.pipeline import main as pipeline
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.plan import outline, plan, product_rate, time_left
from dawgen_jax.results.rows import read_rows
from train import cli

log = logging.getLogger("dawgen_jax.run")


def main(argv: list[str]) -> None:
    """Run all stages of a config in its run directory."""
    config, out = cli.parse(argv, __doc__)
    units, path = pipeline.units_of(config), out / "results.jsonl"
    planned = plan(config, units, read_rows(path) if path.exists() else [])
    rate = product_rate(config.classifier.backbone.dtype) * (config.devices or jax.device_count())
    for line in outline(config, planned, rate):
        log.info("%s", line)
    if any(line.finished < line.cells for line in planned):
        log.info("Results go to %s. The first update of a stage waits for the compiler, which may take minutes.", out)
    else:
        log.info("All of it is finished in %s, if the data are the same; tables and report are made again.", out)

    def tell_time() -> None:
        if left := time_left(plan(config, units, read_rows(path))):
            log.info("%s", left)

    job = Job.start(config, out)
    pipeline.print_tables(job, pipeline.run(job, units, tell_time), Console())


if __name__ == "__main__":
    cli.guard(main)
