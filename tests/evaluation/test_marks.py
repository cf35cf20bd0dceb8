"""Marks of samples whose faults are known, and the rules that drop exactly these."""

from collections import Counter

import pytest

from dawgen_jax.data.pools import Example
from dawgen_jax.errors import ConfigError
from dawgen_jax.evaluation.marks import Rules, leak_rows, margin, mark, refine, reselect
from dawgen_jax.synthesis.filtering import LabelCount, Sample

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


def marked(rules):
    return mark(SAMPLES, LABELS, SHOTS, TEST, rules)


def test_each_fault_is_marked_and_nothing_else():
    marks = marked(Rules())
    assert [place for place, found in enumerate(marks) if found.verbatim] == [1]
    assert [round(found.copied, 2) for found in marks].count(1.0) == 1
    assert {place: found.shot.position for place, found in enumerate(marks) if found.shot} == {2: 0}
    assert {place: found.twin.position for place, found in enumerate(marks) if found.twin} == {0: 5}
    assert {place: found.leak.position for place, found in enumerate(marks) if found.leak} == {3: 0}
    assert [found.margin for found in marks] == [3.0, 1.0, 7.0, 2.0, -3.5, 8.0, 3.5]
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
    kept, dropped = refine(SAMPLES, LABELS, marked(rules), rules)
    assert kept == [sample for place, sample in enumerate(SAMPLES) if place not in gone]
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
    kept, _ = refine(samples, LABELS, mark(samples, LABELS, SHOTS, (), rules), rules)
    assert kept == samples[:1]


def test_the_first_is_kept_where_there_are_no_margins():
    samples = [sample._replace(scores=()) for sample in SAMPLES]
    rules = Rules(dedup=True)
    kept, _ = refine(samples, LABELS, mark(samples, LABELS, SHOTS, (), rules), rules)
    assert kept == [sample for sample in samples if sample.index != 5]


def test_counts_still_add_up():
    rules = Rules(min_margin=0.0, max_copy=0.99, dedup=True)
    kept, dropped = refine(SAMPLES, LABELS, marked(rules), rules)
    selection = reselect(kept, COUNTS, dropped)
    assert selection.samples == kept
    assert selection.counts["yes"] == LabelCount(3, 9, 1, 0, 0, 1, {
        "empty": 4, "near copy of another sample": 1, "copy of sentence 1": 1, "label margin": 1})
    assert selection.counts["no"].kept == 3
    again = reselect(kept[1:], selection.counts, {"yes": Counter(), "no": Counter({"copy of a shot": 1, "leak": 1})})
    assert again.counts["no"].rejected == {"copy of a shot": 2, "leak": 1}
    for count in (*selection.counts.values(), *again.counts.values()):
        assert count.made == count.accepted + sum(count.rejected.values()) + count.surplus


def test_leaks_are_shown_with_the_test_pair():
    assert leak_rows(SAMPLES, marked(Rules()), TEST) == [{
        "row": 4, "sentence1": "Two dogs bark at the moon.", "sentence2": "Animals make noise .", "label": "no",
        "similarity": 1.0, "test_row": 1, "test": TEST[0]._asdict()}]


@pytest.mark.parametrize(("field", "value"), [("near", 0.0), ("near", 1.1), ("max_copy", -0.1),
                                              ("min_margin", float("nan"))])
def test_rules_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"--{field.replace('_', '-')} .*: must be"):
        Rules(**{field: value})
