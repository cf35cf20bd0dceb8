"""The paper's tables as data, and the rule by which a published cell may be shown next to ours.

``published.csv`` holds the three tables (main results, ways of combining real and synthetic data, ablation);
every number is an accuracy in per cent, the mean of five seeds with 16 shots per class. The column ``not_comparable``
states why a row is never shown next to ours; ``note`` states anomalies of its numbers.

The default of a field in :class:`dawgen_jax.config.Config` is the paper's value: a published number is never shown next
to a row with another value or with unknown settings.

References:
  Guo, Du, Li and Miao. Generating Synthetic Datasets for Few-shot Prompt Tuning.
  https://arxiv.org/abs/2410.10865, 2024.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

from dawgen_jax.config import PAPER, ClassifierConfig, Config, fields_of
from dawgen_jax.methods.arms import GENERATORS
from dawgen_jax.methods.rows import METHODS as _ALL
from dawgen_jax.tasks import SEVEN

__all__ = ["GENERATORS", "METHODS", "OURS", "TABLES", "ZERO_SHOT", "PublishedRow", "departures", "published_cell",
           "published_row", "published_rows", "show_settings"]

OURS = ("DawGen", "(Real, Syn) + GS")
"""Generator and method named 'Ours' in the paper's main table."""
ZERO_SHOT = "Prompting (zero-shot)"
"""The only method without shots and seeds."""
_BASELINES = (ZERO_SHOT, "In-Context", "FT", "Prompt-based FT", "PFT + soft prompt", "PPT", "Prompt Tuning")
_DAGGERS = ("SPoT", "OPTIMA")
_COMBINATIONS = ("Real+Syn", "Real+Syn+LS", "Real -> Syn", "Syn -> Real", "(Real, Syn)")
_ABLATION = ("Syn only", "(Real, Syn)", "(Real, Syn) + GS")
METHODS = tuple(dict.fromkeys(method.name for method in _ALL.values()))
"""Names of methods in the order of the tables, followed by methods that the paper does not have."""
TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "main": (*(("", method) for method in _BASELINES), OURS, *(("", method) for method in _DAGGERS)),
    "combination": tuple((generator, method) for generator in ("FewGen", "DawGen") for method in _COMBINATIONS),
    "ablation": tuple((generator, method) for generator in ("FewGen", "DawGen") for method in _ABLATION),
}
"""The (generator, method) of each published table, in the paper's order. DawGen's Real+Syn+LS is not printed."""


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """One printed row.

    Attributes:
      table: 'main', 'combination' or 'ablation'.
      backbone: 'T5-large' or 'Flan-T5-large'.
      generator: 'FewGen', 'DawGen' or empty.
      method: as printed; 'Ours' is DawGen's '(Real, Syn) + GS'.
      trainable_parameters: as printed ('102K').
      accuracy: task -> per cent; omitted for tasks without a number.
      average: the printed AVG, or None.
      not_comparable: why the row is never shown next to ours; empty if it may be.
      note: anomalies of the printed numbers; may be empty.
    """

    table: str
    backbone: str
    generator: str
    method: str
    trainable_parameters: str
    accuracy: dict[str, float]
    average: float | None
    not_comparable: str = ""
    note: str = ""


@functools.cache
def published_rows() -> tuple[PublishedRow, ...]:
    """All 47 rows, in the paper's order."""
    text = importlib.resources.files(__package__).joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedRow(line["table"], line["backbone"], line["generator"], line["method"], line["trainable_params"],
                     {task: float(line[task]) for task in SEVEN if line[task] != "-"},
                     None if line["AVG"] == "-" else float(line["AVG"]), line["not_comparable"], line["note"])
        for line in csv.DictReader(text.splitlines())
    )


@functools.cache
def published_row(backbone: str, generator: str, method: str) -> PublishedRow | None:
    """The row from which :func:`published_cell` reads, or None."""
    names = {method, "Ours"} if (generator, method) == OURS else {method, f"{method} (dagger)"}
    found = (row for row in published_rows() if (row.backbone, row.generator) == (backbone, generator))
    return next((row for row in found if row.method in names), None)


_NOT_THE_PAPERS = ("classifier.backbone.dtype", "generator.backbone.dtype", "classifier.backbone.digest",
                   "generator.backbone.digest", "data.corpus", "data.kshot", "data.released", "data.max_test",
                   "transfer.documents", "generator.revision", "synthesis.revision", "transfer.revision",
                   "classifier.revision")


@functools.cache
def _defaults() -> dict[str, Any]:
    """The default of every config field by dotted name, as a JSON value."""
    return json.loads(json.dumps(fields_of(Config(classifier=ClassifierConfig(**PAPER)))))


def departures(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from the paper's, which are the defaults of their config fields for T5.

    Dtypes, which the paper does not state, digests of files, revisions of the code, and the number of test pairs, which
    is compared separately, are ignored.

    >>> departures({"classifier.learning_rate": 0.2, "classifier.weight_decay": 1e-5})
    {'classifier.learning_rate': 0.2}
    """
    return {field: value for field, value in settings.items() if field not in _NOT_THE_PAPERS
            and (field not in _defaults() or value != _defaults()[field])}


def show_settings(settings: Mapping[str, Any]) -> str:
    """Settings in compact form, sorted by field.

    >>> show_settings({"classifier.learning_rate": 0.2, "classifier.factored": False})
    'classifier.factored=false, classifier.learning_rate=0.2'
    """
    return ", ".join(f"{field}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
                     for field, value in sorted(settings.items()))


def published_cell(*, backbone: str, generator: str, method: str, task: str, metric: str, n_test: int,
                   k_shot: int | str, variant: str, settings: Mapping[str, Any], generator_backbone: str = ""
                   ) -> tuple[float | None, str]:
    """The published per cent that may be shown next to our cell, or the reason for showing none.

    Backbone, generator, method and task must be the paper's, the metric accuracy, ``n_test`` the paper's test size,
    ``k_shot`` 16 (any for zero-shot, which reads no shots), ``variant`` empty, and ``settings`` known and equal to the
    defaults of their config fields. ``generator_backbone``, which wrote the synthetic data, must be unknown or one of
    the paper's backbones (the paper does not say which one wrote its data).

    Returns:
      (per cent, '') or (None, reason).

    >>> published_cell(backbone="T5-large", generator="DawGen", method="(Real, Syn) + GS", task="RTE",
    ...                metric="accuracy", n_test=277, k_shot=16, variant="", settings={"classifier.epsilon": 1.0})
    (57.4, '')
    """
    row, backbones = published_row(backbone, generator, method), {row.backbone for row in published_rows()}
    name, different = f"{generator}: {method}" if generator else method, departures(settings)
    if backbone not in backbones:
        reason = f"backbone {backbone} is not in the paper"
    elif task not in SEVEN:
        reason = f"task {task} is not in the paper"
    elif metric != "accuracy":
        reason = f"the paper prints accuracy, not {metric}"
    elif variant:
        reason = f"variant '{variant}' is not in the paper"
    elif k_shot != 16 and method != ZERO_SHOT:
        reason = f"{k_shot} shots: the paper has 16"
    elif row is None:
        reason = f"{name} has no row for {backbone} in the paper"
    elif row.not_comparable:
        reason = f"{name}: {row.not_comparable}"
    elif n_test != SEVEN[task].paper_n_test:
        reason = f"{task}: n_test {n_test}, published on {SEVEN[task].paper_n_test}"
    elif task not in row.accuracy:
        reason = f"{name} has no number for {task} in the paper"
    elif generator_backbone and generator_backbone not in backbones:
        reason = f"synthetic data by {generator_backbone}, which is not in the paper"
    elif not settings:
        reason = "settings unknown"
    elif different:
        reason = f"settings that are not the paper's: {show_settings(different)}"
    else:
        return row.accuracy[task], ""
    return None, reason
