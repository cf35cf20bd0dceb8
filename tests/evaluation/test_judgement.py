"""Verdicts on sets whose quality is known by construction."""

import numpy as np
import pytest

from dawgen_jax import miniworld
from dawgen_jax.data.pools import Example
from dawgen_jax.evaluation.quality.judgement import Real, agreement, appraise, fidelity, one_per_first_sentence
from dawgen_jax.miniworld import TASKS
from dawgen_jax.synthesis.filtering import Sample

LABELS = TASKS["mini-mrpc"].labels


@pytest.fixture(scope="module")
def pools():
    return miniworld.pools("mini-mrpc")


@pytest.fixture(scope="module")
def real(pools):
    return Real(pools.train[:32], pools.train[:1000])


def figures(pairs, real, test=(), scores=()):
    """Figures by name."""
    samples = [Sample(Example(*pair), place, scores=scores[place] if scores else ())
               for place, pair in enumerate(pairs)]
    return {figure.name: figure for figure in appraise(samples, LABELS, real, test).figures}


def warned(found):
    return {name for name, figure in found.items() if figure.warning}


def test_real_pairs_pass_for_a_good_set(pools, real):
    fresh = list(dict.fromkeys(pools.train[1000:]))[:150]
    found = figures(fresh, real)
    assert warned(found) <= {"near duplicates"}  # the mini world's sentences are few
    assert found["rarest label"].verdict == "Every label has enough samples."
    assert found["near copies of shots"].real is not None


def test_one_sentence_over_and_over_is_found_out(real):
    found = figures([(f"{pair.sentence1} {place}", "a dog runs .", pair.label)
                     for place, pair in enumerate(real.heldout[100:300])], real)
    assert {"distinct-1", "distinct-2", "self-BLEU", "Vendi score", "length distance"} <= warned(found)
    assert found["Vendi score"].value == pytest.approx(1.0) and found["self-BLEU"].value == pytest.approx(1.0)
    assert "fewer different sentences than among real ones (64 of each)" in found["Vendi score"].verdict


def test_lengths_balance_and_copies_are_judged(pools, real):
    fresh = pools.train[1000:1100]
    found = figures([(pair.sentence1, f"{pair.sentence2} {pair.sentence2}", "equivalent") for pair in fresh], real)
    assert {"length", "length distance", "rarest label"} <= warned(found)
    assert "longer than real" in found["length"].verdict
    assert found["rarest label"].verdict == "No sample has the label 'not_equivalent', so it cannot be learned."
    found = figures([(pair.sentence1, pair.sentence1 if place < 10 else pair.sentence2, pair.label)
                     for place, pair in enumerate(fresh)], real)
    assert "copies of sentence 1" in warned(found) and found["copies of sentence 1"].value >= 0.1
    uneven = [*[pair._replace(label="equivalent") for pair in fresh[:95]],
              *[pair._replace(label="not_equivalent") for pair in fresh[95:]]]
    assert figures(uneven, real)["rarest label"].verdict == "Label 'not_equivalent' has only 5 of 100 samples."


def test_memory_is_judged_against_unseen_pairs(pools, real):
    first = [pair.sentence1 for pair in pools.train[1000:1090]]
    repeated = [(one, real.shots[place % 32].sentence2, "equivalent") for place, one in enumerate(first)]
    found = figures(repeated, real)["near copies of shots"]
    assert found.warning and found.value == 1.0 and found.real < 0.5 and "memorised" in found.verdict
    alone = figures(repeated, Real(real.shots))["near copies of shots"]
    assert alone.warning and alone.real is None and "only --heldout pairs can show" in alone.verdict


def test_repeats_contradictions_and_leaks_are_counted(pools, real):
    fresh = list(dict.fromkeys((pair.sentence1, pair.sentence2) for pair in pools.test))[:40]
    pairs = [(*pair, LABELS[place % 2]) for place, pair in enumerate(fresh)]
    other = [(*pair[:2], "equivalent") for pair in pairs[10:14]]
    twice = figures([*pairs, *pairs[:10], *other], real, pools.test[:600])
    assert twice["near duplicates"].value >= 14 / 54
    assert " of them under another label" in twice["near duplicates"].verdict
    assert twice["leaks of the test set"].warning and twice["leaks of the test set"].value == 1.0
    away = [("this one is nowhere", "nor is that", "equivalent"), ("nothing like it at all", "x", "not_equivalent")]
    clean = figures(away, real, pools.test[:600])
    assert not clean["leaks of the test set"].warning and not clean["near duplicates"].warning
    assert "leaks of the test set" not in figures(away, real)


def test_single_texts_are_pairs_without_a_first_sentence(pools):
    texts = list(dict.fromkeys(pair.sentence2 for pair in pools.train))[:140]
    single = [Example("", text, LABELS[place % 2]) for place, text in enumerate(texts)]
    found = figures([*single[40:], single[0], single[139]], Real(single[:20], single[:40]), single[100:101])
    assert found["copies of sentence 1"].value == 0.0 and found["near copies of shots"].value >= 1 / 102
    assert found["near duplicates"].value >= 1 / 102 and found["leaks of the test set"].value >= 1 / 102


def test_margins_are_summed_up(real):
    pairs = [(f"sentence {place}", f"other {place * 7}", LABELS[place % 2]) for place in range(40)]
    good = figures(pairs, real, scores=[(-5.0, -9.0) if place % 2 == 0 else (-9.0, -5.0) for place in range(40)])
    assert good["margin above 0"].value == 1.0 and good["median margin"].value == 4.0
    assert "54.6 times as likely" in good["median margin"].verdict
    bad = figures(pairs, real, scores=[(-5.0, -9.0)] * 40)
    assert bad["margin above 0"].value == 0.5 and bad["margin above 0"].warning
    assert "likelier under another one (20 of 20 with label 'equivalent')" in bad["margin above 0"].verdict
    assert not {"margin above 0", "median margin"} & figures(pairs, real).keys()


def test_agreement_needs_a_good_prompt():
    labels = ["a", "b"] * 10
    assert not agreement(labels, labels, 20, classes=2).warning
    assert agreement([*labels, *labels], ["a"] * 20 + labels, 20, classes=2).warning
    weak = agreement([*labels, *labels], labels + ["a"] * 20, 20, classes=2)
    assert weak.warning and weak.real == 0.5 and "often wrong on real pairs" in weak.verdict


def test_fidelity_says_when_a_sample_is_too_small():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)), rng.normal(size=(150, 3))
    assert not fidelity(x, y).warning and "cannot be distinguished" in fidelity(x, y).verdict
    assert "Too few" in fidelity(x, y[:20]).verdict and fidelity(x, y[:20]).warning
    assert "by more than chance (p = 0.001, 200 against 150 sentences)" in fidelity(x, y + 1).verdict
    assert fidelity(x, y[:1]).value is None


def test_one_pair_per_first_sentence_is_drawn():
    pairs = [Example(f"s{place // 3}", f"t{place}", "equivalent") for place in range(30)]
    drawn = one_per_first_sentence(pairs, 0)
    assert sorted(pair.sentence1 for pair in drawn) == sorted({pair.sentence1 for pair in pairs})
    assert set(drawn) <= set(pairs) and len(one_per_first_sentence(pairs, 0, 4)) == 4
    single = [pair._replace(sentence1="") for pair in pairs]
    assert sorted(one_per_first_sentence(single, 0)) == sorted(single)
    assert {pair.sentence2 for pair in drawn} != {pair.sentence2 for pair in one_per_first_sentence(pairs, 1)}


def test_the_reference_is_unseen_if_possible(real):
    assert not set(real.reference) & set(real.shots)
    assert Real(real.shots, real.shots).reference is real.shots
    with pytest.raises(ValueError, match="at least one"):
        appraise([], LABELS, real)
