"""Figures of generator tuning: means over seeds of metrics.jsonl at a few updates.

    python -m benchmarks.generator_curves RUN [--steps 10 20 40 80 240]

RUN is the directory of a finished or unfinished run. Prints a Markdown table per figure, with a row per generator.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics

from dawgen_jax.io.metrics_log import read_metrics
from dawgen_jax.results.render import Table, to_markdown

FIGURES = {
    "weight_entropy": ("entropy of the token weights, as a share of the greatest", ".3f"),
    "loss_wgen": ("L_wGen: weighted negative log-likelihood per token", ".3f"),
    "nll": ("L_gen: the same without weights", ".3f"),
    "loss_disc": ("L_disc", ".3f"),
    "loss_dist": ("L_dist", ".3f"),
    "meta_grad_norm": ("norm of the meta-gradient", ".1e"),
}
"""Fields of metrics.jsonl: their descriptions and formats."""


def read_run(run: pathlib.Path) -> dict[str, list[dict[int, dict]]]:
    """Lines by update, for each seed of each task and generator."""
    found: dict[str, list[dict[int, dict]]] = {}
    for folder in sorted((run / "synthetic").glob("[!.]*")):
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        lines = read_metrics(run / "generators" / meta["generator_artefact"] / "metrics.jsonl")
        found.setdefault(f"{meta['task']}, {meta['generator']}", []).append({line["step"]: line for line in lines})
    return found


def main() -> None:
    """Read, average and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 40, 80, 240])
    arguments = parser.parse_args()
    found = read_run(arguments.run)
    for key, (title, form) in FIGURES.items():
        rows = tuple((name, *(format(statistics.fmean(seed[step][key] for seed in seeds), form)
                              for step in arguments.steps), str(len(seeds))) for name, seeds in found.items())
        print(to_markdown(Table(title, ("generator", *(f"update {step}" for step in arguments.steps), "seeds"), rows)))


if __name__ == "__main__":
    main()
