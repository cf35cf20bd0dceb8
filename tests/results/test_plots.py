"""Figures hold every seed, mean and comparable published value; curves are means of means; text is text."""

import urllib.parse
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from dawgen_jax.errors import UserError
from dawgen_jax.results import plots
from dawgen_jax.results.plots import draw_results


def rows(make_row):
    t5 = dict(task="SICK", n_test=4906, backbone="T5-large", settings={"classifier.learning_rate": 0.3})
    return [*(make_row(value=value, seed=seed, **t5) for seed, value in enumerate((0.2, 0.3, 0.4))),
            make_row("Prompting (zero-shot)", 0.1, 0, **(t5 | {"settings": {}})),
            make_row("(Real, Syn) + GS", 0.6, variant="$x$ & <b>"), make_row(metric="f1", value=0.9)]


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_same_rows_give_the_same_bytes(tmp_path, make_row, suffix):
    for name in ("a", "b"):
        draw_results(rows(make_row)[::-1 if name == "b" else 1], tmp_path / f"{name}.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {f"a.{suffix}", f"b.{suffix}"}
    if suffix == "svg":
        ElementTree.parse(tmp_path / "a.svg")


def test_what_is_drawn(tmp_path, make_row, monkeypatch):
    figures, save = [], Figure.savefig

    def keep(figure, *args, **options):
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    draw_results(rows(make_row), tmp_path / "f.svg")
    t5, mini = figures[0].axes
    texts = [[text.get_text() for text in axes.texts] for axes in (t5, mini)]
    assert texts == [["Prompting (zero-shot)", "10.00", "Prompt Tuning", "30.00"],
                     ["DawGen: (Real, Syn) + GS #$x$ & <b>", "60.00"]]
    assert (t5.get_title("left"), mini.get_title("left")) == ("SICK, T5-large", "mini-snli, mini-t5")
    drawn = [(line.get_marker(), [round(float(x), 2) for x in line.get_xdata()]) for line in t5.lines]
    assert ("o", [20.0, 30.0, 40.0]) in drawn and ("|", [30.0]) in drawn
    # s = 10, n = 3: two standard errors are 11.55; 27.80 is published; zero-shot has settings unknown, so no diamond.
    assert ("|", [18.45]) in drawn and ("|", [41.55]) in drawn
    assert [x for marker, x in drawn if marker == "D"] == [[27.8]]


def svg_of(image):
    """The XML of an image, which is whole and loads nothing."""
    kind, _, text = image.uri.partition(",")
    assert kind == "data:image/svg+xml"
    root = ElementTree.fromstring(urllib.parse.unquote(text))
    hrefs = [value for one in root.iter() for name, value in one.attrib.items() if name.endswith("href")]
    assert all(value.startswith("#") for value in hrefs)
    assert not any(one.tag.endswith(("script", "image", "foreignObject")) for one in root.iter())
    return root


def texts_of(image):
    return ["".join(one.itertext()).strip() for one in svg_of(image).iter("{http://www.w3.org/2000/svg}text")]


def test_levels_are_lines_and_long_or_odd_names_are_text(make_row):
    odd = "a\u200cb \u4e16 <script>&$x$"  # a joiner, a glyph that matplotlib's font lacks, and markup
    row = make_row(value=0.6, variant=odd, task=odd)
    panel, = plots.panels([row, make_row(variant="y" * 99, value=0.4, task=odd)], {
        ("mini-t5", odd): {"guessing": 0.25}})
    image = plots.dots(panel, "alt")
    shown = texts_of(image)
    assert f"Prompt Tuning #{odd}" in shown and any(text.endswith("…") for text in shown)
    assert plots.dots(panel, "alt") == image
    bare = plots.dots(panel._replace(levels={}), "alt")
    assert texts_of(bare) != shown  # the scale reaches to the level


def test_binning_keeps_means_and_spread():
    steps = np.arange(1, 1001)
    runs = [(steps, np.ones(1000)), (steps, np.full(1000, 3.0))]
    step, mean, least, greatest = plots.binned(runs, bins=10)
    assert step.shape == (10,) and np.all(np.diff(step) > 0)
    np.testing.assert_allclose(step, np.arange(10) * 100 + 50.5, atol=0.6)
    assert set(mean) == {2.0} and set(least) == {1.0} and set(greatest) == {3.0}
    sparse = plots.binned([([0, 200], [0.1, 0.3]), ([0], [0.3])], bins=10)
    np.testing.assert_allclose(sparse, [[0, 200], [0.2, 0.3], [0.1, 0.3], [0.3, 0.3]])


def test_curves_have_bands_dashes_and_marked_ends(monkeypatch):
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **options: (
        figures.append(figure), save(figure, *args, **options)))
    two = [([1, 2], [1.0, 2.0]), ([1, 2], [3.0, 4.0])]
    svg_of(plots.curves({0: [("-", two)], 1: [("-", two[:1]), ("--", two[:1])]}, "a & b", ends=[1]))
    svg_of(plots.curves({index: [("-", two)] for index in range(4)}, "many"))
    few, many = (figure.axes[0] for figure in figures)
    assert len(few.collections) == 1 and len(many.collections) == 0  # of four, bands could not be distinguished
    drawn = [(line.get_linestyle(), line.get_color(), line.get_marker()) for line in few.lines]
    first, second = plots.PALETTE[:2]
    assert drawn == [("-", first, "None"), ("-", second, "None"), ("-", second, "X"), ("--", second, "None"),
                     ("-", second, "X")]
    assert list(few.lines[0].get_ydata()) == [2.0, 3.0]


def test_mistakes_are_named_and_an_earlier_figure_stays(tmp_path, make_row):
    path = tmp_path / "f.svg"
    draw_results(rows(make_row), path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"f.svg: no row has the metric 'accuracy'"):
        draw_results([], path)
    with pytest.raises(UserError, match=r"f.gif: a figure is written as .svg or .png"):
        draw_results(rows(make_row), tmp_path / "f.gif")
    assert path.read_bytes() == before
