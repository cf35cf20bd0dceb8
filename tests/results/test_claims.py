"""Paired tests against values counted by hand and SciPy's own t test; verdicts by the stated rule."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from dawgen_jax.results.claims import claims
from dawgen_jax.results.paired import LEVEL, holm, paired_test, pairs_for_power
from dawgen_jax.results.rows import SyntheticRow

SEEDS, TASKS = (13, 21, 42, 87, 100), ("mini-snli", "mini-qqp", "mini-sick")


def arm(make_row, values, method="Prompt Tuning", **fields):
    cells = itertools.product(TASKS, SEEDS)
    return [make_row(method, value, seed, task, **fields) for (task, seed), value in zip(cells, values, strict=False)]


def test_all_differences_of_one_sign_have_the_least_p(make_row):
    base = np.linspace(0.3, 0.5, 6)
    test = paired_test(arm(make_row, base + np.array([0.1, 0.2, 0.15, 0.05, 0.12, 0.3])), arm(make_row, base))
    assert test.p_permutation == pytest.approx(2 / 2**6)
    assert (test.n, test.ahead, test.verdict(test.p_permutation)) == (6, (2, 2), "holds")
    assert test.difference == pytest.approx(0.92 / 6)
    five = paired_test(arm(make_row, base[:5] + 0.1), arm(make_row, base[:5]))
    assert five.verdict(five.p_permutation) == "undecided"  # 2/32


def test_a_p_of_just_the_level_is_undecided(make_row):
    test = paired_test(arm(make_row, [0.6, 0.7]), arm(make_row, [0.5, 0.5]))
    assert [test.verdict(p) for p in (LEVEL, np.nextafter(LEVEL, 0))] == ["undecided", "holds"]


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
    assert none.n == 0 and math.isnan(none.difference) and none.verdict(none.p_permutation) == "undecided"
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
    # Differences 10, 11, 12 five times: m = 11, s = sqrt(10 / 14) = 0.8452, t_{0.975, 14} = 2.1448, so 11 +- 0.468.
    # Two pairs of that size suffice: |t| > 12.71 where |Z| < sqrt(2) 13.01 / 12.71 = 1.45, that is in 85% of cases.
    assert lift == (
        "synthetic data lifts prompt tuning", "DawGen: (Real, Syn) + GS vs. Prompt Tuning", "holds", "51.00", "40.00",
        "+11.00", "[+10.53, +11.47]", "15", "3 of 3", "<0.001", "<0.001", "<0.001", "2")
    assert found["DawGen: (Real, Syn) + GS vs. DawGen: (Real, Syn)"][2] == "does not hold"
    assert found["DawGen: (Real, Syn) + GS vs. FewGen: (Real, Syn) + GS"][5] == "+2.00"
    assert "DawGen: (Real, Syn) + GS vs. Prompt Tuning #same-T" in found
    assert not any("Syn only" in compared or "Real -> Syn" in compared for compared in found)  # not measured


def test_writers_are_not_mixed(make_row):
    rows = [*arm(make_row, [0.5, 0.5]), *arm(make_row, [0.6, 0.6], "(Real, Syn) + GS"),
            *arm(make_row, [0.7, 0.7], "(Real, Syn) + GS", generator_backbone="big")]
    tables = {table.title.rsplit(" ", 1)[1]: table.rows[0][5] for table in claims(rows)}
    assert tables == {"mini-t5": "+10.00", "big": "+20.00"}


def test_consistency_of_synthetic_sets():
    rows = [SyntheticRow(task, "mini-t5", generator, seed, 100, 0.5, 0.2, 0.1, consistency=0.5 + up + seed / 1000)
            for task in TASKS for seed in SEEDS for generator, up in (("DawGen", 0.05 + seed / 2000), ("FewGen", 0.0))]
    unknown = SyntheticRow("mini-qqp", "other", "DawGen", 13, 100, 0.5, 0.2, 0.1)
    [table] = claims([], [*rows, unknown])
    assert table.title == "Claims in label consistency: sets written by mini-t5"
    assert table.rows[0][7:9] == ("15", "3 of 3") and table.rows[0][2] == "holds"
    [table] = claims([], [dataclasses.replace(row, settings={"generator.num_steps": 1 + row.seed % 2}) for row in rows])
    assert {line[1] for line in table.rows} == {
        f"DawGen [generator.num_steps={steps}] vs. FewGen [generator.num_steps={steps}]" for steps in (1, 2)}


def test_means_and_interval_by_hand(make_row):
    test = paired_test(arm(make_row, [0.6, 0.8, 0.7]), arm(make_row, [0.5, 0.5, 0.5]))
    # Differences 0.1, 0.3, 0.2: m = 0.2, s = 0.1, SE = 0.057735, t_{0.975, 2} = 4.302653.
    assert (test.mean_a, test.mean_b, test.difference) == pytest.approx((0.7, 0.5, 0.2))
    assert test.interval == pytest.approx((0.2 - 0.248414, 0.2 + 0.248414), abs=1e-6)
    assert test.n_power == pairs_for_power(2.0) == 5
    single = paired_test(arm(make_row, [0.6]), arm(make_row, [0.5]))
    assert all(map(math.isnan, single.interval)) and single.n_power is None
    even = paired_test(arm(make_row, [0.5, 0.5]), arm(make_row, [0.5, 0.5]))
    assert even.n_power is None and even.interval == (0.0, 0.0)


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, the last raised to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == [] and holm([0.2]) == [0.2]


@pytest.mark.parametrize(("effect", "pairs"), [
    (0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10),  # G*Power and statsmodels: 198.15, 33.37, 14.30, 9.94
    (-0.5, 34), (math.inf, 2), (0.0, None), (math.nan, None), (1e-6, None),
])
def test_pairs_for_power_against_published_values(effect, pairs):
    assert pairs_for_power(effect) == pairs


@pytest.mark.parametrize("effect", [0.35, 0.5, 1.3, 3.0, 8.0])  # of the last, with 2 pairs, a tail is next to nothing
def test_pairs_for_power_against_integration(effect):
    """The power as an integral over the sample deviation, without the noncentral t distribution."""
    def power(n):
        critical = stats.t.ppf(0.975, n - 1)
        grid = np.linspace(1e-9, stats.chi.isf(1e-13, n - 1), 20_001)
        bound = critical * grid / math.sqrt(n - 1)
        found = stats.norm.sf(bound - effect * math.sqrt(n)) + stats.norm.cdf(-bound - effect * math.sqrt(n))
        return np.trapezoid(found * stats.chi.pdf(grid, n - 1), grid)

    n = pairs_for_power(effect)
    assert power(n) >= 0.8 and (n == 2 or power(n - 1) < 0.8)


def test_verdicts_follow_the_corrected_p(make_row):
    base, up = np.linspace(0.3, 0.5, 7), np.array([0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16])
    rows = [*arm(make_row, base), *arm(make_row, base + up, "(Real, Syn) + GS")]
    [table] = claims(rows)
    assert table.rows[0][2] == "holds" and table.rows[0][10:12] == ("0.016", "0.016")  # 2 / 2^7
    others = [*arm(make_row, base, variant="same-T"), *arm(make_row, base + up, "(Real, Syn)"),
              *arm(make_row, base, "Real+Syn"), *arm(make_row, base, "Syn -> Real")]
    [table] = claims([*rows, *others])
    found = {line[1]: line for line in table.rows}
    assert len(found) == 5  # against tuning twice, pooling, ordering, and surgery, whose differences are all 0
    pooled = found["DawGen: (Real, Syn) vs. DawGen: Real+Syn"]
    assert pooled[2] == "undecided" and pooled[10:12] == ("0.016", "0.078")
    assert found["DawGen: (Real, Syn) + GS vs. DawGen: (Real, Syn)"][10:] == ("1.000", "1.000", "–")


def test_the_method_is_compared_with_the_baselines_that_were_run(make_row):
    ours = arm(make_row, [0.5, 0.6], "(Real, Syn) + GS")
    others = [*arm(make_row, [0.6, 0.8], "FT"), *arm(make_row, [0.5, 0.5], "LoRA"),
              *arm(make_row, [0.3, 0.3], "Prompting (zero-shot)"),
              *arm(make_row, [0.5, 0.6], "(Real, Syn) + GS", generator="FewGen")]
    [table] = claims([*ours, *others])
    assert [(line[1], line[5]) for line in table.rows if line[0] == "the method is above the baselines"] == [
        ("DawGen: (Real, Syn) + GS vs. FT", "-15.00"), ("DawGen: (Real, Syn) + GS vs. LoRA", "+5.00")]


def test_lora_with_synthetic_data_is_compared_with_lora_alone(make_row):
    [table] = claims([*arm(make_row, [0.5, 0.5], "LoRA"), *arm(make_row, [0.6, 0.6], "LoRA (Real, Syn) + GS")])
    assert table.rows[0][:2] == ("synthetic data lifts LoRA", "DawGen: LoRA (Real, Syn) + GS vs. LoRA")


def test_arms_are_compared_only_where_their_settings_agree(make_row):
    def pair(rate, tuning, surgery):
        settings = {"classifier.learning_rate": rate}
        return [*arm(make_row, [tuning] * 2, settings=settings),
                *arm(make_row, [surgery] * 2, "(Real, Syn) + GS", settings=settings | {"classifier.epsilon": 1.0})]

    low, high = pair(0.2, 0.4, 0.5), pair(0.3, 0.4, 0.7)
    [table] = claims([*low, *high])
    marks = (f"[classifier.learning_rate={rate}]" for rate in (0.2, 0.3))
    assert [line[1] for line in table.rows] == [
        f"DawGen: (Real, Syn) + GS {mark} vs. Prompt Tuning {mark}" for mark in marks]
    assert [line[5] for line in table.rows] == ["+10.00", "+30.00"]
    [table] = claims([*low[:2], *high[2:]])
    assert table.rows == () and table.notes[-1] == (
        "Not compared, because their settings differ (classifier.learning_rate): "
        "DawGen: (Real, Syn) + GS vs. Prompt Tuning.")
