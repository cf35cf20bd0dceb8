"""Tables of synthetic sets, of the appraisal of a set, and of conflicts between real and synthetic gradients."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from dawgen_jax.evaluation.quality import Figure
from dawgen_jax.io.strict_json import is_number
from dawgen_jax.results.arms import arm_names, grouped
from dawgen_jax.results.render import Table
from dawgen_jax.results.rows import Row, SyntheticRow
from dawgen_jax.results.tables import mean_cell, task_order

__all__ = ["MEASURES", "appraisal_table", "conflict_table", "label_sentences", "quality_table"]

MEASURES = {
    "label consistency": "the share of pairs whose true label, computed by the semantics of the mini world, is their "
                         "label; higher is better, and – means that the task has no semantics",
    "distinct-2": "the number of different word pairs over that of all word pairs; a low value means that the set "
                  "repeats itself, and larger sets have lower values",
    "distance from real": "the Jensen-Shannon divergence of the words from those of the real training pool; 0 means "
                          "equal frequencies, 100 no word in common",
    "copies": "the share of pairs whose second sentence has the words of the first; lower is better",
}
"""Explanations of the columns of :func:`quality_table`."""


def quality_table(rows: Iterable[SyntheticRow]) -> Table:
    """The measures of synthetic sets (:mod:`dawgen_jax.evaluation.quality`), by task, writer and generator."""
    rows, lines = sorted(rows, key=lambda row: (task_order(row.task), row.order[1:])), []
    names = arm_names(rows)
    for key, same in grouped(rows, lambda row: (row.task, row.backbone, names[row.arm_key])):
        known = [row.consistency for row in same if row.consistency is not None]
        sizes = sorted({row.n for row in same})
        lines.append((*key, "–".join(map(str, sizes[:1] + sizes[1:][-1:])), mean_cell(known) if known else "–",
                      *(mean_cell([getattr(row, name) for row in same])
                        for name in ("diversity", "distance", "copies"))))
    columns = ("task", "written by", "generator", "n", "label consistency", "distinct-2", "distance from real",
               "copies")
    return Table("Synthetic sets", columns, tuple(lines), (
        "Per cent: mean ± standard deviation (number of sets).",
        "n: samples in a set, from the fewest to the most; distinct-2 and distance compare at equal n only.",), 3)


def label_sentences(rows: Iterable[SyntheticRow]) -> list[str]:
    """How many labels of each generator's sets are right by the semantics of the mini world, in total and by label."""
    sentences = []
    for (task, generator), same in grouped(rows, lambda row: (row.task, row.generator)):
        shares = [row.extras.get("consistency_of", {}) for row in same if row.consistency is not None]
        if not shares:
            continue
        total = statistics.fmean(row.consistency for row in same if row.consistency is not None)
        by_label = ", ".join(f"{label} {100 * statistics.fmean(share[label] for share in shares):.1f}%"
                             for label in shares[0])
        sentences.append(f"Right labels in the sets of {generator} on {task}: {100 * total:.1f}% ({by_label}).")
    return sentences


def conflict_table(rows: Iterable[Row]) -> Table:
    """How often real and synthetic gradients conflict, and their mean cosine, for arms that record them."""
    rows = sorted(rows, key=lambda row: row.order)
    names = arm_names(rows)
    measured = [row for row in rows if row.metric == "accuracy" and all(
        is_number(row.extras.get(name)) for name in ("conflict_rate", "cosine"))]
    groups = grouped(measured, lambda row: (row.task, row.backbone, names[row.arm_key]))
    lines = tuple((*key, mean_cell([row.extras["conflict_rate"] for row in same]),
                   f"{statistics.fmean(row.extras['cosine'] for row in same):+.3f}") for key, same in groups)
    columns = ("task", "backbone", "method", "conflict rate", "cosine")
    return Table("Gradients of the two sources", columns, lines, (
        "Conflict rate in per cent of the updates: mean ± standard deviation (number of seeds).",), 3)


def appraisal_table(title: str, figures: Iterable[Figure], notes: Iterable[str] = ()) -> Table:
    """The figures of a synthetic set with their verdicts; warnings are marked '!'.

    Args:
      title: title of the table.
      figures: from :mod:`dawgen_jax.evaluation.quality`.
      notes: sentences under the table.
    """
    def cell(value: float | None, unit: str) -> str:
        if value is None:
            return "–"
        return f"{100 * value:.1f} %" if unit == "%" else f"{value:.3g} {unit}".rstrip()

    lines = tuple(("!" if figure.warning else "", figure.name, figure.verdict, cell(figure.value, figure.unit),
                   cell(figure.real, figure.unit)) for figure in figures)
    return Table(title, ("", "figure", "verdict", "this set", "real, or\nchance"), lines, tuple(notes), 3)
