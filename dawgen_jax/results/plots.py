"""Plots as plain SVG: every seed of every arm as a dot, and curves over updates.

Only figure objects are used, so that no display is needed and no global state changes. Text stays text, and equal data
give equal bytes. Colours are readable on light and dark backgrounds.
"""

from __future__ import annotations

import io
import math
import pathlib
import statistics
import textwrap
import urllib.parse
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dawgen_jax.errors import UserError
from dawgen_jax.io.files import replacing
from dawgen_jax.io.terminal import printable
from dawgen_jax.results.arms import arm_names, grouped
from dawgen_jax.results.rows import Row, merge
from dawgen_jax.results.tables import published_value, task_order

__all__ = ["BINS", "PALETTE", "Image", "Panel", "binned", "curves", "dots", "draw_results", "panels"]

PALETTE = ("#3b82c4", "#d9722a", "#3f9b63", "#9168c9", "#d24b5c", "#1d9aa1", "#a98a2c", "#808894")
"""Colours of curves, repeated if there are more curves."""
BINS = 24
"""Number of points of a curve; each is the mean over a part of the run."""
_BANDS = 3  # the number of curves whose bands can be distinguished
_PAPER, _GREY = "#c2410c", "#8888887f"
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "dawgen", "font.sans-serif": ["DejaVu Sans", "Verdana"],
          "font.size": 8.5}

Curve = tuple[Sequence[float], Sequence[float]]
"""Steps and values of one run."""


class Image(NamedTuple):
    """An SVG image as a data URI, and its description."""

    uri: str
    alt: str


class Panel(NamedTuple):
    """The arms of a task on a backbone: names with their rows, and values for comparison, by name."""

    title: str
    arms: list[tuple[str, list[Row]]]
    levels: Mapping[str, float]


def panels(rows: Iterable[Row], levels: Mapping[tuple[str, str], Mapping[str, float]] | None = None
           ) -> list[Panel]:
    """A panel for each backbone and task.

    Args:
      rows: of one metric.
      levels: (backbone, task) -> values to draw as vertical lines.
    """
    rows = sorted(rows, key=lambda row: (row.backbone, task_order(row.task), row.order))
    names, levels = arm_names(rows), levels or {}
    return [Panel(f"{task}, {backbone}", grouped(same, lambda row: names[row.arm_key]),
                  levels.get((backbone, task), {}))
            for (backbone, task), same in grouped(rows, lambda row: (row.backbone, row.task))]


def _draw_dots(axes: Axes, panel: Panel, title: bool) -> None:
    for height, (name, rows) in enumerate(panel.arms):
        values = [100 * row.value for row in rows]
        mean = statistics.fmean(values)
        error = 2 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        axes.errorbar(mean, height, xerr=error, fmt="|", color="black", markersize=11, markeredgewidth=1.6,
                      linewidth=0.9, capsize=2)
        axes.plot(values, [height] * len(values), "o", color=PALETTE[0], markersize=5.5, alpha=0.7, markeredgewidth=0,
                  zorder=3)
        printed, _ = published_value(rows)
        if printed is not None:
            axes.plot(printed, height, "D", markerfacecolor="none", markeredgecolor=_PAPER, markersize=6, zorder=3)
        for style, value in zip(("--", ":"), panel.levels.values(), strict=False):
            axes.vlines(100 * value, height - 0.17, height + 0.23, color=PALETTE[4], linestyle=style, linewidth=1.4)
        # The name is above its line, so that a long name does not narrow the plot.
        _text(axes, 0, height - 0.38, textwrap.shorten(name, 66, placeholder=" …"), ha="left")
        _text(axes, 1, height - 0.38, f"{mean:.2f}", ha="right")
    axes.set_yticks([])
    axes.set_ylim(len(panel.arms) - 0.7, -0.7)
    axes.set_title(printable(panel.title) if title else "", loc="left", fontsize=9, parse_math=False)
    axes.tick_params(labelsize=8, length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(axis="x", linewidth=0.5, color=_GREY)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _text(axes: Axes, x: float, y: float, text: str, **options) -> None:
    axes.text(x, y, printable(text), transform=axes.get_yaxis_transform(), va="center", parse_math=False, **options)


def _dots(found: Sequence[Panel], width: float, note: str = "") -> Figure:
    heights = [len(panel.arms) + 0.9 for panel in found]
    figure = Figure(figsize=(width, 0.4 * sum(heights) + 0.3), layout="constrained")
    grid = figure.subplots(len(found), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, panel in zip(grid[:, 0], found, strict=True):
        _draw_dots(axes, panel, title=bool(note))
    figure.supxlabel(note, fontsize=7.5)
    return figure


def _save(figure: Figure, target: io.StringIO | pathlib.Path, kind: str) -> None:
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type")) if kind == "svg" else {"Software": None}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the viewer's fonts have more glyphs than matplotlib's
        figure.savefig(target, format=kind, dpi=150, metadata=metadata)


def _image(figure: Figure, alt: str) -> Image:
    out = io.StringIO()
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    _save(figure, out, "svg")
    return Image("data:image/svg+xml," + urllib.parse.quote(out.getvalue(), safe=" !$()*+,-./:;=?@_~"), alt)


def dots(panel: Panel, alt: str) -> Image:
    """A dot per seed, a bar at the mean with two standard errors, and a dashed line per level."""
    with matplotlib.rc_context(_STYLE):
        return _image(_dots([panel], 4.2), alt)


def draw_results(rows: Iterable[Row], path: str | pathlib.Path, metric: str = "accuracy") -> None:
    """Draw a panel for each backbone and task, with a dot for each seed of each arm.

    The bar is the mean with two standard errors on both sides (none for a single seed); a hollow diamond is the
    published value, if it may be shown.

    Args:
      rows: rows of any runs.
      path: path of the figure, .svg or .png, which is written atomically.
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
    with matplotlib.rc_context(_STYLE), replacing(path) as temporary:
        _save(_dots(panels(rows), 7.5, f"{metric}, per cent: dots are seeds, bars means with two standard errors, "
                    "diamonds published values"), temporary, kind)


def binned(runs: Sequence[Curve], bins: int = BINS) -> np.ndarray:
    """Values averaged over parts of a run: their mean, minimum and maximum over runs.

    Args:
      runs: (steps, values) of each run, finite and not empty.
      bins: number of parts if there are more steps than this.

    Returns:
      float64 [4, n]: step, mean, least, greatest; n is at most ``bins``.
    """
    runs = [(np.asarray(steps, float), np.asarray(values, float)) for steps, values in runs]
    steps = np.unique(np.concatenate([steps for steps, _ in runs]))
    edges = steps if len(steps) <= bins else np.linspace(steps[0], steps[-1], bins + 1)[:-1]
    columns = {}
    for run_steps, values in runs:
        place = np.searchsorted(edges, run_steps, side="right") - 1
        for position in np.unique(place):
            inside = place == position
            columns.setdefault(position, []).append((run_steps[inside].mean(), values[inside].mean()))
    stacked = [np.array(columns[position]) for position in sorted(columns)]
    return np.array([(part[:, 0].mean(), part[:, 1].mean(), part[:, 1].min(), part[:, 1].max())
                     for part in stacked]).T


def curves(series: Mapping[int, Sequence[tuple[str, Sequence[Curve]]]], alt: str, ends: Collection[int] = ()
           ) -> Image:
    """A line for each series: the mean over its runs; up to three series have a band from minimum to maximum.

    Args:
      series: position in the palette -> (line style, runs) of its lines.
      alt: description of the image.
      ends: positions of the series whose end is marked.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.6, 2.1), layout="constrained")
        axes = figure.subplots()
        for index, lines in series.items():
            colour = PALETTE[index % len(PALETTE)]
            for style, runs in lines:
                step, mean, least, greatest = binned(runs)
                if len(runs) > 1 and len(lines) == 1 and len(series) <= _BANDS:
                    axes.fill_between(step, least, greatest, color=colour, alpha=0.15, linewidth=0)
                axes.plot(step, mean, color=colour, linewidth=1.5, linestyle=style,
                          marker="o" if len(step) == 1 else None, markersize=3)
                if index in ends:
                    axes.plot(step[-1], mean[-1], marker="X", color=colour, markersize=6, markeredgewidth=0)
        axes.grid(axis="y", linewidth=0.5, color=_GREY)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(_GREY)
        axes.tick_params(length=0, labelsize=8.5)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.margins(x=0.02)
        return _image(figure, alt)
