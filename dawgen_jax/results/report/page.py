"""report.html: a run directory as a single page without scripts or external resources.

Files of the run directory:

    config.json  results.jsonl  synthetic.jsonl  timings.json ({stage: seconds})
    generators/*/metrics.jsonl, token_weights.json ([{sentence1, label, tokens, weights}])
    synthetic/*/train.jsonl, counts.json, quality.jsonl, meta.json ({generator_artefact: folder under generators/})
    cells/*/metrics.jsonl, result.json, wrong_examples.json ({labels, confusion, examples})

The page shows the cells of results.jsonl, the synthetic sets of synthetic.jsonl and the generators that wrote these
sets; artefacts of earlier settings are omitted. A sentence replaces a missing file. The templates escape all text, and
the amount of text is limited.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from dawgen_jax.errors import UserError
from dawgen_jax.evaluation.quality.flags import Rules
from dawgen_jax.io.files import read_json, write_file
from dawgen_jax.results.arms import arm_names
from dawgen_jax.results.measures import MEASURES
from dawgen_jax.results.published import OURS, ZERO_SHOT
from dawgen_jax.results.render import Table
from dawgen_jax.results.report.reading import cells, optional_rows, read_timings, synthetic_sets, writers
from dawgen_jax.results.report.results import mistakes, results
from dawgen_jax.results.report.synthetic import set_counts, set_pairs, set_quality
from dawgen_jax.results.report.tuning import generator_curves, prompt_curves, token_weights
from dawgen_jax.results.rows import Row
from dawgen_jax.results.verdict import caveats, verdicts

__all__ = ["tables_page", "write_report"]

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("dawgen_jax.results.report"), autoescape=True, undefined=jinja2.StrictUndefined,
    trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)


def tables_page(title: str, tables: Sequence[Table]) -> str:
    """Tables as a complete HTML page."""
    return _TEMPLATES.get_template("tables.html.j2").render(title=title, tables=tables)


def _metric(config: Mapping[str, Any]) -> str:
    """The metric of the run's custom task, if it has one; otherwise accuracy."""
    own, tasks = config.get("own"), config.get("tasks")
    known = isinstance(own, dict) and isinstance(tasks, list) and own.get("name") in tasks
    return "f1" if known and own.get("metric") == "f1" else "accuracy"


def _heading(run: Path, name: str, rows: Sequence[Row]) -> tuple[str, list[str]]:
    """The heading (method and task), and the facts below it (run, arms, seeds, backbone, sizes, date)."""
    if not rows:
        return f"Run {name}", []
    arms, tasks = list(arm_names(rows).values()), list(dict.fromkeys(row.task for row in rows))
    method = max(rows, key=lambda row: ((row.generator, row.method) == OURS, bool(row.generator),
                                        row.method != ZERO_SHOT)).arm
    seeds = sorted({row.seed for row in rows if row.method != ZERO_SHOT})
    shots, sizes = sorted({row.k_shot for row in rows} - {"full"}), {row.n_test for row in rows}
    day = datetime.datetime.fromtimestamp((run / "results.jsonl").stat().st_mtime, datetime.UTC).date()
    where = ", ".join(tasks) if len(tasks) < 4 else f"{len(tasks)} tasks"
    return f"{method} on {where}", [
        f"run {name}", f"{len(arms)} arm{'s' * (len(arms) > 1)}",
        *([f"{len(seeds)} seed{'s' * (len(seeds) > 1)} ({', '.join(map(str, seeds))})"] if seeds else []),
        ", ".join(dict.fromkeys(row.backbone for row in rows)),
        f"{', '.join(map(str, shots)) or 'all'} examples per class",
        f"{' to '.join(f'{size:,}' for size in sorted({min(sizes), max(sizes)}))} test examples", day.isoformat()]


def write_report(run: str | os.PathLike) -> Path:
    """Write RUN/report.html atomically.

    Args:
      run: the run directory.

    Returns:
      The path of the page.

    Raises:
      UserError: the directory does not exist, or a file in it is broken.
    """
    run = Path(run)
    if not run.is_dir():
        raise UserError(f"{run}: no such run directory; start a run with --out {run} first.")
    config = read_json(run / "config.json", missing_ok=True)
    rows, sets = optional_rows(run / "results.jsonl", Row), synthetic_sets(run)
    generators, scored, metric = writers(run, sets), cells(run, rows), _metric(config or {})
    heading, facts = _heading(run, str((config or {}).get("name") or run.resolve().name), rows)
    seconds = read_timings(run / "timings.json")
    page = _TEMPLATES.get_template("page.html.j2").render(
        heading=heading, facts=facts, verdicts=verdicts(rows, metric), caveats=caveats(rows, metric),
        results=results(rows, [row for row, _ in sets], metric), mistakes=mistakes(scored, rows),
        measures=MEASURES, near=Rules().near, set_quality=set_quality(sets), set_counts=set_counts(sets),
        set_pairs=set_pairs(sets),
        prompt_curves=prompt_curves(scored, rows), generator_curves=generator_curves(generators),
        token_weights=token_weights(generators), seconds=seconds, longest=max(seconds.values(), default=0) or 1,
        versions=rows[0].versions if rows else {},
        config=json.dumps(config, indent=2, ensure_ascii=False) if config is not None else "")
    write_file(run / "report.html", page)
    return run / "report.html"
