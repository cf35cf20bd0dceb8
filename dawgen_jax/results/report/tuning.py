"""Curves of generator and prompt tuning, and token weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dawgen_jax.backbones.tokens import MARK
from dawgen_jax.io.metrics_log import read_metrics
from dawgen_jax.io.strict_json import is_number
from dawgen_jax.results import plots
from dawgen_jax.results.arms import arm_names, grouped
from dawgen_jax.results.plots import Image
from dawgen_jax.results.report.reading import Artefact, Cell, WeightedSentence, names_of, read_token_weights
from dawgen_jax.results.rows import Row

__all__ = ["Curves", "Entry", "Weights", "generator_curves", "prompt_curves", "token_weights"]

_Lines = Mapping[str, str]  # field of metrics.jsonl -> line style
GENERATOR_CURVES: tuple[tuple[str, _Lines], ...] = (
    ("loss", {"loss": "-"}),
    ("L_disc: discriminative loss", {"loss_disc": "-"}),
    ("L_dist: sentence-level hinge", {"loss_dist": "-"}),
    ("L_wGen: weighted negative log-likelihood", {"loss_wgen": "-"}),
    ("negative log-likelihood per token on dev", {"dev_nll": "-"}),
    ("share of active L_dist terms", {"dist_active": "-"}),
    ("entropy of the token weights", {"weight_entropy": "-"}),
    ("gradient norm of the prompts", {"grad_norm": "-"}),
    ("gradient norm of the weight net", {"meta_grad_norm": "-"}),
    ("norm of the prompts", {"prompt_norm": "-"}),
)
CELL_CURVES: tuple[tuple[str, _Lines], ...] = (
    ("accuracy on dev", {"dev_accuracy": "-"}),
    ("training loss: real solid, synthetic dashed", {
        "loss_real": "-", "loss_synthetic": "--", "loss_real+synthetic": "-", "loss_synthetic+real": "-"}),
    ("share of updates in which the two gradients conflict", {"conflict": "-", "conflict_rate": "-"}),
    ("cosine of the real and the synthetic gradient", {"cosine": "-"}),
    ("share of the synthetic gradient that is projected away", {"projected_share": "-"}),
    ("gradient norm: real solid, synthetic dashed", {
        "grad_norm_real": "-", "grad_norm_synthetic": "--", "grad_norm": "-"}),
    ("norm of the update", {"update_norm": "-"}),
    ("norm of the trained parameters", {"param_norm": "-"}),
    ("distance of the trained parameters from their start", {"distance": "-"}),
)
_OPEN = 3
_TOGETHER = 8
_SHADED = 2


class Entry(NamedTuple):
    """A legend entry; ``ends`` is the last update of a series that ends before the longest one, else 0."""

    name: str
    colour: str
    runs: int
    ends: int


class Curves(NamedTuple):
    """The panels of a task: a legend, open panels and folded ones, each with its caption."""

    title: str
    legend: list[Entry]
    open: list[tuple[str, Image]]
    folded: list[tuple[str, Image]]


class Weights(NamedTuple):
    """A generated sentence: label, first sentence, and (text, weight, share of the greatest weight) of its tokens."""

    label: str
    first: str
    tokens: list[tuple[str, float, float]]


def _curves(title: str, series: Mapping[str, Sequence[Sequence[dict]]], known: Sequence[tuple[str, _Lines]]) -> Curves:
    """A panel for each known figure that occurs; a series is a legend entry with the metrics of its runs."""
    last = {name: max(line["step"] for run in runs for line in run) for name, runs in series.items()}
    longest = max(last.values(), default=0)
    ends = [position for position, name in enumerate(series) if last[name] < longest]
    drawn = []
    for caption, fields in known:
        lines = {position: [(style, kept) for field, style in fields.items() if (kept := _runs(runs, field))]
                 for position, runs in enumerate(series.values())}
        lines = {position: found for position, found in lines.items() if found}
        if lines:
            drawn.append((caption, plots.curves(lines, f"{title}: {caption}", ends)))
    legend = [Entry(name, plots.PALETTE[position % len(plots.PALETTE)], len(runs), last[name] * (position in ends))
              for position, (name, runs) in enumerate(series.items())]
    return Curves(title, legend, drawn[:_OPEN], drawn[_OPEN:])


def _runs(runs: Sequence[Sequence[dict]], field: str) -> list[plots.Curve]:
    """Steps and values of the runs that recorded a field."""
    kept = [[line for line in run if isinstance(line.get(field), bool) or is_number(line.get(field))] for run in runs]
    return [([line["step"] for line in run], [line[field] for line in run]) for run in kept if run]


def prompt_curves(cells: Sequence[Cell], rows: Sequence[Row]) -> list[Curves]:
    """Curves of cells with training; if a task has many arms, they are split by the generator of their data."""
    names, found = arm_names(rows), []
    for (task, backbone), group in grouped(cells, lambda cell: (cell[0].task, cell[0].backbone)):
        arms: dict[tuple[str, str], list] = {}
        for row, folder in group:
            if lines := read_metrics(folder / "metrics.jsonl"):
                arms.setdefault((row.generator, names.get(row.arm_key, row.arm)), []).append(lines)
        parts = grouped(arms.items(), lambda arm: arm[0][0]) if len(arms) > _TOGETHER else [(None, [*arms.items()])]
        for writer, shown in parts:
            what = "" if writer is None else f", synthetic data by {writer}" if writer else ", without synthetic data"
            if shown:
                found.append(_curves(f"{task}, {backbone}{what}", {name: runs for (_, name), runs in shown},
                                     CELL_CURVES))
    return found


def generator_curves(generators: Sequence[Artefact]) -> list[Curves]:
    """Curves of the generators that wrote the sets."""
    found, name_of = [], names_of(generators)
    for task, group in grouped(generators, lambda made: made[0].task):
        series = {name: list(filter(None, (read_metrics(folder / "metrics.jsonl") for _, folder in same)))
                  for name, same in grouped(group, name_of)}
        if series := {name: runs for name, runs in series.items() if runs}:
            found.append(_curves(task, series, GENERATOR_CURVES))
    return found


def _weights(example: WeightedSentence, heaviest: float) -> Weights:
    """:data:`MARK` starts a word; an empty token is shown as a separate space."""
    tokens = [((" " if token.startswith(MARK) else "") + (token.removeprefix(MARK) or "\N{NO-BREAK SPACE}"), weight,
               min(1.0, max(0.0, weight) / heaviest))
              for token, weight in zip(example.tokens, example.weights, strict=True)]
    return Weights(example.label, example.sentence1, tokens)


def token_weights(generators: Sequence[Artefact]) -> tuple[float, list[tuple[str, list[Weights]]]]:
    """The greatest weight, and sentences of each generator's last step, shaded on the same scale."""
    shown: dict[str, list[WeightedSentence]] = {}
    name_of = names_of(generators)
    for (task, name), group in grouped(generators, lambda made: (made[0].task, name_of(made))):
        found = (read_token_weights(folder / "token_weights.json") for _, folder in group)
        for _, same in grouped(next(filter(None, found), []), lambda example: example.label):
            shown.setdefault(f"{task}, {name}", []).extend(same[:_SHADED])
    heaviest = max((weight for group in shown.values() for one in group for weight in one.weights), default=0) or 1
    return heaviest, [(title, [_weights(one, heaviest) for one in group]) for title, group in shown.items()]
