"""The results as a figure: for each task a dot a seed, the mean with two standard errors, and the published value."""

from __future__ import annotations

import math
import pathlib
import statistics
from collections.abc import Iterable, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dawgen_jax.errors import UserError
from dawgen_jax.io.files import replacing
from dawgen_jax.results.arms import arm_names
from dawgen_jax.results.published import TABLES
from dawgen_jax.results.rows import Row, merge
from dawgen_jax.results.tables import arm_lines, published_value, task_order

__all__ = ["draw_results"]

_DOT, _MEAN, _PAPER = "#7aa6c2", "#1b2a41", "#c2410c"


def _lines(rows: Sequence[Row]) -> list[dict[str, list[Row]]]:
    """The arms of one backbone in the order of its three tables, each once."""
    lines = {}
    for table in TABLES:
        for line in arm_lines(rows, table):
            lines.setdefault(next(iter(line.values()))[0].arm_key, line)
    return list(lines.values())


def _draw(axes: Axes, cells: Sequence[tuple[str, list[Row]]], title: str) -> None:
    for height, (_, rows) in enumerate(cells):
        values = [100 * row.value for row in rows]
        mean = statistics.fmean(values)
        axes.plot(values, [height] * len(values), "o", color=_DOT, markersize=4, alpha=0.8, markeredgewidth=0)
        error = 2 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        axes.errorbar(mean, height, xerr=error, fmt="|", color=_MEAN, markersize=9, markeredgewidth=1.6, linewidth=1.2,
                      capsize=2)
        printed, _ = published_value(rows)
        if printed is not None:
            axes.plot(printed, height, "D", markerfacecolor="none", markeredgecolor=_PAPER, markersize=6)
    axes.set_yticks(range(len(cells)), [name for name, _ in cells])
    axes.set_ylim(len(cells) - 0.5, -0.5)
    heading = axes.set_title(title, fontsize=9, loc="left")
    for text in (heading, *axes.get_yticklabels()):
        text.set_parse_math(False)  # names are text: a dollar sign is no formula
    axes.tick_params(labelsize=7.5, length=0)
    axes.grid(axis="x", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def draw_results(rows: Iterable[Row], path: str | pathlib.Path, metric: str = "accuracy") -> None:
    """Draws a panel for each backbone and task: arms in the order of the tables, a dot for each seed.

    The stroke is the mean with a bar of two standard errors to both sides (none for one seed); a hollow diamond is the
    published value, where it may stand. The same rows give the same bytes.

    Args:
      rows: of any runs.
      path: of the figure, .svg or .png; written whole or not at all.
      metric: 'accuracy' or 'f1'.

    Raises:
      UserError: another suffix, or no row has the metric.
    """
    path = pathlib.Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise UserError(f"{path}: a figure is written as .svg or .png; name a file that ends so.")
    rows = [row for row in merge(rows) if row.metric == metric]
    if not rows:
        raise UserError(f"{path}: no row has the metric '{metric}', so there is nothing to draw.")
    names, panels = arm_names(rows), []
    for backbone in sorted({row.backbone for row in rows}):
        lines = _lines([row for row in rows if row.backbone == backbone])
        for task in sorted({task for line in lines for task in line}, key=task_order):
            cells = [(names[line[task][0].arm_key], line[task]) for line in lines if task in line]
            panels.append((cells, f"{task}, {backbone}"))
    heights = [len(cells) + 1.5 for cells, _ in panels]
    figure = Figure(figsize=(7.5, 0.2 * sum(heights) + 0.4), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, (cells, title) in zip(grid[:, 0], panels, strict=True):
        _draw(axes, cells, title)
    figure.supxlabel(f"{metric}, per cent: dots are seeds, strokes means with two standard errors, "
                     "diamonds published values", fontsize=7.5)
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with replacing(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "dawgen", "svg.fonttype": "path"}):
        figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)
