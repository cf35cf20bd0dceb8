"""Rejection rules, dedup, enough, balance, counts and the errors with a way out."""

import random

import pytest

from dawgen_jax.config import SynthesisConfig
from dawgen_jax.data.pools import Example
from dawgen_jax.errors import UserError
from dawgen_jax.synthesis.filtering import Sample, Selector, rejection
from dawgen_jax.tasks import SEVEN

QNLI, RTE = SEVEN["QNLI"], SEVEN["RTE"]
YES, NO = RTE.labels


def sample(index=0, label=YES, sentence2="it is so.", cut=False, sentence1=None):
    return Sample(Example(sentence1 or f"first {index}", sentence2, label), index, cut)


@pytest.mark.parametrize(("task", "made", "unfinished", "reason"), [
    (RTE, sample(), "reject", ""),
    (RTE, sample(cut=True), "reject", "unfinished"),
    (RTE, sample(cut=True), "cut", ""),
    (RTE, sample(sentence2=" "), "reject", "empty"),
    (RTE, sample(sentence2="", cut=True), "cut", "empty"),
    (RTE, sample(sentence2="a\nb"), "reject", "newline"),
    (RTE, sample(sentence2="\nb"), "reject", "newline"),
    (RTE, sample(sentence2="is it?"), "reject", ""),
    (QNLI, sample(sentence2="it is? Yes."), "reject", "contains '?'"),
])
def test_rules(task, made, unfinished, reason):
    assert rejection(made, task, SynthesisConfig(unfinished=unfinished)) == reason


def test_duplicates_count_within_a_label_and_only_among_accepted_ones():
    selector = Selector(RTE, SynthesisConfig(samples_per_label=5))
    selector.add([sample(0, sentence1="s", cut=True), sample(1, sentence1="s"), sample(2, sentence1="s"),
                  sample(1, NO, sentence1="s")])
    selection = selector.select()
    assert [(s.index, s.example.label) for s in selection.samples] == [(1, YES), (1, NO)]
    assert selection.counts[YES].rejected == {"unfinished": 1, "duplicate sentence 1": 1}
    assert selection.counts[NO].rejected == {}


def test_stops_at_what_is_wanted():
    selector = Selector(RTE, SynthesisConfig(samples_per_label=2))
    for index in range(4):
        assert selector.enough() == (index >= 3)
        selector.add([sample(index), sample(index, NO, cut=index == 0)])
    assert selector.accepted() == {YES: 2, NO: 2}
    counts = selector.select().counts
    assert counts[YES]._asdict() == {"wanted": 2, "made": 4, "accepted": 2, "kept": 2, "cut": 0, "surplus": 2,
                                     "rejected": {}}
    assert counts[NO].surplus == 1 and counts[NO].rejected == {"unfinished": 1}
    assert selector.select().warnings == []


@pytest.mark.parametrize(("balance", "kept"), [(True, {YES: 2, NO: 2}), (False, {YES: 4, NO: 2})])
def test_balance_keeps_the_first_and_interleaves(balance, kept):
    selector = Selector(RTE, SynthesisConfig(samples_per_label=9, balance=balance))
    selector.add([sample(i, label, cut=label == NO and i in (0, 3)) for i in range(4) for label in RTE.labels])
    selection = selector.select()
    assert {label: count.kept for label, count in selection.counts.items()} == kept
    assert {label: count.accepted for label, count in selection.counts.items()} == {YES: 4, NO: 2}
    order = [(s.index, RTE.labels.index(s.example.label)) for s in selection.samples]
    assert order == sorted(order)
    assert [s.index for s in selection.samples if s.example.label == YES] == list(range(kept[YES]))
    assert "label 'not_entailment' has 2 accepted samples of 9 wanted (4 made, rejected: 2 unfinished)" in (
        selection.warnings[1])


def test_counts_add_up_and_cut_ones_are_marked():
    rng = random.Random(0)
    selector = Selector(QNLI, SynthesisConfig(samples_per_label=30, unfinished="cut"))
    selector.add([sample(i, label, rng.choice(["", "a?", "b", "c\n"]), cut=rng.random() < 0.3, sentence1=f"{i % 70}")
                  for i in range(200) for label in QNLI.labels])
    selection = selector.select()
    for label, count in selection.counts.items():
        assert count.made == 200 == count.accepted + count.surplus + sum(count.rejected.values())
        kept = [s for s in selection.samples if s.example.label == label]
        assert len(kept) == count.kept and sum(s.cut for s in kept) == count.cut > 0
        assert len({s.example.sentence1 for s in kept}) == len(kept)


@pytest.mark.parametrize(("made", "way_out"), [
    ([sample(0, NO, cut=True), sample(1, NO, cut=True), sample(2, NO, "")],
     r"\(3 made, rejected: 2 unfinished, 1 empty\): keep .* synthesis.unfinished = 'cut', raise "
     r"synthesis.max_new_tokens, or tune the generator for longer\."),
    ([sample(0, NO, "")], r"\(1 made, rejected: 1 empty\): tune the generator for longer"),
    ([], r"\(0 made, rejected: none\): give a corpus"),
])
def test_nothing_accepted(made, way_out):
    selector = Selector(RTE, SynthesisConfig())
    selector.add([sample(), *made])
    with pytest.raises(UserError, match="RTE: no sample of label 'not_entailment' was accepted " + way_out):
        selector.select()
