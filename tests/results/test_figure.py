"""The figure holds every seed, mean and published value that may stand, and is the same each time."""

import xml.etree.ElementTree as ElementTree

import pytest
from matplotlib.figure import Figure

from dawgen_jax.errors import UserError
from dawgen_jax.results.figure import draw_results


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
    assert [label.get_text() for label in t5.get_yticklabels()] == ["Prompting (zero-shot)", "Prompt Tuning"]
    assert [label.get_text() for label in mini.get_yticklabels()] == ["DawGen: (Real, Syn) + GS #$x$ & <b>"]
    assert (t5.get_title("left"), mini.get_title("left")) == ("SICK, T5-large", "mini-snli, mini-t5")
    drawn = [(line.get_marker(), [round(float(x), 2) for x in line.get_xdata()]) for line in t5.lines]
    assert ("o", [20.0, 30.0, 40.0]) in drawn and ("|", [30.0]) in drawn
    # s = 10, n = 3: two standard errors are 11.55; 27.80 is published; zero-shot has settings unknown, so no diamond.
    assert ("|", [18.45]) in drawn and ("|", [41.55]) in drawn
    assert [x for marker, x in drawn if marker == "D"] == [[27.8]]


def test_mistakes_are_named_and_an_earlier_figure_stays(tmp_path, make_row):
    path = tmp_path / "f.svg"
    draw_results(rows(make_row), path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"f.svg: no row has the metric 'accuracy'"):
        draw_results([], path)
    with pytest.raises(UserError, match=r"f.gif: a figure is written as .svg or .png"):
        draw_results(rows(make_row), tmp_path / "f.gif")
    assert path.read_bytes() == before
