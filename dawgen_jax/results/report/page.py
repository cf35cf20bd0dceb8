"""report.html: a run directory as one page without scripts and without anything to load.

Read by name, whatever made them:

    config.json  results.jsonl  synthetic.jsonl  timings.json ({stage: seconds})
    generators/*/metrics.jsonl, token_weights.json ([{sentence1, label, tokens, weights}])
    synthetic/*/train.jsonl, counts.json, quality.jsonl, meta.json ({generator_artefact: folder under generators/})
    cells/*/metrics.jsonl, result.json, wrong_examples.json ({labels, confusion, examples})

Of cells, those of results.jsonl are shown, of synthetic sets those of synthetic.jsonl, and of generators those that
wrote these sets; what an earlier setting left in the directory is not. Every piece that is missing is skipped with a
sentence. All text from files is escaped, and how much of it is shown is bounded.
"""

from __future__ import annotations

import html
import importlib.resources
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dawgen_jax.errors import UserError
from dawgen_jax.io.files import read_json, write_file
from dawgen_jax.results.artefacts import read_timings
from dawgen_jax.results.published import ZERO_SHOT
from dawgen_jax.results.render import html_page
from dawgen_jax.results.report.reading import cells, missing, optional_rows, synthetic_sets, writers
from dawgen_jax.results.report.results import mistakes, results
from dawgen_jax.results.report.synthetic import pair_pages, set_counts, set_quality
from dawgen_jax.results.report.tuning import generator_curves, prompt_curves, token_weights
from dawgen_jax.results.report.verdict import verdict_html
from dawgen_jax.results.rows import Row

__all__ = ["write_report"]


def _time(run: Path) -> str:
    seconds = read_timings(run / "timings.json")
    if not seconds:
        return missing("No timings.json: no stage has ended yet.")
    longest = max(seconds.values()) or 1
    lines = "".join(f'<tr><td>{html.escape(stage)}</td><td>{value:.1f}</td><td style="text-align:left"><i class="bar" '
                    f'style="--x:{value / longest:.4f}"></i></td></tr>' for stage, value in seconds.items())
    return ('<p class="note">Seconds of the last process; what it found finished took none.</p>'
            '<div class="scroll"><table><thead><tr><th scope="col">stage</th><th scope="col">seconds</th><th></th></tr>'
            f"</thead><tbody>{lines}</tbody></table></div>")


def _setting(config: Any, rows: Sequence[Row]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in (rows[0].versions if rows else {}).items())
    shown = f'<p class="note">Computed with {html.escape(versions)}.</p>' if versions else ""
    if config is None:
        return shown + missing("No config.json.")
    text = json.dumps(config, indent=2, ensure_ascii=False)
    return f"{shown}<details><summary>config.json</summary><pre>{html.escape(text)}</pre></details>"


def _metric(config: Any) -> str:
    """What the own task of a run is measured by, where it has one; else accuracy."""
    own, tasks = (config or {}).get("own"), (config or {}).get("tasks")
    known = isinstance(own, dict) and isinstance(tasks, list) and own.get("name") in tasks
    return "f1" if known and own.get("metric") == "f1" else "accuracy"


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
    rows, sets = optional_rows(run / "results.jsonl", Row), synthetic_sets(run)
    generators, scored = writers(run, sets), cells(run, rows)
    metric = _metric(config)
    sections = {
        "Results": results(rows, [row for row, _ in sets], metric),
        "Wrong examples": mistakes(scored, rows),
        "Synthetic data": set_quality(sets) + set_counts(sets) + pair_pages(sets),
        "Prompt tuning": prompt_curves(scored, rows),
        "Generator tuning": generator_curves(generators),
        "Token weights": token_weights(generators),
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
    style = importlib.resources.files("dawgen_jax.results").joinpath("report.css").read_text(encoding="utf-8")
    head = (f'<h1>{html.escape(name)}</h1><p class="lead">{html.escape(lead)}</p>{verdict_html(rows, metric)}'
            f"<nav>{links}</nav>")
    page = html_page(name, head + body, style)
    write_file(run / "report.html", page)
    return run / "report.html"
