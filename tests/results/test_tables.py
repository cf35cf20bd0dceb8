"""Tables show what the rows say, published cells only where they may stand."""

import dataclasses
import math
import statistics

import pytest

from dawgen_jax.results.measures import conflict_table, label_sentences, quality_table
from dawgen_jax.results.published import METHODS, published_rows
from dawgen_jax.results.rows import SyntheticRow
from dawgen_jax.results.tables import result_tables
from dawgen_jax.tasks import SEVEN

PAPER = {"classifier.learning_rate": 0.3, "classifier.num_steps": 3000}
OURS = "DawGen: (Real, Syn) + GS"


def cell(table, method, column):
    position = table.columns.index(column)
    return next(row[position] for row in table.rows if row[0] == method)


def main_table(rows, metric="accuracy"):
    [table] = [table for table in result_tables(rows, metric) if ": main results" in table.title]
    return table


def test_mean_and_deviation_over_seeds(make_row):
    values = [0.5, 0.6, 0.64]
    [table] = result_tables([make_row(value=value, seed=seed) for seed, value in enumerate(values)])
    expected = f"{100 * statistics.mean(values):.2f} ± {100 * statistics.stdev(values):.2f} (3)"
    assert cell(table, "Prompt Tuning", "mini-snli") == expected == "58.00 ± 7.21 (3)"
    assert "No published cell: backbone mini-t5 is not in the paper." in table.notes
    assert "AVG" not in table.columns  # of one task


def test_lines_and_columns_stand_in_the_papers_order(make_row):
    main, ablation = result_tables([
        make_row("(Real, Syn) + GS"), make_row("(Real, Syn) + GS", generator="FewGen"), make_row(k_shot="full"),
        make_row(variant="same-T"), make_row(task="SICK"), make_row(task="QQP"), make_row(),
        make_row("Prompting (zero-shot)", seed=0, k_shot=0)])
    assert main.columns == ("method", "QQP", "SICK", "mini-snli", "AVG")
    assert [row[0] for row in main.rows] == [
        "Prompting (zero-shot)", "Prompt Tuning", OURS, "Prompt Tuning #same-T", "Prompt Tuning @full"]
    assert cell(main, "Prompt Tuning", "AVG") == "50.00 (1)"
    assert main.rows[2][1:] == ("–", "–", "50.00 (1)", "–")  # no average over tasks that it was not run on
    assert [row[0] for row in ablation.rows] == ["FewGen: (Real, Syn) + GS", OURS]
    assert f"'{OURS}' is what the paper calls 'Ours'." in main.notes


def test_a_table_that_shows_nothing_new_is_left_out(make_row):
    rows = [make_row("(Real, Syn) + GS"), make_row()]
    assert [table.title.split(": ")[1] for table in result_tables(rows)] == ["main results, accuracy"]
    assert len(result_tables([*rows, make_row("Syn only")])) == 2


def test_right_labels_are_counted_in_total_and_by_label():
    def row(generator, seed, yes, no, known=True):
        extras = {"consistency_of": {"yes": yes, "no": no}} if known else {}
        return SyntheticRow("mini-mrpc", "mini-t5", generator, seed, 8, 0.5, 0.2, 0.1,
                            (yes + no) / 2 if known else None, extras=extras)

    rows = [row("DawGen", 13, 0.5, 1.0), row("DawGen", 21, 0.75, 1.0), row("FewGen", 13, 0, 0, known=False)]
    assert label_sentences(rows) == ["Right labels in the sets of DawGen on mini-mrpc: 81.2% (yes 62.5%, no 100.0%)."]
    assert label_sentences([]) == []


def test_every_method_has_its_place_and_what_was_not_run_has_none(make_row):
    generators = ("FewGen", "FewGen released", "DawGen")
    rows = [make_row(method, generator=generator, generator_backbone=generator and "mini-t5")
            for method in METHODS for generator in (generators if "Syn" in method else [""])]
    main, combination, ablation = ([row[0] for row in table.rows] for table in result_tables(rows[::-1]))
    assert main[:10] == [
        "Prompting (zero-shot)", "In-Context", "FT", "Prompt-based FT", "PFT + soft prompt", "PPT", "Prompt Tuning",
        OURS, "SPoT", "OPTIMA"]
    # Beyond the paper: LoRA and released sets, each once.
    assert main[10:] == ["LoRA", "FewGen: LoRA (Real, Syn) + GS",
                         *(f"FewGen released: {method}" for method in METHODS if "Syn" in method),
                         "DawGen: LoRA (Real, Syn) + GS"]
    assert combination == [f"{generator}: {method}" for generator in ("FewGen", "DawGen")
                           for method in ("Real+Syn", "Real+Syn+LS", "Real -> Syn", "Syn -> Real", "(Real, Syn)")]
    assert ablation == [f"{generator}: {method}" for generator in ("FewGen", "DawGen")
                        for method in ("Syn only", "(Real, Syn)", "(Real, Syn) + GS")]
    assert [table.title for table in result_tables([make_row()])] == ["mini-t5: main results, accuracy"]


def test_each_backbone_and_each_writer_has_its_own_place(make_row):
    rows = [make_row("Syn only"), make_row("Syn only", generator_backbone="big"), make_row("Syn only", backbone="big")]
    big, mini = result_tables(rows)
    assert [row[0] for row in mini.rows] == ["DawGen: Syn only by big", "DawGen: Syn only"]
    assert [row[0] for row in big.rows] == ["DawGen: Syn only by mini-t5"]


def test_published_cells_stand_beside_ours_only_where_all_matches(make_row):
    t5 = dict(method="(Real, Syn) + GS", backbone="T5-large", generator_backbone="T5-large", settings=PAPER)
    table = main_table([make_row(task="RTE", n_test=277, **t5), make_row(task="SICK", n_test=4927, **t5)])
    assert cell(table, OURS, "RTE") == "50.00 (1)\npaper 57.40\n-7.40, one seed"
    assert cell(table, OURS, "SICK") == "50.00 (1)"
    assert "No published cell: SICK: n_test 4927, published on 4906." in table.notes
    assert cell(table, OURS, "AVG") == "50.00 (1)"
    for other in (dict(metric="f1"), dict(variant="cut"), dict(k_shot=8), dict(backbone="mini"), dict(settings={}),
                  dict(settings=PAPER | {"classifier.learning_rate": 0.2})):
        row = make_row(**{"task": "RTE", "n_test": 277, **t5, **other})
        table = main_table([row], row.metric)
        assert "paper" not in table.rows[0][1] and any(note.startswith("No published cell") for note in table.notes)


@pytest.mark.parametrize(("values", "told"), [
    # Mean 70.73, deviation 2, n = 4: SE 1, two of them 2; published 72.73 is 2 off, then 0.01 more.
    ((0.7073, 0.0), "70.73 ± 2.00 (4)\npaper 72.73\n-2.00, within 2 SE"),
    ((0.7072, 0.0), "70.72 ± 2.00 (4)\npaper 72.73\n-2.01, beyond 2 SE"),
    ((0.7474, 0.0), "74.74 ± 2.00 (4)\npaper 72.73\n+2.01, beyond 2 SE"),
])
def test_the_difference_and_two_standard_errors_by_hand(make_row, values, told):
    off = 0.02 * math.sqrt(3) / 2 * (1 + 1e-12)  # the sample deviation of +-off, twice each, is off * 2 / sqrt(3)
    rows = [make_row("(Real, Syn) + GS", values[0] + sign * off, seed, "SICK", n_test=4906, backbone="T5-large",
                     generator_backbone="T5-large", settings=PAPER) for seed, sign in enumerate((1, 1, -1, -1))]
    assert cell(main_table(rows), OURS, "SICK") == told


def test_the_printed_average_stands_beside_ours_for_all_seven_tasks(make_row):
    rows = [make_row(task=task.name, n_test=task.paper_n_test, backbone="T5-large", settings=PAPER)
            for task in SEVEN.values()]
    [table] = result_tables(rows)
    printed = next(row for row in published_rows() if (row.backbone, row.method) == ("T5-large", "Prompt Tuning"))
    assert cell(table, "Prompt Tuning", "AVG") == (
        f"50.00 (1)\npaper {printed.average:.2f}\n+6.51, one seed") == "50.00 (1)\npaper 43.49\n+6.51, one seed"
    assert all(f"paper {printed.accuracy[task]:.2f}" in cell(table, "Prompt Tuning", task) for task in SEVEN)
    assert "Published Prompt Tuning: the AVG of 43.49 is not the mean of the columns, 43.557." in table.notes
    assert not any("No published cell" in note for note in table.notes)


def test_the_deviation_of_an_average_is_that_of_the_seeds_averages(make_row):
    values = {"mini-snli": (0.5, 0.7), "mini-rte": (0.6, 0.5)}  # by seed 0.55 and 0.6: mean 57.5, deviation 3.54
    rows = [make_row(value=value, seed=seed, task=task) for task, pair in values.items()
            for seed, value in enumerate(pair)]
    assert cell(main_table(rows), "Prompt Tuning", "AVG") == "57.50 ± 3.54 (2)"
    assert cell(main_table(rows[:-1]), "Prompt Tuning", "AVG") == "60.00"  # seeds differ between the tasks


def test_differing_test_sizes_over_seeds_are_stated(make_row):
    [table] = result_tables([make_row(n_test=277, task="RTE", backbone="T5-large"),
                             make_row(n_test=100, task="RTE", backbone="T5-large", seed=21)])
    assert "No published cell: RTE: n_test differs between seeds (100, 277)." in table.notes


def test_settings_are_kept_apart_and_only_the_papers_have_a_published_cell(make_row):
    def rows(rate, value):
        return [make_row(value=value, seed=seed, task="SICK", n_test=4906, backbone="T5-large",
                         settings=PAPER | {"classifier.learning_rate": rate}) for seed in (1, 2)]

    [table] = result_tables([*rows(0.2, 0.4), *rows(0.3, 0.3)])
    assert table.rows == (
        ("Prompt Tuning [classifier.learning_rate=0.2]", "40.00 ± 0.00 (2)"),
        ("Prompt Tuning [classifier.learning_rate=0.3]", "30.00 ± 0.00 (2)\npaper 27.80\n+2.20, beyond 2 SE"))
    reasons = [note for note in table.notes if note.startswith("No published cell")]
    assert reasons == ["No published cell: settings that are not the paper's: classifier.learning_rate=0.2."]


def test_what_is_odd_about_published_rows_is_named_where_they_are_shown(make_row):
    def notes(backbone, **fields):
        rows = [make_row(method, backbone=backbone, settings=PAPER, **fields)
                for method in ("PPT", "SPoT", "OPTIMA", "Prompt Tuning")]
        return result_tables(rows)[0].notes

    told = notes("T5-large", task="RTE", n_test=277)
    for text in ("No published cell: PPT: the printed row is T5-XXL's (410K parameters = 100 x 4096).",
                 "No published cell: SPoT: the paper quotes it from 8-shot experiments.",
                 "No published cell: OPTIMA: the paper quotes it from 8-shot experiments.",
                 "Published Prompt Tuning: the AVG of 43.49 is not the mean of the columns, 43.557."):
        assert text in told
    flan = notes("Flan-T5-large", task="RTE", n_test=277)
    assert "Published Prompt Tuning: RTE looks as if it was scored with swapped labels." in flan
    assert not any("Published Prompt" in note for note in notes("Flan-T5-large", task="RTE", n_test=9))
    assert not any(text in note for note in notes("mini-t5") for text in ("XXL", "8-shot", "swapped", "43.49"))


def test_both_polarities_of_rte_are_shown(make_row):
    rows = [make_row(task="RTE", seed=seed, value=value, extras={"accuracy_words_exchanged": 1 - value})
            for seed, value in enumerate((0.25, 0.35))]
    [table] = result_tables([*rows, make_row("FT", task="RTE")])
    assert "RTE with the original / exchanged label words: Prompt Tuning 30.00 / 70.00." in table.notes


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
    few, many = (dataclasses.replace(row("DawGen", 1, 0.5), settings={"generator.num_steps": steps})
                 for steps in (1, 2))
    assert [line[2] for line in quality_table([few, many]).rows] == [
        "DawGen [generator.num_steps=1]", "DawGen [generator.num_steps=2]"]


def test_conflicts_are_tabulated_where_they_were_recorded(make_row):
    rows = [make_row("(Real, Syn) + GS", seed=seed, extras={"conflict_rate": rate, "cosine": 0.5 - seed})
            for seed, rate in enumerate((0.5, 0.25))]
    eight = make_row("(Real, Syn) + GS", k_shot=8, extras={"conflict_rate": 0.75, "cosine": -0.25})
    f1 = make_row("(Real, Syn) + GS", metric="f1", extras=rows[0].extras)
    assert conflict_table([make_row(), *rows, eight, f1]).rows == (
        ("mini-snli", "mini-t5", f"{OURS}, 8 shots", "75.00 (1)", "-0.250"),
        ("mini-snli", "mini-t5", OURS, "37.50 ± 17.68 (2)", "+0.000"))
