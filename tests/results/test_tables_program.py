"""``python -m train.tables`` on invented runs."""

import io
import pathlib

import pytest
from rich.console import Console

from dawgen_jax.cli.tables import Arguments, show
from dawgen_jax.errors import UserError
from dawgen_jax.results.rows import SyntheticRow, write_rows


def output(*runs, **options):
    out = io.StringIO()
    show(Arguments(runs, **options), Console(file=out, width=260))
    return out.getvalue()


def test_two_runs_in_one_table(tmp_path, make_row):
    write_rows(tmp_path / "a" / "results.jsonl", [make_row(value=0.1), make_row(value=0.4, seed=21)])
    write_rows(tmp_path / "b" / "results.jsonl", [make_row(value=0.6), make_row(value=0.5, metric="f1")])
    shown = output(tmp_path / "a", tmp_path / "b" / "results.jsonl")
    assert "50.00 ± 14.14 (2)" in shown and "more than one run: 1; the rows of the later" in shown
    assert "50.00 (1)" in output(tmp_path / "b", metric="f1")


def test_claims_and_markdown(tmp_path, make_row):
    write_rows(tmp_path / "results.jsonl", [make_row(), make_row("(Real, Syn) + GS", value=0.6)])
    write_rows(tmp_path / "synthetic.jsonl", [
        SyntheticRow("mini-snli", "mini-t5", generator, 13, 9, 0.5, 0.2, 0.1, consistency=0.5)
        for generator in ("FewGen", "DawGen")])
    shown = output(tmp_path, claims=True, markdown=tmp_path / "tables.md")
    assert "synthetic data lifts prompt tuning" in shown and "DawGen > FewGen in label consistency" in shown
    written = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert written.count("\n| --- |") == 4 and "60.00 (1)" in written and "Synthetic sets" in written
    assert "lifts" not in output(tmp_path)


def test_the_shipped_tables_are_those_of_the_shipped_rows(tmp_path):
    shipped = pathlib.Path(__file__).parents[2] / "results" / "mini"
    output(shipped / "results.jsonl", claims=True, markdown=tmp_path / "made" / "tables.md")
    assert (tmp_path / "made" / "tables.md").read_bytes() == (shipped / "tables.md").read_bytes()


def test_mistakes_are_one_sentence(tmp_path, make_row):
    with pytest.raises(UserError, match="No run is named"):
        output()
    with pytest.raises(UserError, match=r"results.jsonl: no such file; finish a run there first"):
        output(tmp_path)
    write_rows(tmp_path / "results.jsonl", [make_row()])
    write_rows(tmp_path / "other" / "results.jsonl", [make_row(seed=21, data="b")])
    write_rows(tmp_path / "one" / "results.jsonl", [make_row(data="a")])
    assert "(2)" in output(tmp_path, tmp_path / "other")  # of the first the data are not known
    with pytest.raises(UserError, match="these runs have different data named mini-snli, so their mean is meaningless"):
        output(tmp_path / "one", tmp_path / "other")
    with pytest.raises(UserError, match="no row has the metric 'f1'"):
        output(tmp_path, metric="f1")
    for path in (tmp_path, tmp_path / "results.jsonl" / "tables.md"):
        with pytest.raises(UserError, match=rf"--markdown {path}: cannot be written \(.*\); name a file"):
            output(tmp_path, markdown=path)
    with pytest.raises(UserError, match=r"--figure .*f.svg: cannot be written"):
        output(tmp_path, figure=tmp_path / "results.jsonl" / "f.svg")
    with pytest.raises(UserError, match=r"f.pdf: a figure is written as .svg or .png"):
        output(tmp_path, figure=tmp_path / "f.pdf")


def test_runs_that_are_no_files_of_rows_are_named(tmp_path):
    (tmp_path / "run" / "results.jsonl").mkdir(parents=True)
    (tmp_path / "binary").write_bytes(b"\xff\x00\n")
    (tmp_path / "deep").write_text("[" * 100_000)
    for path, message in (("run", r"results\.jsonl: is a folder"), ("binary", "binary:1: not UTF-8"),
                          ("deep", ":1: (not JSON|the last line is torn)|no row"), ("a" * 300, "a: no such file"),
                          ("binary/x", "x: no such file")):
        with pytest.raises(UserError, match=message):
            output(tmp_path / path)


def test_every_kind_of_file_is_written(tmp_path, make_row):
    write_rows(tmp_path / "results.jsonl", [make_row(), make_row("(Real, Syn) + GS", value=0.6)])
    made = {kind: tmp_path / "made" / f"tables.{kind}" for kind in ("tex", "html", "svg", "png")}
    output(tmp_path, latex=made["tex"], html=made["html"], figure=made["svg"])
    output(tmp_path, figure=made["png"])
    assert made["tex"].read_text().count(r"\toprule") == 1 and "60.00 (1)" in made["html"].read_text()
    assert made["svg"].read_bytes().startswith(b"<?xml") and made["png"].read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in made["tex"].parent.iterdir()} == {path.name for path in made.values()}


def test_a_torn_last_line_does_not_stop_the_tables(tmp_path, make_row, caplog):
    write_rows(tmp_path / "results.jsonl", [make_row(), make_row(seed=21, value=0.7)])
    whole = (tmp_path / "results.jsonl").read_bytes()
    (tmp_path / "results.jsonl").write_bytes(whole[:-9])
    assert "50.00 (1)" in output(tmp_path) and "results.jsonl:2: the last line is torn" in caplog.text
