"""Near copies against all pairs compared one by one; samples with known faults, and the rules that drop them."""

import numpy as np
import pytest

from dawgen_jax.data.pools import Example
from dawgen_jax.errors import ConfigError
from dawgen_jax.evaluation.quality.flags import (
    Match,
    Rules,
    flag,
    jaccard,
    leak_rows,
    margin,
    near_copies,
    near_duplicates,
    refine,
    shingles,
)
from dawgen_jax.synthesis.filtering import LabelCount, Sample

WORDS = ["a", "the", "boy", "girl", "dog", "cat", "runs", "sleeps", "walks", "in", "near", "park", "house", "street",
         "big", "small", "red", "old", "quickly", "slowly"]


def invented(count, seed, base=None):
    """Sentences of ten words; with ``base``, each is one of those with up to three words exchanged."""
    rng = np.random.default_rng(seed)
    sentences = []
    for _ in range(count):
        words = list(rng.choice(WORDS, 10)) if base is None else base[rng.integers(len(base))].split()
        for place in rng.integers(0, 10, rng.integers(0, 4)):
            words[place] = str(rng.choice(WORDS))
        sentences.append(" ".join(words))
    return sentences


def similarity(left, right):
    return min(jaccard(shingles(one), shingles(other)) for one, other in zip(left, right, strict=True))


@pytest.fixture(scope="module")
def texts():
    first = invented(60, 0)
    second = invented(150, 1, first)
    pairs = [(one, other) for one, other in zip(first, invented(60, 2), strict=True)]
    near = zip(second[:60], invented(60, 3, [other for _, other in pairs]), strict=True)
    return {"one": ([(text,) for text in second], [(text,) for text in first]), "two": ([*near, *pairs[:5]], pairs)}


@pytest.mark.parametrize("parts", ["one", "two"])
@pytest.mark.parametrize("threshold", [0.4, 0.6, 0.8, 1.0])
def test_matches_are_those_of_all_pairs(texts, parts, threshold):
    queries, references = texts[parts]
    best = [max((similarity(query, other), -place) for place, other in enumerate(references)) for query in queries]
    expected = [Match(-place, value) if value >= threshold else None for value, place in best]
    assert near_copies(queries, references, threshold) == expected
    assert any(expected) and not all(expected)


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_no_two_that_are_kept_are_near_copies_and_all_others_are(texts, threshold):
    given = texts["one"][0]
    for order in (None, list(reversed(range(len(given))))):
        found = near_duplicates(given, threshold, order)
        kept = [place for place, match in enumerate(found) if match is None]
        assert 1 < len(kept) < len(given)
        assert all(similarity(given[one], given[other]) < threshold for one in kept for other in kept if one < other)
        for place, match in enumerate(found):
            if match:
                assert match.position in kept
                assert match.similarity == similarity(given[place], given[match.position]) >= threshold
        assert (order or [0])[0] in kept  # what comes first is kept


def test_both_sentences_of_a_pair_must_be_near():
    long = "the committee that met on monday said in a letter of two pages that it will change no rule"
    assert near_copies([(long, "a boy runs home")], [(long, "the sun is hot")], 0.5) == [None]
    assert near_copies([(long, "A boy runs home!")], [(long, "a boy runs home")], 0.5) == [Match(0, 1.0)]


def test_texts_without_words_and_lone_surrogates_are_texts_too():
    assert near_copies([("",), ("...",), ("\ud800 boy",)], [("",), ("\ud800 boy",)], 0.8) == [
        Match(0, 1.0), Match(0, 1.0), Match(1, 1.0)]
    assert near_copies([], [("a",)], 0.8) == [] and near_copies([("a",)], [], 0.8) == [None]
    assert near_duplicates([], 0.8) == []


LABELS = ("yes", "no")
SHOTS = [Example("a boy runs in the park", "a child moves outside", "yes"), Example("the sun is hot", "?", "no")]
TEST = [Example("two dogs bark at the moon", "animals make noise", "yes")]
SAMPLES = [Sample(Example(*pair), place, cut=place == 1, scores=scores) for place, (*pair, scores) in enumerate([
    ("a cat sleeps on the sofa", "an animal rests at home", "yes", (-1.0, -4.0)),      # 0 good
    ("a cat sleeps on the sofa", "A cat sleeps on the sofa!", "yes", (-1.0, -2.0)),    # 1 copies sentence 1
    ("the moon is bright tonight", "A child moves outside .", "no", (-9.0, -2.0)),     # 2 repeats a shot
    ("Two dogs bark at the moon.", "Animals make noise .", "no", (-5.0, -3.0)),        # 3 leaks a test pair
    ("an old man reads a book", "somebody is reading", "yes", (-6.0, -2.5)),           # 4 is another label's
    ("a cat sleeps on the sofa", "an animal rests at home .", "no", (-9.0, -1.0)),     # 5 repeats 0 with more margin
    ("an old man reads a book", "nobody is reading", "no", (-6.0, -2.5)),              # 6 good
])]
COUNTS = {"yes": LabelCount(3, 9, 4, 3, 1, 1, {"empty": 4}), "no": LabelCount(4, 4, 4, 4, 0, 0, {})}


def flagged(rules):
    return flag(SAMPLES, LABELS, SHOTS, TEST, rules)


def test_each_fault_is_flagged_and_nothing_else():
    flags = flagged(Rules())
    assert [place for place, found in enumerate(flags) if found.verbatim] == [1]
    assert [round(found.similarity, 2) for found in flags].count(1.0) == 1
    assert {place: found.shot.position for place, found in enumerate(flags) if found.shot} == {2: 0}
    assert {place: found.duplicate.position for place, found in enumerate(flags) if found.duplicate} == {0: 5}
    assert {place: found.leak.position for place, found in enumerate(flags) if found.leak} == {3: 0}
    assert [found.margin for found in flags] == [3.0, 1.0, 7.0, 2.0, -3.5, 8.0, 3.5]
    assert margin(SAMPLES[0]._replace(scores=()), LABELS) is None


@pytest.mark.parametrize(("rules", "gone"), [
    (Rules(), {}),
    (Rules(max_copy=0.99), {1: "copy of sentence 1", 2: "copy of a shot"}),
    (Rules(min_margin=0.0), {4: "label margin"}),
    (Rules(min_margin=3.0), {1: "label margin", 3: "label margin", 4: "label margin"}),
    (Rules(dedup=True), {0: "near copy of another sample"}),
    (Rules(drop_leaks=True), {3: "near copy of a test pair"}),
    (Rules(dedup=True, min_margin=0.0, drop_leaks=True, max_copy=0.99), {
        0: "near copy of another sample", 1: "copy of sentence 1", 2: "copy of a shot", 3: "near copy of a test pair",
        4: "label margin"}),
])
def test_each_rule_drops_what_it_names(rules, gone):
    left, dropped = refine(SAMPLES, COUNTS, flagged(rules), rules)
    assert left.samples == [sample for place, sample in enumerate(SAMPLES) if place not in gone]
    counted = {label: {} for label in LABELS}
    for place, reason in gone.items():
        counts = counted[SAMPLES[place].example.label]
        counts[reason] = counts.get(reason, 0) + 1
    assert dropped == counted
    assert rules.active == bool(gone)


def test_a_sample_that_another_rule_drops_takes_no_copy_with_it():
    rules = Rules(dedup=True, min_margin=0.0)
    samples = [SAMPLES[0], SAMPLES[5]._replace(scores=(-1.0, -2.0))]  # the second is dropped for its margin
    samples[0] = samples[0]._replace(scores=(-1.0, -1.0))
    left, _ = refine(samples, COUNTS, flag(samples, LABELS, SHOTS, (), rules), rules)
    assert left.samples == samples[:1]


def test_the_first_is_kept_where_there_are_no_margins():
    samples = [sample._replace(scores=()) for sample in SAMPLES]
    rules = Rules(dedup=True)
    left, _ = refine(samples, COUNTS, flag(samples, LABELS, SHOTS, (), rules), rules)
    assert left.samples == [sample for sample in samples if sample.index != 5]


def test_counts_still_add_up():
    rules = Rules(min_margin=0.0, max_copy=0.99, dedup=True)
    left, _ = refine(SAMPLES, COUNTS, flagged(rules), rules)
    assert left.counts["yes"] == LabelCount(3, 9, 1, 0, 0, 1, {
        "empty": 4, "near copy of another sample": 1, "copy of sentence 1": 1, "label margin": 1})
    assert left.counts["no"] == LabelCount(4, 4, 3, 3, 0, 0, {"copy of a shot": 1})
    rules = Rules(min_margin=3.0)
    again, dropped = refine(left.samples, left.counts, flag(left.samples, LABELS, SHOTS, TEST, rules), rules)
    assert dropped == {"yes": {}, "no": {"label margin": 1}} and again.counts["yes"] == left.counts["yes"]
    assert again.counts["no"] == LabelCount(4, 4, 2, 2, 0, 0, {"copy of a shot": 1, "label margin": 1})
    for count in (*left.counts.values(), *again.counts.values()):
        assert count.made == count.accepted + sum(count.rejected.values()) + count.surplus


def test_leaks_are_shown_with_the_test_pair():
    assert leak_rows(SAMPLES, flagged(Rules()), TEST) == [{
        "row": 4, "sentence1": "Two dogs bark at the moon.", "sentence2": "Animals make noise .", "label": "no",
        "similarity": 1.0, "test_row": 1, "test": TEST[0]._asdict()}]


@pytest.mark.parametrize(("field", "value"), [("near", 0.0), ("near", 1.1), ("max_copy", -0.1),
                                              ("min_margin", float("nan"))])
def test_rules_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=rf"Rules\.{field} = .*: must be"):
        Rules(**{field: value})
