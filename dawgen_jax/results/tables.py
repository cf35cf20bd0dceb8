"""Tables of results, mean and deviation over seeds, with the published number beside ours where it may stand.

One table a backbone and metric; rows are arms in the paper's order, columns are tasks. A cell reads
``mean ± deviation (seeds)`` in per cent, the deviation being that of the sample (n - 1); under it ``paper`` and the
published number where backbone, task, metric, n_test, 16 shots and variant '' agree. Where none does, a sentence
under the table says why.

A :class:`Table` is plain text; every writer escapes it for its own markup.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Iterable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table as RichTable

from dawgen_jax.results.published import OURS, ZERO_SHOT, published_average, published_cell
from dawgen_jax.results.rows import Row, SyntheticRow, merge
from dawgen_jax.tasks import SEVEN

__all__ = ["Table", "conflict_table", "quality_table", "result_tables", "to_markdown", "to_rich"]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of plain text: cells may hold line breaks.

    Attributes:
      title: one line.
      columns: headings.
      rows: as many cells each.
      notes: sentences that stand under it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def _task_order(name: str) -> tuple[int, str]:
    return (list(SEVEN).index(name) if name in SEVEN else len(SEVEN), name)


def _mean(values: Sequence[float]) -> str:
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{deviation} ({len(values)})"


def _published(rows: Sequence[Row]) -> tuple[float | None, str]:
    """The published per cent for the rows of one cell (all seeds), or None and why."""
    first, sizes = rows[0], {row.n_test for row in rows}
    if len(sizes) > 1:
        return None, f"{first.task}: n_test differs between seeds ({', '.join(map(str, sorted(sizes)))})"
    return published_cell(backbone=first.backbone, generator=first.generator, method=first.method, task=first.task,
                          metric=first.metric, n_test=first.n_test, k_shot=first.k_shot, variant=first.variant)


def _arm(row: Row) -> tuple[str, str, str]:
    """The three headings of a line: method, generator (and its backbone where it is another one), shots."""
    ours = "Ours = " if (row.generator, row.method) == OURS else ""
    writer = f" by {row.generator_backbone}" if row.generator_backbone not in ("", row.backbone) else ""
    shots = "–" if row.method == ZERO_SHOT else str(row.k_shot)
    return ours + row.method + (f" #{row.variant}" if row.variant else ""), (row.generator + writer) or "–", shots


def result_tables(rows: Iterable[Row], metric: str = "accuracy") -> list[Table]:
    """A table for each classifier backbone.

    Args:
      rows: of any number of runs, one a key (``rows.merge``).
      metric: 'accuracy' or 'f1'.
    """
    rows = [row for row in merge(rows) if row.metric == metric]
    return [_backbone_table(backbone, metric, [row for row in rows if row.backbone == backbone])
            for backbone in sorted({row.backbone for row in rows})]


def _backbone_table(backbone: str, metric: str, rows: Sequence[Row]) -> Table:
    tasks = sorted({row.task for row in rows}, key=_task_order)
    arms: dict[tuple, dict[str, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: row.order[2:]):  # the same order of arms, whatever the task
        arms.setdefault(row.key[2:7], {}).setdefault(row.task, []).append(row)
    average = ("AVG",) if len(tasks) > 1 else ()
    lines, reasons = [], {}
    for cells in arms.values():
        first = next(iter(cells.values()))[0]
        line, matched = [*_arm(first)], 0
        for task in tasks:
            if task not in cells:
                line.append("–")
                continue
            number, reason = _published(cells[task])
            line.append(_mean([row.value for row in cells[task]]))
            if number is None:
                reasons[reason] = None
            else:
                matched += 1
                line[-1] += f"\npaper {number:.2f}"
        if average:
            whole = len(cells) == len(tasks)
            means = [statistics.fmean(row.value for row in cells[task]) for task in cells]
            line.append(f"{100 * statistics.fmean(means):.2f}" if whole else "–")
            if matched == len(tasks) == len(SEVEN):
                printed = published_average(backbone=backbone, generator=first.generator, method=first.method)
                line[-1] += f"\npaper {printed:.2f}"
        lines.append(tuple(line))
    notes = ["Per cent: mean ± standard deviation (number of seeds)."]
    notes += [f"No published cell: {reason}." for reason in reasons]
    columns = ("method", "generator", "shots", *tasks, *average)
    if any("paper" in line[columns.index("RTE")] for line in lines if "RTE" in tasks):
        notes.append("The published RTE column is no target: some of its rows look as if scored with swapped labels.")
    return Table(f"{backbone}: {metric}", columns, tuple(lines), tuple(notes))


def quality_table(rows: Iterable[SyntheticRow]) -> Table:
    """The measures of synthetic sets (:mod:`dawgen_jax.evaluation.quality`), one line a task, writer and generator."""
    groups: dict[tuple[str, str, str], list[SyntheticRow]] = {}
    for row in sorted(rows, key=lambda row: (_task_order(row.task), row.backbone, row.generator != "FewGen", row.seed)):
        groups.setdefault((row.task, row.backbone, row.generator), []).append(row)
    lines = []
    for key, same in groups.items():
        told = [row.consistency for row in same if row.consistency is not None]
        sizes = sorted({row.n for row in same})
        lines.append((*key, "–".join(map(str, sizes[:1] + sizes[1:][-1:])), _mean(told) if told else "–",
                      *(_mean([getattr(row, name) for row in same]) for name in ("diversity", "distance", "copies"))))
    columns = ("task", "written by", "generator", "n", "label consistency", "distinct-2", "distance from real",
               "copies")
    return Table("Synthetic sets", columns, tuple(lines), (
        "Hundredths: mean ± standard deviation (number of sets).",
        "n: samples in a set, from the fewest to the most; distinct-2 and distance compare at equal n only.",))


def conflict_table(rows: Iterable[Row]) -> Table:
    """How often real and synthetic gradients conflict, and their mean cosine, of arms that record them."""
    groups: dict[tuple, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.order):
        if row.metric == "accuracy" and {"conflict_rate", "cosine"} <= row.extras.keys():
            groups.setdefault((row.task, row.backbone, *_arm(row)), []).append(row)
    lines = tuple((*key, _mean([row.extras["conflict_rate"] for row in same]),
                   f"{statistics.fmean(row.extras['cosine'] for row in same):+.3f}") for key, same in groups.items())
    columns = ("task", "backbone", "method", "generator", "shots", "conflict rate", "cosine")
    return Table("Gradients of the two sources", columns, lines, (
        "Conflict rate in per cent of the updates: mean ± standard deviation (number of seeds).",))


def to_rich(table: Table) -> RichTable:
    """The table for the terminal, its notes as a caption."""
    rich = RichTable(title=escape(table.title), caption=escape("\n".join(table.notes)), caption_justify="left",
                     title_justify="left", box=box.SIMPLE_HEAD)
    for position, column in enumerate(table.columns):
        rich.add_column(escape(column), justify="left" if position < 2 else "right")
    for row in table.rows:
        rich.add_row(*(escape(cell) for cell in row))
    return rich


def _plain_markdown(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text).replace("\n", "<br>")


def to_markdown(table: Table) -> str:
    """The table as Markdown, its title as a bold line, its notes as a list."""
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    rule = ["---" if position < 2 else "---:" for position in range(len(table.columns))]
    body = [line(map(_plain_markdown, row)) for row in table.rows]
    notes = [f"- {_plain_markdown(note)}" for note in table.notes]
    return "\n".join([f"**{_plain_markdown(table.title)}**", "", line(map(_plain_markdown, table.columns)), line(rule),
                      *body, "", *notes, ""])
