"""Stage 3: the cells of chosen arms, on synthetic sets that are there or are made first.

    python -m train.tune_prompt configs/mini.py --arms "DawGen: (Real, Syn) + GS" [--out DIR] [--field.sub value ...]
"""

from dawgen_jax.io.terminal import printable
from dawgen_jax.pipeline import main as pipeline
from dawgen_jax.pipeline.job import Job
from train import cli


def main(argv: list[str]) -> None:
    """Run cells and print accuracy a seed."""
    config, out = cli.parse(argv, __doc__)
    units = pipeline.units_of(config)
    for row in pipeline.run(Job.start(config, out), units):
        if row.metric == "accuracy":
            print(printable(f"{row.task} {row.backbone} {row.arm} k={row.k_shot} seed={row.seed}: "
                            f"{100 * row.value:.2f} (n = {row.n_test})"))


if __name__ == "__main__":
    cli.guard(main)
