"""The results section: a plot of every seed, tables, explanations of names, tests, and mistakes of arms."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dawgen_jax.results.arms import arm_names, explanations, grouped
from dawgen_jax.results.claims import claims
from dawgen_jax.results.measures import conflict_table
from dawgen_jax.results.plots import Image, dots, panels
from dawgen_jax.results.render import Table
from dawgen_jax.results.report.reading import Cell, read_mistakes
from dawgen_jax.results.rows import Row, SyntheticRow
from dawgen_jax.results.tables import result_tables
from dawgen_jax.results.verdict import METRIC_NAMES, levels

__all__ = ["Example", "Mistakes", "Plot", "Results", "mistakes", "results"]

_MISTAKES = 6


class Plot(NamedTuple):
    """A dot plot, and the values of its vertical lines by name."""

    title: str
    image: Image
    levels: Mapping[str, float]


class Results(NamedTuple):
    """Plots, tables, explanations of names, and (title, tables) in folded sections."""

    plots: list[Plot]
    tables: list[Table]
    terms: Mapping[str, str]
    folded: list[tuple[str, list[Table]]]


class Example(NamedTuple):
    """An example: its number and sentences, and (kind, text) of its tags."""

    number: int
    sentences: Sequence[str]
    tags: Sequence[tuple[str, str]]


class Mistakes(NamedTuple):
    """Mistakes of an arm over its seeds.

    Attributes:
      arm: name.
      wrong, total: numbers of test examples.
      best: whether the arm has the best mean.
      labels: classes.
      matrix: confusion counts [true, predicted].
      examples: some misclassified examples.
    """

    arm: str
    wrong: int
    total: int
    best: bool
    labels: Sequence[str]
    matrix: np.ndarray
    examples: list[Example]


def results(rows: Sequence[Row], synthetic: Sequence[SyntheticRow], metric: str) -> Results | None:
    """The results section for the rows of a run; None without rows."""
    if not rows:
        return None
    shown = [row for row in rows if row.metric == metric]
    held = {(backbone, task): {name: value for name, value in levels(
        [row for row in shown if row.backbone == backbone], [task], metric).items() if not name.endswith(
            "zero-shot prompting")}
        for backbone, task in dict.fromkeys((row.backbone, row.task) for row in shown)}
    plots = [Plot(panel.title, dots(panel, f"{METRIC_NAMES[metric]} of every seed: {panel.title}"), panel.levels)
             for panel in panels(shown, held)]
    other, conflicts = "f1" if metric == "accuracy" else "accuracy", conflict_table(rows)
    folded = (("F1" if other == "f1" else "Accuracy", result_tables(rows, other)),
              ("Tests of the paper's claims", claims(rows, synthetic)),
              ("Conflicts of real and synthetic gradients", [conflicts] if conflicts.rows else []))
    return Results(plots, result_tables(rows, metric), explanations(shown),
                   [(title, tables) for title, tables in folded if tables])


def _examples(examples: Sequence[Mapping[str, Any]]) -> list[Example]:
    """A few examples, starting with one of each kind of mistake."""
    kinds = [same for _, same in grouped(examples, lambda one: (one.get("label"), one.get("predicted")))]
    mixed = list(filter(None, itertools.chain.from_iterable(itertools.zip_longest(*kinds))))[:_MISTAKES]
    return [Example(number, [text for name, text in one.items() if text and name not in ("label", "predicted")],
                    [("", f"true: {one.get('label')}"), ("bad", f"predicted: {one.get('predicted')}")])
            for number, one in enumerate(mixed, 1)]


def mistakes(cells: Sequence[Cell], rows: Sequence[Row]) -> list[tuple[str, list[Mistakes]]]:
    """(task and backbone, mistakes of each arm)."""
    names, found = arm_names(rows), []
    for (task, backbone), group in grouped(cells, lambda cell: (cell[0].task, cell[0].backbone)):
        arms, shown = grouped(group, lambda cell: names.get(cell[0].arm_key, cell[0].arm)), []
        best = max(statistics.fmean(row.value for row, _ in same) for _, same in arms)
        for arm, same in arms:
            read = list(filter(None, (read_mistakes(folder / "wrong_examples.json") for _, folder in same)))
            read = [one for one in read if one.labels == read[0].labels]
            if read:
                counts = np.sum([one.confusion for one in read], axis=0)
                shown.append(Mistakes(
                    arm, int(counts.sum() - np.trace(counts)), int(counts.sum()),
                    statistics.fmean(row.value for row, _ in same) == best, read[0].labels, counts,
                    _examples(read[0].examples)))
        if shown:
            found.append((f"{task}, {backbone}", shown))
    return found
