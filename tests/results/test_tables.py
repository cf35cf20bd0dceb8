"""Tables show what the rows say, published cells only where they may stand, and nothing unescaped."""

import io
import statistics

import pytest
from rich.console import Console

from dawgen_jax.results.published import published_rows
from dawgen_jax.results.rows import SyntheticRow
from dawgen_jax.results.tables import (
    Table,
    conflict_table,
    quality_table,
    result_tables,
    to_markdown,
    to_rich,
)
from dawgen_jax.tasks import SEVEN


def cell(table, method, column, generator=None):
    position = table.columns.index(column)
    return next(row[position] for row in table.rows if row[0] == method and generator in (None, row[1]))


def test_mean_and_deviation_over_seeds(make_row):
    values = [0.5, 0.6, 0.64]
    [table] = result_tables([make_row(value=value, seed=seed) for seed, value in enumerate(values)])
    expected = f"{100 * statistics.mean(values):.2f} ± {100 * statistics.stdev(values):.2f} (3)"
    assert cell(table, "Prompt Tuning", "mini-snli") == expected
    assert "No published cell: backbone mini-t5 is not in the paper." in table.notes
    assert "AVG" not in table.columns  # of one task


def test_lines_and_columns_stand_in_the_papers_order(make_row):
    [table] = result_tables([
        make_row("(Real, Syn) + GS"), make_row("(Real, Syn) + GS", generator="FewGen"), make_row(k_shot="full"),
        make_row(variant="same-T"), make_row(task="SICK"), make_row(task="QQP"), make_row(),
        make_row("Prompting (zero-shot)", seed=0, k_shot=0)])
    assert table.columns == ("method", "generator", "shots", "QQP", "SICK", "mini-snli", "AVG")
    assert [row[:3] for row in table.rows] == [
        ("Prompting (zero-shot)", "–", "–"), ("Prompt Tuning", "–", "16"), ("Prompt Tuning #same-T", "–", "16"),
        ("Prompt Tuning", "–", "full"), ("(Real, Syn) + GS", "FewGen", "16"),
        ("Ours = (Real, Syn) + GS", "DawGen", "16")]
    assert cell(table, "Prompt Tuning", "AVG") == "50.00"
    assert table.rows[-1][3:] == ("–", "–", "50.00 (1)", "–")  # no average over tasks that it was not run on


def test_each_backbone_and_each_writer_has_its_own_place(make_row):
    rows = [make_row("Syn only"), make_row("Syn only", generator_backbone="big"), make_row("Syn only", backbone="big")]
    big, mini = result_tables(rows)
    assert [row[1] for row in mini.rows] == ["DawGen by big", "DawGen"]
    assert [row[1] for row in big.rows] == ["DawGen by mini-t5"]


def test_published_cells_stand_beside_ours_only_where_all_matches(make_row):
    t5 = dict(method="(Real, Syn) + GS", backbone="T5-large", generator_backbone="T5-large")
    [table] = result_tables([make_row(task="RTE", n_test=277, **t5), make_row(task="SICK", n_test=4927, **t5)])
    assert cell(table, "Ours = (Real, Syn) + GS", "RTE") == "50.00 (1)\npaper 57.40"
    assert cell(table, "Ours = (Real, Syn) + GS", "SICK") == "50.00 (1)"
    assert "No published cell: SICK: n_test 4927, published on 4906." in table.notes
    assert cell(table, "Ours = (Real, Syn) + GS", "AVG") == "50.00"
    for other in (dict(metric="f1"), dict(variant="cut"), dict(k_shot=8), dict(backbone="mini")):
        row = make_row(**{"task": "RTE", "n_test": 277, **t5, **other})
        [table] = result_tables([row], row.metric)
        assert "paper" not in table.rows[0][3] and any(note.startswith("No published cell") for note in table.notes)


def test_the_printed_average_stands_beside_ours_for_all_seven_tasks(make_row):
    rows = [make_row(task=task.name, n_test=task.paper_n_test, backbone="T5-large") for task in SEVEN.values()]
    [table] = result_tables(rows)
    printed = next(row for row in published_rows() if (row.backbone, row.method) == ("T5-large", "Prompt Tuning"))
    assert cell(table, "Prompt Tuning", "AVG") == f"50.00\npaper {printed.average:.2f}" == "50.00\npaper 43.49"
    assert all(f"paper {printed.accuracy[task]:.2f}" in cell(table, "Prompt Tuning", task) for task in SEVEN)


def test_differing_test_sizes_over_seeds_are_stated(make_row):
    [table] = result_tables([make_row(n_test=277, task="RTE", backbone="T5-large"),
                             make_row(n_test=100, task="RTE", backbone="T5-large", seed=21)])
    assert "No published cell: RTE: n_test differs between seeds (100, 277)." in table.notes


HOSTILE = Table("[bold]t[/bold] | <b>", ("[red]a", "b|c"), (("[/nothing]", "*x*\ny <i>&"),), ("_note_ [link]",))


def test_nothing_from_data_is_taken_for_markup():
    out = io.StringIO()
    Console(file=out, width=200).print(to_rich(HOSTILE))
    for text in ("[bold]t[/bold] | <b>", "[red]a", "[/nothing]", "*x*", "_note_ [link]"):
        assert text in out.getvalue()
    assert to_markdown(HOSTILE).splitlines() == [
        r"**\[bold\]t\[/bold\] \| &lt;b>**", "", r"| \[red\]a | b\|c |", "| --- | --- |",
        r"| \[/nothing\] | \*x\*<br>y &lt;i>&amp; |", "", r"- \_note\_ \[link\]"]


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
def test_no_rows_no_tables(metric):
    assert result_tables([], metric) == []


def test_synthetic_sets_are_tabulated_by_task_and_generator():
    def row(generator, seed, consistency, n=9):
        return SyntheticRow("mini-snli", "mini-t5", generator, seed, n, 0.25, 0.125, 0.5, consistency)

    table = quality_table([row("DawGen", 1, 0.75, 12), row("FewGen", 1, None), row("DawGen", 2, 0.25)])
    assert [line[:5] for line in table.rows] == [
        ("mini-snli", "mini-t5", "FewGen", "9", "–"), ("mini-snli", "mini-t5", "DawGen", "9–12", "50.00 ± 35.36 (2)")]
    assert table.rows[0][5:] == ("25.00 (1)", "12.50 (1)", "50.00 (1)")
    assert quality_table([]).rows == ()


def test_conflicts_are_tabulated_where_they_were_recorded(make_row):
    rows = [make_row("(Real, Syn) + GS", seed=seed, extras={"conflict_rate": rate, "cosine": 0.5 - seed})
            for seed, rate in enumerate((0.5, 0.25))]
    eight = make_row("(Real, Syn) + GS", k_shot=8, extras={"conflict_rate": 0.75, "cosine": -0.25})
    f1 = make_row("(Real, Syn) + GS", metric="f1", extras=rows[0].extras)
    ours = ("mini-snli", "mini-t5", "Ours = (Real, Syn) + GS", "DawGen")
    assert conflict_table([make_row(), *rows, eight, f1]).rows == (
        (*ours, "8", "75.00 (1)", "-0.250"), (*ours, "16", "37.50 ± 17.68 (2)", "+0.000"))
