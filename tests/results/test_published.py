"""The published tables are carried whole, and stand beside ours only where they may."""

import pytest

from dawgen_jax.config import METHODS
from dawgen_jax.results.published import published_cell, published_rows
from dawgen_jax.tasks import SEVEN

CELL = dict(backbone="T5-large", generator="DawGen", method="(Real, Syn) + GS", task="SICK", metric="accuracy",
            n_test=4906, k_shot=16, variant="")


def test_rows_and_columns():
    rows = published_rows()
    assert len(rows) == 47
    assert [sum(row.table == table for row in rows) for table in ("main", "combination", "ablation")] == [17, 18, 12]
    assert all(set(row.accuracy) == set(SEVEN) or row.method.endswith("(dagger)") for row in rows)
    # Every method that can be run stands in the file under the same string.
    assert set(METHODS) <= {row.method for row in rows}


def test_averages_are_truncated_in_eleven_cells_and_wrong_in_one():
    off = {}
    for row in published_rows():
        if row.average is not None:
            difference = sum(row.accuracy.values()) / 7 - row.average
            if abs(difference) > 0.0051:
                off[row.table, row.backbone, row.generator, row.method] = difference
    wrong = off.pop(("main", "T5-large", "", "Prompt Tuning"))
    assert wrong == pytest.approx(43.557 - 43.49, abs=1e-3)
    assert len(off) == 11 and len({(backbone, generator, method) for _, backbone, generator, method in off}) == 9
    assert all(0.0055 < difference < 0.0095 for difference in off.values())  # printed below the mean: cut, not rounded


def test_repeated_cells_agree():
    seen = {}
    for row in published_rows():
        method = "(Real, Syn) + GS" if row.method == "Ours" else row.method
        assert seen.setdefault((row.backbone, row.generator, method), row.accuracy) == row.accuracy
    assert len(seen) == 41


def test_the_claim_over_full_tuning():
    main = {row.method: row.average for row in published_rows() if (row.table, row.backbone) == ("main", "T5-large")}
    assert main["Ours"] - main["FT"] == pytest.approx(3.81)


def test_a_cell_that_matches_in_everything():
    assert published_cell(**CELL) == (72.73, "")
    zero_shot = CELL | dict(generator="", method="Prompting (zero-shot)", k_shot=0)
    assert published_cell(**zero_shot) == (14.51, "")


@pytest.mark.parametrize(("change", "reason"), [
    (dict(n_test=4927), "SICK: n_test 4927, published on 4906"),
    (dict(backbone="mini-t5"), "backbone mini-t5 is not in the paper"),
    (dict(task="mini-sick"), "task mini-sick is not in the paper"),
    (dict(metric="f1"), "the paper prints accuracy, not f1"),
    (dict(k_shot="full"), "full shots: the paper has 16"),
    (dict(k_shot=8), "8 shots: the paper has 16"),
    (dict(variant="cut"), "variant 'cut' is not in the paper"),
    (dict(method="Real+Syn+LS"), "DawGen: Real+Syn+LS has no row for T5-large in the paper"),
    (dict(generator="", method="PPT"), "PPT: the printed row is T5-XXL's (410K parameters)"),
    (dict(generator="", method="SPoT (dagger)"), "SPoT (dagger): the paper quotes it from 8-shot experiments"),
])
def test_any_difference_is_stated(change, reason):
    assert published_cell(**CELL | change) == (None, reason)
