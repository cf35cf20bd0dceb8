"""The paper's tables as data, and the rule by which a published cell may stand beside one of ours.

``published.csv`` holds the three tables (main results, ways of combining real and synthetic data, ablation);
every number is an accuracy in per cent, the mean of five seeds with 16 shots a class.

Two kinds of rows are carried but never stand beside ours: the two marked (dagger) are quoted by the paper from
8-shot experiments, and PPT's 410K parameters (100 x 4096) show that it ran on T5-XXL.

References:
  Guo, Du, Li and Miao. Generating Synthetic Datasets for Few-shot Prompt Tuning.
  https://arxiv.org/abs/2410.10865, 2024.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.resources

from dawgen_jax.tasks import SEVEN

__all__ = ["OURS", "ZERO_SHOT", "PublishedRow", "published_average", "published_cell", "published_rows"]

OURS = ("DawGen", "(Real, Syn) + GS")
"""Generator and method that the paper's main table calls 'Ours'."""
ZERO_SHOT = "Prompting (zero-shot)"
"""The one method without shots and seeds."""


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """One printed row.

    Attributes:
      table: 'main', 'combination' or 'ablation'.
      backbone: 'T5-large' or 'Flan-T5-large'.
      generator: 'FewGen', 'DawGen' or empty.
      method: as printed; 'Ours' is DawGen's '(Real, Syn) + GS'.
      trainable_parameters: as printed ('102K').
      accuracy: task -> per cent; tasks that the paper leaves out are missing.
      average: the printed AVG, or None.
    """

    table: str
    backbone: str
    generator: str
    method: str
    trainable_parameters: str
    accuracy: dict[str, float]
    average: float | None


@functools.cache
def published_rows() -> tuple[PublishedRow, ...]:
    """All 47 rows, in the paper's order."""
    text = importlib.resources.files(__package__).joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedRow(line["table"], line["backbone"], line["generator"], line["method"], line["trainable_params"],
                     {task: float(line[task]) for task in SEVEN if line[task] != "-"},
                     None if line["AVG"] == "-" else float(line["AVG"]))
        for line in csv.DictReader(text.splitlines())
    )


@functools.cache
def _row(backbone: str, generator: str, method: str) -> PublishedRow | None:
    names = {method, "Ours"} if (generator, method) == OURS else {method}
    found = (row for row in published_rows() if (row.backbone, row.generator) == (backbone, generator))
    return next((row for row in found if row.method in names), None)


def _why_not(row: PublishedRow | None, *, backbone, generator, method, task, metric, n_test, k_shot, variant) -> str:
    name = f"{generator}: {method}" if generator else method
    if backbone not in {printed.backbone for printed in published_rows()}:
        return f"backbone {backbone} is not in the paper"
    if task not in SEVEN:
        return f"task {task} is not in the paper"
    if metric != "accuracy":
        return f"the paper prints accuracy, not {metric}"
    if variant:
        return f"variant '{variant}' is not in the paper"
    if k_shot != 16 and method != ZERO_SHOT:
        return f"{k_shot} shots: the paper has 16"
    if method.endswith("(dagger)"):
        return f"{name}: the paper quotes it from 8-shot experiments"
    if method == "PPT":
        return f"{name}: the printed row is T5-XXL's (410K parameters)"
    if row is None:
        return f"{name} has no row for {backbone} in the paper"
    if n_test != SEVEN[task].paper_n_test:
        return f"{task}: n_test {n_test}, published on {SEVEN[task].paper_n_test}"
    return "" if task in row.accuracy else f"{name} has no number for {task} in the paper"


def published_cell(*, backbone: str, generator: str, method: str, task: str, metric: str, n_test: int,
                   k_shot: int | str, variant: str) -> tuple[float | None, str]:
    """The published per cent that may stand beside our cell, and the reason where there is none.

    Backbone, generator, method and task must be the paper's, the metric accuracy, ``n_test`` the paper's test
    size, ``k_shot`` 16 (any for zero-shot, which reads no shots) and ``variant`` empty.

    Returns:
      (per cent, '') or (None, reason).

    >>> published_cell(backbone="T5-large", generator="DawGen", method="(Real, Syn) + GS", task="RTE",
    ...                metric="accuracy", n_test=277, k_shot=16, variant="")
    (57.4, '')
    """
    row = _row(backbone, generator, method)
    reason = _why_not(row, backbone=backbone, generator=generator, method=method, task=task, metric=metric,
                      n_test=n_test, k_shot=k_shot, variant=variant)
    return (None, reason) if reason else (row.accuracy[task], "")


def published_average(*, backbone: str, generator: str, method: str) -> float | None:
    """The printed AVG of the row whose cells :func:`published_cell` gives, or None."""
    row = _row(backbone, generator, method)
    return row.average if row else None
