"""Label consistency of the sets of several generators, compared with those of one of them.

    python -m benchmarks.generator_sets results/generators/synthetic.jsonl [--against L_gen] [--markdown]
    python -m benchmarks.generator_sets runs/mini_generators/synthetic/*/quality.jsonl

A table per task, and one of the generators that ran on all tasks, over all of them: mean 
consistency of each generator's sets with the deviation, its mean paired difference from ``--against`` with a 95%
interval, on how many pairs (of task and seed) it is ahead, and p of the permutation of signs, also with Holm's
correction for the lines of the table (:mod:`dawgen_jax.results.paired`). Distinct-2 is a mean.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics

from rich.console import Console

from dawgen_jax.results.paired import holm, paired_test
from dawgen_jax.results.render import Table, to_markdown
from dawgen_jax.results.rows import SyntheticRow, merge, read_rows


def compared(tasks: list[str], rows: list[SyntheticRow], against: str) -> Table:
    """The table of some tasks, with the generators that have sets for all of them."""
    sets: dict[str, list[SyntheticRow]] = {}
    for row in rows:
        if row.task in tasks:
            sets.setdefault(row.generator, []).append(row)
    sets = {name: found for name, found in sets.items() if {row.task for row in found} == {*tasks}}
    tests = {name: paired_test(found, sets[against], "consistency") for name, found in sets.items() if name != against}
    corrected = dict(zip(tests, holm([test.p_permutation for test in tests.values()]), strict=True))
    lines = []
    for name, found in sorted(sets.items(), key=lambda item: -statistics.fmean(row.consistency for row in item[1])):
        values = [100 * row.consistency for row in found]
        line = [name, f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f} ({len(values)})",
                f"{100 * statistics.fmean(row.diversity for row in found):.1f}"]
        if test := tests.get(name):
            other = {(row.task, row.seed): row.consistency for row in sets[against]}
            ahead = sum(row.consistency > other.get((row.task, row.seed), 1.0) for row in found)
            low, high = (100 * end for end in test.interval)
            line += [f"{100 * test.difference:+.1f} [{low:+.1f}, {high:+.1f}]", f"{ahead} of {test.n}",
                     f"{test.p_permutation:.3f}", f"{corrected[name]:.3f}"]
        lines.append((*line, *["–"] * (7 - len(line))))
    columns = ("generator", "consistency", "distinct-2", f"difference from {against}", "seeds ahead", "p", "p (Holm)")
    return Table(f"Label consistency on {', '.join(tasks)}", columns, tuple(lines))


def main() -> None:
    """Read, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=pathlib.Path, nargs="+", help="synthetic.jsonl, or quality.jsonl of sets")
    parser.add_argument("--against", default="L_gen", help="the generator that the others are compared with")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    rows = merge(*(read_rows(path, SyntheticRow) for path in arguments.rows))
    tasks = sorted({row.task for row in rows})
    for part in [*([task] for task in tasks), *([tasks] if len(tasks) > 1 else [])]:
        table = compared(part, rows, arguments.against)
        if arguments.markdown:
            print(to_markdown(table))
        else:
            Console().print(table)


if __name__ == "__main__":
    main()
