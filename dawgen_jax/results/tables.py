"""The paper's three tables from our rows, with the published numbers next to ours if the two are comparable.

There are three tables per classifier backbone: main results, ways of combining real and synthetic data, and the
ablation. Each line is an arm that was run, in the paper's order, followed by arms that the paper does not have (LoRA,
other variants, shots and generators). Each column is a task, and a cell reads, in per cent,

    mean ± deviation (seeds)        the sample deviation s (n - 1)
    paper p
    difference, within 2 SE         mean - p, and whether |mean - p| <= 2 s / sqrt(n); no SE for a single seed

The last two lines need a p from :func:`~dawgen_jax.results.published.published_cell`; a note states why a number is
missing. AVG is the mean over the tasks of the table, for arms that were run on all of them; its deviation is the
deviation of the seeds' averages.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from dawgen_jax.io.strict_json import is_number
from dawgen_jax.results.arms import arm_names
from dawgen_jax.results.published import OURS, TABLES, ZERO_SHOT, published_cell, published_row
from dawgen_jax.results.render import Table
from dawgen_jax.results.rows import Row, merge
from dawgen_jax.tasks import SEVEN

__all__ = ["mean_cell", "published_value", "result_tables", "task_order"]

_TITLES = {"main": "main results", "combination": "combining real and synthetic data", "ablation": "ablation"}

Line = dict[str, list[Row]]
"""The rows of an arm by task, sorted by seed."""


def task_order(name: str) -> tuple[int, str]:
    """Sort key of tasks: the paper's seven in its order, then the others by name."""
    return (list(SEVEN).index(name) if name in SEVEN else len(SEVEN), name)


def mean_cell(values: Sequence[float]) -> str:
    """Format numbers in [0, 1] as 'mean ± deviation (number)' in per cent.

    >>> mean_cell([0.5, 0.7])
    '60.00 ± 14.14 (2)'
    """
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{deviation} ({len(values)})"


def _compared(values: Sequence[float], printed: float) -> str:
    difference = 100 * statistics.fmean(values) - printed
    if len(values) < 2:
        verdict = "one seed"
    else:
        error = 100 * statistics.stdev(values) / math.sqrt(len(values))
        verdict = ("within" if abs(difference) <= 2 * error else "beyond") + " 2 SE"
    return f"\npaper {printed:.2f}\n{difference:+.2f}, {verdict}"


def published_value(rows: Sequence[Row]) -> tuple[float | None, str]:
    """The published per cent for the rows of one arm and task (all seeds), or None and the reason."""
    first, sizes = rows[0], {row.n_test for row in rows}
    if len(sizes) > 1:
        return None, f"{first.task}: n_test differs between seeds ({', '.join(map(str, sorted(sizes)))})"
    return published_cell(backbone=first.backbone, generator=first.generator, method=first.method, task=first.task,
                          metric=first.metric, n_test=first.n_test, k_shot=first.k_shot, variant=first.variant,
                          settings=first.settings, generator_backbone=first.generator_backbone)


def _position(table: str, row: Row) -> tuple | None:
    """Sort key of a row's arm in a table, or None if the table does not have it."""
    arm = (row.generator, row.method)
    ours = row.variant or (row.k_shot != 16 and row.method != ZERO_SHOT)
    if arm in TABLES[table]:
        return (bool(ours), TABLES[table].index(arm), row.order[2:])
    elsewhere = any(arm in arms for arms in TABLES.values())
    return (True, len(TABLES[table]), row.order[2:]) if table == "main" and not elsewhere else None


def _arm_lines(rows: Iterable[Row], table: str) -> list[Line]:
    """The lines of a table, in order.

    Args:
      rows: of one backbone and metric.
      table: 'main', 'combination' or 'ablation'.
    """
    placed = [(position, row) for row in rows if (position := _position(table, row)) is not None]
    lines: dict[tuple, Line] = {}
    for _, row in sorted(placed, key=lambda pair: pair[0]):
        lines.setdefault(row.arm_key, {}).setdefault(row.task, []).append(row)
    return list(lines.values())


def result_tables(rows: Iterable[Row], metric: str = "accuracy") -> list[Table]:
    """The three tables of every classifier backbone, without those that have no lines beyond an earlier table.

    Args:
      rows: rows of any number of runs; the last of several rows with the same key is used.
      metric: 'accuracy' or 'f1'.
    """
    rows = [row for row in merge(rows) if row.metric == metric]
    names = arm_names(rows)
    made = []
    for backbone in sorted({row.backbone for row in rows}):
        same = [row for row in rows if row.backbone == backbone]
        tasks = sorted({row.task for row in same}, key=task_order)
        shown: set[tuple] = set()
        for table in TABLES:
            lines = _arm_lines(same, table)
            arms = {next(iter(line.values()))[0].arm_key for line in lines}
            if not arms <= shown:
                made.append(_table(f"{backbone}: {_TITLES[table]}, {metric}", lines, tasks, names))
            shown |= arms
    return made


def _average(line: Line, tasks: Sequence[str], matched: bool) -> str:
    if set(line) != set(tasks):
        return "–"
    by_seed = [{row.seed: row.value for row in line[task]} for task in tasks]
    if len({frozenset(values) for values in by_seed}) > 1:  # seeds differ between tasks: a mean without deviation
        return f"{100 * statistics.fmean(statistics.fmean(values.values()) for values in by_seed):.2f}"
    averages = [statistics.fmean(values[seed] for values in by_seed) for seed in by_seed[0]]
    first = line[tasks[0]][0]
    row = published_row(first.backbone, first.generator, first.method) if matched else None
    shown = row and row.average is not None and set(tasks) == set(SEVEN)
    return mean_cell(averages) + (_compared(averages, row.average) if shown else "")


def _table(title: str, lines: Sequence[Line], tasks: Sequence[str], names: Mapping[tuple, str]) -> Table:
    cells, reasons, remarks, average = [], {}, [], ("AVG",) if len(tasks) > 1 else ()
    for line in lines:
        first = next(iter(line.values()))[0]
        shown, matched = [names[first.arm_key]], 0
        for task in tasks:
            if task not in line:
                shown.append("–")
                continue
            values, (printed, reason) = [row.value for row in line[task]], published_value(line[task])
            shown.append(mean_cell(values) + ("" if printed is None else _compared(values, printed)))
            matched += printed is not None
            if printed is None:
                reasons[reason] = None
        if average:
            shown.append(_average(line, tasks, matched == len(tasks)))
        if matched:
            row = published_row(first.backbone, first.generator, first.method)
            remarks.append(f"Published {row.method}: {row.note}." if row.note else "")
        cells.append(tuple(shown))
    notes = ["Per cent: mean ± standard deviation (number of seeds)."]
    if remarks:
        notes.append("Under it the published number, our difference from it, and whether that lies within two standard "
                     "errors of our mean.")
    if any((row.generator, row.method) == OURS for line in lines for group in line.values() for row in group):
        notes.append(f"'{OURS[0]}: {OURS[1]}' is what the paper calls 'Ours'.")
    notes += [f"No published cell: {reason}." for reason in reasons]
    notes += [*filter(None, remarks), *_polarity(lines, names)]
    return Table(title, ("method", *tasks, *average), tuple(cells), tuple(notes))


def _polarity(lines: Sequence[Line], names: Mapping[tuple, str]) -> list[str]:
    """Scores of RTE as usual and with exchanged label words, for rows that record both."""
    shown = []
    for line in lines:
        rows = [row for row in line.get("RTE", ()) if row.metric == "accuracy"
                and is_number(row.extras.get("accuracy_words_exchanged"))]
        if rows:
            means = (100 * statistics.fmean(values) for values in (
                [row.value for row in rows], [row.extras["accuracy_words_exchanged"] for row in rows]))
            shown.append(f"{names[rows[0].arm_key]} {' / '.join(f'{mean:.2f}' for mean in means)}")
    return [f"RTE with the original / exchanged label words: {'; '.join(shown)}."] if shown else []
