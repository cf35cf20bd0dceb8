"""Paired tests against values counted by hand and SciPy's own t test; verdicts by the stated rule."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from dawgen_jax.results.claims import claims, paired_test
from dawgen_jax.results.rows import SyntheticRow

SEEDS, TASKS = (13, 21, 42, 87, 100), ("mini-snli", "mini-qqp", "mini-sick")


def arm(make_row, values, method="Prompt Tuning", **fields):
    cells = itertools.product(TASKS, SEEDS)
    return [make_row(method, value, seed, task, **fields) for (task, seed), value in zip(cells, values, strict=False)]


def test_all_differences_of_one_sign_have_the_least_p(make_row):
    base = np.linspace(0.3, 0.5, 6)
    test = paired_test(arm(make_row, base + np.array([0.1, 0.2, 0.15, 0.05, 0.12, 0.3])), arm(make_row, base))
    assert test.p_permutation == pytest.approx(2 / 2**6)
    assert (test.n, test.ahead, test.verdict) == (6, (2, 2), "holds")
    assert test.difference == pytest.approx(0.92 / 6)
    assert paired_test(arm(make_row, base[:5] + 0.1), arm(make_row, base[:5])).verdict == "undecided"  # 2/32


def test_p_values_against_enumeration_and_scipy(make_row):
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.4, 0.6, 9), rng.uniform(0.35, 0.6, 9)
    test, d = paired_test(arm(make_row, a), arm(make_row, b)), a - b
    assert test.p_t == pytest.approx(stats.ttest_rel(a, b).pvalue)
    flips = [abs(np.dot(signs, d)) >= abs(d.sum()) - 1e-12 for signs in itertools.product((1, -1), repeat=9)]
    assert test.p_permutation == pytest.approx(np.mean(flips))


def test_many_pairs_are_sampled_and_agree_with_the_t_test(make_row):
    rng = np.random.default_rng(0)
    a = 0.5 + rng.normal(0.01, 0.02, 35)
    rows = [[make_row("FT", value, seed) for seed, value in enumerate(values)] for values in (a, np.full(35, 0.5))]
    test = paired_test(*rows)
    assert test.n == 35 and 0 < test.p_permutation < 1
    assert test.p_permutation == pytest.approx(test.p_t, abs=0.01)
    assert test == paired_test(*rows)  # the same random signs every time


def test_degenerate_pairs(make_row):
    one, two = arm(make_row, [0.5]), arm(make_row, [0.5, 0.5])
    none = paired_test(one, [])
    assert none.n == 0 and math.isnan(none.difference) and none.verdict == "undecided"
    single = paired_test(one, one)
    assert math.isnan(single.p_t) and single.p_permutation == 1.0
    assert paired_test(two, two).p_t == 1.0
    with pytest.raises(ValueError, match="Two rows for task mini-snli, seed 13"):
        paired_test(one + one, one)


def test_pairs_are_matched_by_task_and_seed_not_by_order(make_row):
    a, b = arm(make_row, [0.1, 0.2, 0.3, 0.4]), arm(make_row, [0.1, 0.2, 0.3, 0.4])
    test = paired_test(a, b[::-1][:3])
    assert (test.n, test.difference) == (3, 0.0)


def test_claims_state_difference_pairs_and_verdict(make_row):
    base = np.linspace(0.3, 0.5, 15)
    noise = np.tile([0.0, 0.01, 0.02], 5)
    rows = [
        *arm(make_row, base), *arm(make_row, base, k_shot="full"),
        *arm(make_row, base + 0.02 - noise, variant="same-T"),
        *arm(make_row, base + 0.1 + noise, "(Real, Syn) + GS"), *arm(make_row, base + 0.2, "(Real, Syn)"),
        *arm(make_row, base + 0.1 - noise, "(Real, Syn) + GS", generator="FewGen"),
        *arm(make_row, base, "Syn only", metric="f1"),
    ]
    [table] = claims(rows)
    assert table.title == "Claims in accuracy: mini-t5, 16 shots, synthetic data by mini-t5"
    found = {line[1]: line for line in table.rows}
    lift = found["DawGen: (Real, Syn) + GS vs. Prompt Tuning"]
    assert lift == ("synthetic data lifts prompt tuning", "DawGen: (Real, Syn) + GS vs. Prompt Tuning", "+11.00", "15",
                    "3 of 3", "<0.001", "<0.001", "holds")
    assert found["DawGen: (Real, Syn) + GS vs. DawGen: (Real, Syn)"][-1] == "does not hold"
    assert found["DawGen: (Real, Syn) + GS vs. FewGen: (Real, Syn) + GS"][2] == "+2.00"
    assert "DawGen: (Real, Syn) + GS vs. Prompt Tuning #same-T" in found
    assert not any("Syn only" in compared or "Real -> Syn" in compared for compared in found)  # not measured


def test_writers_are_not_mixed(make_row):
    rows = [*arm(make_row, [0.5, 0.5]), *arm(make_row, [0.6, 0.6], "(Real, Syn) + GS"),
            *arm(make_row, [0.7, 0.7], "(Real, Syn) + GS", generator_backbone="big")]
    tables = {table.title.rsplit(" ", 1)[1]: table.rows[0][2] for table in claims(rows)}
    assert tables == {"mini-t5": "+10.00", "big": "+20.00"}


def test_consistency_of_synthetic_sets():
    rows = [SyntheticRow(task, "mini-t5", generator, seed, 100, 0.5, 0.2, 0.1, consistency=0.5 + up + seed / 1000)
            for task in TASKS for seed in SEEDS for generator, up in (("DawGen", 0.05 + seed / 2000), ("FewGen", 0.0))]
    unknown = SyntheticRow("mini-qqp", "other", "DawGen", 13, 100, 0.5, 0.2, 0.1)
    [table] = claims([], [*rows, unknown])
    assert table.title == "Claim in label consistency: sets written by mini-t5"
    assert table.rows[0][3:5] == ("15", "3 of 3") and table.rows[0][-1] == "holds"
