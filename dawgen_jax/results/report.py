"""report.html: a run directory as one page without scripts and without anything to load.

Read by name, whatever made them:

    config.json  results.jsonl  synthetic.jsonl  timings.json ({stage: seconds})
    generators/*/metrics.jsonl, token_weights.json ([{sentence1, label, tokens, weights}])
    synthetic/*/train.jsonl, counts.json, quality.jsonl, meta.json ({generator_artefact: folder under generators/})
    cells/*/metrics.jsonl, result.json

Of cells, those of results.jsonl are shown, of synthetic sets those of synthetic.jsonl, and of generators those that
wrote these sets; what an earlier setting left in the directory is not. Every piece that is missing is skipped with a
sentence. All text from files is escaped.
"""

from __future__ import annotations

import html
import importlib.resources
import itertools
import json
import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dawgen_jax.config import UserError
from dawgen_jax.io.files import read_json, write_file
from dawgen_jax.io.metrics_log import read_metrics
from dawgen_jax.io.strict_json import is_number
from dawgen_jax.results import curves
from dawgen_jax.results.arms import arm_names
from dawgen_jax.results.artefacts import read_samples, read_timings, read_token_weights, read_writer
from dawgen_jax.results.claims import claims
from dawgen_jax.results.published import ZERO_SHOT
from dawgen_jax.results.render import Table, html_page, to_html
from dawgen_jax.results.rows import Row, SyntheticRow, read_cell, read_rows
from dawgen_jax.results.tables import result_tables

__all__ = ["shaded_words", "write_report"]

GENERATOR_CURVES = {
    "loss": "loss",
    "loss_wgen": "L_wGen: weighted negative log-likelihood",
    "loss_disc": "L_disc: discriminative loss",
    "loss_dist": "L_dist: sentence-level hinge",
    "dist_active": "share of L_dist terms that are active",
    "weight_entropy": "entropy of the token weights",
    "grad_norm": "gradient norm of the prompts",
    "meta_grad_norm": "gradient norm of the weight net",
    "prompt_norm": "prompt norm",
}
CELL_CURVES = {
    "dev_accuracy": "accuracy on dev",
    "loss_real": "loss on real pairs",
    "loss_synthetic": "loss on synthetic pairs",
    "loss_real+synthetic": "loss on real and synthetic pairs (pooled, or in turn)",
    "loss_synthetic+real": "loss on synthetic and real pairs in turn",
    "cosine": "cosine of real and synthetic gradient",
    "conflict_rate": "conflict rate (cosine below 0)",
    "conflict": "conflict rate (cosine below 0)",
    "projected_share": "share of the synthetic gradient projected away",
    "grad_norm_real": "gradient norm, real",
    "grad_norm_synthetic": "gradient norm, synthetic",
    "grad_norm": "gradient norm",
    "update_norm": "norm of the update",
    "param_norm": "norm of what is trained",
    "distance": "distance of what is trained from its start",
}
_SAMPLES, _SCANNED, _SHADED = 4, 4000, 2

_escape = html.escape

_Made = tuple[SyntheticRow, Path]
"""The row of a synthetic set, and its folder or that of the generator that wrote it."""


def _folders(run: Path, kind: str) -> list[Path]:
    """Finished artefacts; a name that starts with a dot is unfinished."""
    return sorted(folder for folder in (run / kind).glob("[!.]*") if folder.is_dir())


def _rows(path: Path, kind: type[Row] | type[SyntheticRow]) -> list:
    return read_rows(path, kind) if path.exists() else []


def _sets(run: Path) -> list[_Made]:
    """The synthetic sets that synthetic.jsonl measures."""
    current = {row.key: row for row in _rows(run / "synthetic.jsonl", SyntheticRow)}
    found = {row.key: (row, folder) for folder in _folders(run, "synthetic")
             for row in _rows(folder / "quality.jsonl", SyntheticRow) if row == current.get(row.key)}
    return sorted(found.values(), key=lambda made: made[0].order)


def _writers(run: Path, sets: Sequence[_Made]) -> list[_Made]:
    """The generators that wrote the sets."""
    folders = {folder.name: folder for folder in _folders(run, "generators")}
    named = ((row, read_writer(folder / "meta.json")) for row, folder in sets)
    return [(row, folders[name]) for row, name in named if name in folders]


def _task(made: _Made) -> str:
    return made[0].task


def _generator(made: _Made) -> str:
    return f"{made[0].generator} by {made[0].backbone}"


def _missing(sentence: str) -> str:
    return f'<p class="missing">{_escape(sentence)}</p>'


def _strips(rows: Sequence[Row]) -> str:
    """One dot a seed and a stroke at the mean, for every arm of a task, on one scale."""
    parts, names = [], arm_names(rows)
    for (backbone, task), group in _grouped(rows, lambda row: (row.backbone, row.task)):
        low = 10 * math.floor(10 * min(row.value for row in group))
        high = max(10 * math.ceil(10 * max(row.value for row in group)), low + 10)

        def place(value: float, low=low, high=high) -> str:
            return f'style="--x:{100 * (100 * value - low) / (high - low):.2f}%"'

        lines = [f'<div></div><div class="ends"><span>{low}</span><span>{high}</span></div><div></div>']
        for arm, cells in _grouped(group, lambda row: names[row.arm_key]):
            mean = statistics.fmean(row.value for row in cells)
            dots = "".join(f"<i {place(row.value)}></i>" for row in cells)
            lines.append(f'<div>{_escape(arm)}</div><div class="track">{dots}<b {place(mean)}></b></div>'
                         f'<div class="number">{100 * mean:.2f}</div>')
        parts.append(f'<h3>{_escape(task)}, {_escape(backbone)}: one dot a seed, a stroke at the mean</h3>'
                     f'<div class="strip">{"".join(lines)}</div>')
    return "".join(parts)


def _grouped(rows: Iterable[Any], key) -> list[tuple[Any, list]]:
    groups: dict[Any, list] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


def _results(rows: Sequence[Row], metric: str) -> str:
    if not rows:
        return _missing("No results.jsonl with rows yet: no cell of this run is finished.")
    other = "f1" if metric == "accuracy" else "accuracy"
    main, second = ("".join(map(to_html, result_tables(rows, name))) for name in (metric, other))
    tested = "".join(map(to_html, claims(rows)))
    title = {"f1": "F1", "accuracy": "Accuracy"}[other]
    return main + _strips([row for row in rows if row.metric == metric]) + "".join(
        f"<details><summary>{title}</summary>{part}</details>"
        for title, part in ((title, second), ("The paper's claims, tested in pairs", tested)) if part)


def _panels(series: Mapping[str, Sequence[Sequence[dict]]], known: Mapping[str, str]) -> str:
    """A panel for each known figure that occurs; a series is a legend entry with the lines of its runs."""
    names = list(series)
    legend = "".join(
        f'<li><i class="{"dashed" if index >= curves.PALETTE else "solid"}" '
        f'style="--c:var(--s{index % curves.PALETTE})"></i>{_escape(name)} ({len(series[name])})</li>'
        for index, name in enumerate(names))
    panels = []
    for key, title in known.items():
        drawn = {}
        for index, name in enumerate(names):
            runs = [[line for line in lines if isinstance(line.get(key), bool) or is_number(line.get(key))]
                    for lines in series[name]]
            runs = [([line["step"] for line in lines], [line[key] for line in lines]) for lines in runs if lines]
            if runs:
                drawn[index] = runs
        if drawn:
            panels.append(f"<figure><figcaption>{_escape(title)}</figcaption>{curves.draw(drawn, title)}</figure>")
    return f'<ul class="legend">{legend}</ul><div class="panels">{"".join(panels)}</div>' if panels else ""


_CURVES_NOTE = ('<p class="note">Over updates. A line is the mean over the seeds (their number in brackets), its band '
                "reaches from the least to the greatest seed.</p>")


def _tuning(run: Path, rows: Sequence[Row]) -> str:
    current, names = {row.config_hash for row in rows}, arm_names(rows)
    cells = [(read_cell(folder / "result.json")[0], folder) for folder in _folders(run, "cells")
             if (folder / "result.json").exists()]
    by_task: dict[str, dict[str, list]] = {}
    for row, folder in sorted(cells, key=lambda cell: cell[0].order):
        # A cell of an earlier configuration is no part of the results; zero-shot and FT have no curves.
        lines = read_metrics(folder / "metrics.jsonl") if row.config_hash in current else []
        if lines:
            series = by_task.setdefault(f"{row.task}, {row.backbone}", {})
            series.setdefault(names.get(row.arm_key, row.arm), []).append(lines)
    parts = [f"<h3>{_escape(task)}</h3>{_panels(series, CELL_CURVES)}" for task, series in by_task.items()]
    return _CURVES_NOTE + "".join(parts) if parts else _missing("No cell of results.jsonl has metrics yet.")


def _generators(generators: Sequence[_Made]) -> str:
    if not generators:
        return _missing("No generator of the sets in synthetic.jsonl yet: this run has no arm with synthetic data, or "
                        "has not come so far.")
    parts = [_CURVES_NOTE]
    for task, group in _grouped(generators, _task):
        series = {generator: [read_metrics(folder / "metrics.jsonl") for _, folder in same]
                  for generator, same in _grouped(group, _generator)}
        panels = _panels(series, GENERATOR_CURVES)
        parts.append(f"<h3>{_escape(task)}</h3>" + (panels or _missing("No metrics.jsonl for these generators.")))
    return "".join(parts)


def shaded_words(example: Mapping[str, Any]) -> str:
    """The words of one sentence 2, each shaded by its weight relative to the sentence's heaviest.

    Args:
      example: 'sentence1', 'label', 'tokens' (word pieces; '▁' starts a word) and their 'weights'.
    """
    heaviest = max(example["weights"], default=0) or 1
    pieces = []
    for token, weight in zip(example["tokens"], example["weights"], strict=True):
        shown = " " if token.startswith("▁") else ""
        word = _escape(token.removeprefix("▁")) or "&nbsp;"
        pieces.append(f'{shown}<span style="--w:{max(0.0, weight) / heaviest:.3f}" title="{weight:.4g}">{word}</span>')
    return (f'<p class="shades"><em class="tag">{_escape(str(example["label"]))}</em>{_escape(example["sentence1"])} '
            f"<br>{''.join(pieces)}</p>")


def _weights(generators: Sequence[_Made]) -> str:
    parts = []
    for (task, generator), group in _grouped(generators, lambda made: (_task(made), _generator(made))):
        found = (read_token_weights(folder / "token_weights.json") for _, folder in group)
        examples = next(filter(None, found), [])
        shown = [example for _, same in _grouped(examples, lambda example: example["label"])
                 for example in same[:_SHADED]]
        if shown:
            parts.append(f"<h3>{_escape(task)} {_escape(generator)}</h3>" + "".join(map(shaded_words, shown)))
    if not parts:
        return _missing("No token_weights.json of these generators.")
    return ('<p class="note">Sentence 1, and under it sentence 2 with each token shaded by its weight W at the end of '
            "tuning; the heaviest token of a sentence is the darkest.</p>" + "".join(parts))


def _flat(value: Any, name: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        pairs = (_flat(part, f"{name}: {key}" if name else str(key)).items() for key, part in value.items())
        return dict(itertools.chain.from_iterable(pairs))
    return {name: f"{value:.4g}" if isinstance(value, float) else str(value)}


def _counts(folder: Path) -> str:
    counts = read_json(folder / "counts.json", missing_ok=True)
    if not isinstance(counts, dict):
        return ""
    nested = {str(key): _flat(value) for key, value in counts.items() if isinstance(value, dict)}
    plain = [f"{key}: {value}." for key, value in counts.items() if not isinstance(value, dict)]
    columns = list(dict.fromkeys(itertools.chain.from_iterable(nested.values())))
    rows = tuple((key, *(values.get(column, "0") for column in columns)) for key, values in nested.items())
    return to_html(Table(folder.name, ("", *columns), rows, tuple(plain)), "counts")


def _samples(folder: Path) -> str:
    kept: dict[str, list[tuple[str, ...]]] = {}
    for label, *texts in read_samples(folder / "train.jsonl", _SCANNED):
        kept.setdefault(label, []).append(tuple(texts))
    if not kept:
        return ""
    rows = tuple((label, *texts) for label, found in kept.items() for texts in found[:_SAMPLES])
    columns = ("text",) if len(rows[0]) == 2 else ("sentence 1", "sentence 2")
    return to_html(Table("", ("label", *columns), rows), "words")


def _synthetic(sets: Sequence[_Made]) -> str:
    parts = []
    for (task, generator), group in _grouped(sets, lambda made: (_task(made), _generator(made))):
        samples = next(filter(None, (_samples(folder) for _, folder in group)), "")
        counts = "".join(_counts(folder) for _, folder in group)
        if samples or counts:
            parts.append(f"<h3>{_escape(task)} {_escape(generator)}</h3>{samples}" + (
                f"<details><summary>Wanted, accepted and rejected</summary>{counts}</details>" if counts else ""))
    return "".join(parts) or _missing("No synthetic set of synthetic.jsonl yet.")


def _time(run: Path) -> str:
    seconds = read_timings(run / "timings.json")
    if not seconds:
        return _missing("No timings.json: no stage has ended yet.")
    longest = max(seconds.values()) or 1
    lines = "".join(f'<tr><td>{_escape(stage)}</td><td>{value:.1f}</td><td style="text-align:left"><i class="bar" '
                    f'style="--x:{value / longest:.4f}"></i></td></tr>' for stage, value in seconds.items())
    return ('<p class="note">Seconds of the last process; what it found finished took none.</p>'
            '<table><thead><tr><th scope="col">stage</th><th scope="col">seconds</th><th></th></tr></thead>'
            f"<tbody>{lines}</tbody></table>")


def _setting(config: Any, rows: Sequence[Row]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in (rows[0].versions if rows else {}).items())
    shown = f'<p class="note">Computed with {_escape(versions)}.</p>' if versions else ""
    if config is None:
        return shown + _missing("No config.json.")
    text = json.dumps(config, indent=2, ensure_ascii=False)
    return f"{shown}<details><summary>config.json</summary><pre>{_escape(text)}</pre></details>"


def _metric(config: Any) -> str:
    """What the own task of a run is measured by, where it has one; else accuracy."""
    own = (config or {}).get("own") or {}
    return "f1" if own.get("metric") == "f1" and own.get("name") in config.get("tasks", ()) else "accuracy"


def write_report(run: str | os.PathLike) -> Path:
    """Writes RUN/report.html from what lies in the run directory, whole or not at all.

    Args:
      run: the run directory.

    Returns:
      The path of the page.

    Raises:
      UserError: there is no such directory, or a file in it is broken (named with its line).
    """
    run = Path(run)
    if not run.is_dir():
        raise UserError(f"{run}: no such run directory; start a run with --out {run} first.")
    config = read_json(run / "config.json", missing_ok=True)
    rows, sets = _rows(run / "results.jsonl", Row), _sets(run)
    generators = _writers(run, sets)
    sections = {
        "Results": _results(rows, _metric(config)),
        "Prompt tuning": _tuning(run, rows),
        "Generator tuning": _generators(generators),
        "Token weights": _weights(generators),
        "Synthetic data": _synthetic(sets),
        "Time": _time(run),
        "Settings": _setting(config, rows),
    }
    name = str((config or {}).get("name") or run.resolve().name)
    tasks = list(dict.fromkeys(row.task for row in rows))
    seeds = sorted({row.seed for row in rows if row.method != ZERO_SHOT})
    lead = f"{len(rows)} rows; tasks: {', '.join(tasks)}; seeds: {', '.join(map(str, seeds))}." if rows else ""
    anchors = {title: title.lower().replace(" ", "-") for title in sections}
    links = " ".join(f'<a href="#{anchor}">{title}</a>' for title, anchor in anchors.items())
    body = "".join(f'<section id="{anchors[title]}"><h2>{title}</h2>{part}</section>'
                   for title, part in sections.items())
    style = importlib.resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    head = f'<h1>{_escape(name)}</h1><p class="lead">{_escape(lead)}</p><nav>{links}</nav>'
    page = html_page(name, head + body, style)
    write_file(run / "report.html", page)
    return run / "report.html"
