"""Curves over updates as small inline SVG images whose colours follow the page's style sheet.

Matplotlib draws with marker colours that are then replaced by CSS variables (``--s0``.. for series, ``--muted`` for
text, ``--rule`` for lines), so that one image serves light and dark pages. Only figure objects are used: nothing
global is left behind, no display is needed. Coordinates are rounded to a tenth of a point.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

__all__ = ["BINS", "PALETTE", "WINDOW", "Curve", "binned", "draw", "noisy", "smoothed"]

PALETTE = 8
"""Series colours in the style sheet; further series repeat them dashed."""
BINS = 60
"""Stretches of steps that a curve is averaged over."""
WINDOW = 9
"""Points of the moving average of a noisy curve."""
_TEXT, _RULE = "#0a0c00", "#0a0c01"

Curve = tuple[Sequence[float], Sequence[float]]
"""Steps and values of one run."""


def _series_colour(index: int) -> str:
    return f"#0a0b{index % PALETTE:02x}"


def binned(runs: Sequence[Curve], bins: int = BINS) -> np.ndarray:
    """The mean over runs, and the least and greatest run, of values averaged over stretches of steps.

    Args:
      runs: (steps, values) of each run, finite and not empty.
      bins: stretches into which the steps are cut where there are more of them.

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


def smoothed(values: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """The centred moving average of each row; at the ends, over the part of the window that is there.

    Args:
      values: [rows, n].
      window: points, odd.

    >>> smoothed(np.array([[0., 3., 6., 0.]]), window=3)
    array([[1.5, 3. , 3. , 3. ]])
    """
    points, half = values.shape[1], window // 2
    return np.stack([values[:, max(0, i - half):i + half + 1].mean(1) for i in range(points)], axis=1)


def noisy(series: Iterable[Sequence[Curve]]) -> bool:
    """Whether a panel has as many points as are worth smoothing: half of ``BINS`` in some run."""
    return any(len(steps) >= BINS // 2 for runs in series for steps, _ in runs)


def draw(series: Mapping[int, Sequence[Curve]], label: str, *, smooth: bool = False) -> str:
    """One panel: a line for each series, its mean over runs, in a band from the least to the greatest run.

    Args:
      series: position of the series in the legend -> its runs.
      label: what a screen reader says.
      smooth: draw moving averages of line and band, and the mean itself faintly behind them, cut off where it leaves
        their scale.

    Returns:
      An <svg> element.
    """
    figure = Figure(figsize=(3.4, 2.0))
    axes = figure.add_axes((0.135, 0.13, 0.825, 0.83))
    for index, runs in series.items():
        step, mean, least, greatest = binned(runs)
        colour, dashes = _series_colour(index), "-" if index < PALETTE else (0, (4, 2))
        if smooth:  # a single spike of the faint line does not set the scale
            axes.add_artist(Line2D(step, mean, color=colour, linewidth=0.7, alpha=0.35))
            mean, least, greatest = smoothed(np.stack([mean, least, greatest]))
        if len(runs) > 1:
            axes.fill_between(step, least, greatest, color=colour, alpha=0.13, linewidth=0)
        axes.plot(step, mean, color=colour, linewidth=1.4, linestyle=dashes, solid_capstyle="round",
                  marker="o" if len(step) == 1 else None, markersize=3)
    axes.grid(axis="y", color=_RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)
    axes.tick_params(length=0, labelsize=7.5, labelcolor=_TEXT, pad=3)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.02)
    return _inline(figure, label)


def _inline(figure: Figure, label: str) -> str:
    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dawgen"}):
        figure.savefig(out, format="svg", transparent=True,
                       metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = out.getvalue()
    svg = svg[svg.index("<svg"):]
    box = re.search(r'viewBox="[^"]*"', svg)[0]
    head = f'<svg {box} role="img" aria-label="{html.escape(label)}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    svg = head + svg[svg.index(">") + 1:]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)  # its style is the whole page's
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)  # figure_1, xtick_2, ...: the same in every image of a page
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"-?\d+\.\d+", lambda x: f"{float(x[0]):.1f}", path[0]), svg)
    svg = re.sub(r"(font: [\d.]+px|font-family:) [^;\"]*", r"\1 var(--sans)", svg)
    svg = re.sub(r"#0a0b(\d\d)", lambda match: f"var(--s{int(match[1])})", svg)
    return svg.replace(_TEXT, "var(--muted)").replace(_RULE, "var(--rule)").strip()
