"""The sets of several generators, compared with those of one of them: label consistency, or accuracy of prompts.

    python -m benchmarks.generator_sets results/generators/synthetic.jsonl [--against L_gen] [--markdown]
    python -m benchmarks.generator_sets runs/mini_generators/synthetic/*/quality.jsonl
    python -m benchmarks.generator_sets results/generators/results.jsonl --figure accuracy

A table per task, and one of the generators that ran on all tasks, over all of them: mean of the figure with the
deviation, the mean paired difference from ``--against`` with a 95% interval, on how many pairs (of task and seed) a
generator is ahead, and p of the permutation of signs, also with Holm's correction for the lines of the table
(:mod:`dawgen_jax.results.paired`). The figures are 'consistency', the share of right labels in rows of sets, and, in
rows of prompts tuned on the sets alone, the 'accuracy' of the prompt that dev selects and that of the 'last' one.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import statistics

from rich.console import Console

from dawgen_jax.results.paired import holm, paired_test
from dawgen_jax.results.render import Table, to_markdown
from dawgen_jax.results.rows import AnyRow, Row, SyntheticRow, merge, read_rows


def compared(tasks: list[str], rows: list[AnyRow], figure: str, against: str) -> Table:
    """The table of some tasks, with the generators that have sets for all of them."""
    field, sets = "consistency" if figure == "consistency" else "value", {}
    for row in rows:
        if row.task in tasks:
            sets.setdefault(row.generator, []).append(row)
    sets = {name: found for name, found in sets.items() if {row.task for row in found} == {*tasks}}
    tests = {name: paired_test(found, sets[against], field) for name, found in sets.items() if name != against}
    corrected = dict(zip(tests, holm([test.p_permutation for test in tests.values()]), strict=True))
    lines = []
    for name, found in sorted(sets.items(), key=lambda item: -statistics.fmean(getattr(row, field) for row in item[1])):
        values = [100 * getattr(row, field) for row in found]
        line = [name, f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f} ({len(values)})"]
        if test := tests.get(name):
            other = {(row.task, row.seed): getattr(row, field) for row in sets[against]}
            ahead = sum(getattr(row, field) > other.get((row.task, row.seed), 1.0) for row in found)
            low, high = (100 * end for end in test.interval)
            line += [f"{100 * test.difference:+.1f} [{low:+.1f}, {high:+.1f}]", f"{ahead} of {test.n}",
                     f"{test.p_permutation:.3f}", f"{corrected[name]:.3f}"]
        lines.append((*line, *["–"] * (6 - len(line))))
    columns = ("generator", figure, f"difference from {against}", "seeds ahead", "p", "p (Holm)")
    return Table(f"{figure.capitalize()} on {', '.join(tasks)}", columns, tuple(lines))


def main() -> None:
    """Read, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=pathlib.Path, nargs="+", help="rows of sets or of prompts")
    parser.add_argument("--figure", choices=("consistency", "accuracy", "last"), default="consistency")
    parser.add_argument("--against", default="L_gen", help="the generator that the others are compared with")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    if arguments.figure == "consistency":
        rows = merge(*(read_rows(path, SyntheticRow) for path in arguments.rows))
    else:
        rows = [row for row in merge(*(read_rows(path, Row) for path in arguments.rows)) if row.metric == "accuracy"]
    if arguments.figure == "last":
        rows = [dataclasses.replace(row, value=row.extras["last_accuracy"]) for row in rows]
    tasks = sorted({row.task for row in rows})
    for part in [*([task] for task in tasks), *([tasks] if len(tasks) > 1 else [])]:
        table = compared(part, rows, arguments.figure, arguments.against)
        if arguments.markdown:
            print(to_markdown(table))
        else:
            Console().print(table)


if __name__ == "__main__":
    main()
