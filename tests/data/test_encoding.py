"""Features: whole-text tokenisation, the truncation rule, infix places, targets, padding."""

import dataclasses

import numpy as np
import pytest

from dawgen_jax.config import GeneratorConfig
from dawgen_jax.data.encoding import (
    classifier_arrays,
    demonstration_arrays,
    generator_arrays,
    rectangle,
    source_arrays,
    template_rows,
)
from dawgen_jax.data.pools import Example, load_pools
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import SEVEN

SNLI, MRPC = SEVEN["SNLI"], SEVEN["MRPC"]
PAIRS = [Example("the dog runs", "the cat sleeps not", "contradiction"), Example("cat", "", "entailment")]


def filled(task, example):
    return (task.template.replace("{sentence1}", example.sentence1).replace("{sentence2}", example.sentence2)
            .replace("<mask>", "<extra_id_0>"))


@pytest.mark.parametrize("task", [SNLI, MRPC], ids=["SNLI", "MRPC"])
def test_rows_are_the_whole_text_tokenised(words, task):
    whole = words.tokenizer([filled(task, pair) for pair in PAIRS])["input_ids"]
    assert template_rows(words, task, PAIRS, 100) == whole


def test_arrays(words):
    batch = classifier_arrays(words, SNLI, PAIRS, 100, 4)
    assert batch.tokens.shape == (2, 16) and batch.tokens.dtype == batch.label.dtype == np.int32
    assert batch.label.tolist() == [2, 0] and batch.weight.tolist() == [1, 1]
    assert (batch.mask == (batch.tokens != 0)).all()
    assert (batch.tokens == 28).sum(1).tolist() == [1, 1]
    assert classifier_arrays(words, SNLI, PAIRS, 15, 16).tokens.shape == (2, 15), "never wider than the budget"


@pytest.mark.parametrize(("task", "budget", "text"), [
    # The template has 8 own tokens with mask and end; sentence 1 stands last in it and is cut first.
    (SNLI, 14, "hypothesis: the cat sleeps not premise: the dog answer: <extra_id_0>"),
    (SNLI, 12, "hypothesis: the cat sleeps not premise: answer: <extra_id_0>"),
    (SNLI, 10, "hypothesis: the cat premise: answer: <extra_id_0>"),
    (SNLI, 8, "hypothesis: premise: answer: <extra_id_0>"),
    # There sentence 2 stands last.
    (MRPC, 11, "the dog runs and the cat are equivalent ? <extra_id_0>"),
    (MRPC, 8, "the dog and are equivalent ? <extra_id_0>"),
])
def test_truncation_takes_tails_of_the_last_placeholder_first(words, task, budget, text):
    row = template_rows(words, task, PAIRS[:1], budget)[0]
    assert row == words.tokenizer(text)["input_ids"] and len(row) == budget


def test_template_over_the_budget(words):
    with pytest.raises(UserError, match=r"classifier.max_tokens = 7: the template of SNLI alone has 8 tokens; raise"):
        template_rows(words, SNLI, PAIRS, 7)


def test_a_text_with_braces_or_a_mask_stays_text(words):
    row = template_rows(words, SNLI, [Example("{sentence2} <mask> <extra_id_0>", "the", "neutral")], 100)[0]
    assert row.count(28) == 1 and row[-3:] == [18, 28, 1]


def test_template_without_a_mask(words):
    plain = dataclasses.replace(SNLI, template="{sentence1} {sentence2}")
    assert template_rows(words, plain, PAIRS, 6) == [[3, 4, 6, 3, 5, 1], [5, 1]]


def test_generator_rows(words):
    config = GeneratorConfig(max_source_tokens=2, max_target_tokens=3)
    batch = generator_arrays(words, SNLI, PAIRS, 2, config)
    assert batch.source.tolist() == [[3, 4, 0, 0, 1, 0, 0, 0], [5, 0, 0, 1, 0, 0, 0, 0]]
    assert batch.source_mask.tolist() == [[True] * 5 + [False] * 3, [True] * 4 + [False] * 4]
    assert batch.slots.tolist() == [[-1, -1, 0, 1, -1, -1, -1, -1], [-1, 0, 1, -1, -1, -1, -1, -1]]
    assert batch.target.tolist() == [[3, 5, 1, 0, 0, 0, 0, 0], [1] + [0] * 7], "a target that is cut keeps its end"
    assert batch.target_mask.sum(1).tolist() == [3, 1] and batch.target_mask[:, 0].all()
    assert batch.label.tolist() == [2, 0]


def test_source_rows_are_the_generators(words):
    config = GeneratorConfig(max_source_tokens=2)
    sources = source_arrays(words, [pair.sentence1 for pair in PAIRS], 2, config)
    batch = generator_arrays(words, SNLI, PAIRS, 2, config)
    for field in ("source", "source_mask", "slots"):
        np.testing.assert_array_equal(getattr(sources, field), getattr(batch, field))
    assert sources.cut.tolist() == [True, False]
    assert source_arrays(words, ["the dog", "the dog runs"], 2, config).cut.tolist() == [False, True]


def test_rectangle():
    padded, mask = rectangle([[5], [], [6, 7, 8]], 2)
    assert padded.tolist() == [[5, 0, 0, 0], [0] * 4, [6, 7, 8, 0]] and mask.sum(1).tolist() == [1, 0, 3]
    assert rectangle([], 4)[0].shape == (0, 4)
    assert rectangle([[1, 2, 3]], 2, 3)[0].shape == (1, 3)


@pytest.mark.shared
@pytest.mark.parametrize("name", list(SEVEN))
def test_real_rows_are_the_whole_text_tokenised(shared, t5, name):
    task = SEVEN[name]
    examples = load_pools(task, str(shared / "data")).scored(task)[:300]
    whole = t5.tokenizer([filled(task, example) for example in examples])["input_ids"]
    assert template_rows(t5, task, examples, 10_000) == whole
    for row, full in zip(template_rows(t5, task, examples, 40), whole, strict=True):
        assert row == full if len(full) <= 40 else len(row) == 40 and row[-2:] == [32099, 1]


def demonstration_rows(tokens, task, shots, examples, budget, seed):
    batch, count = demonstration_arrays(tokens, task, shots, examples, budget, 8, seed, pair_tokens=budget)
    return [row[mask].tolist() for row, mask in zip(batch.tokens, batch.mask, strict=True)], count


SHOTS = [Example("the dog runs", "the dog sleeps", "contradiction"), Example("the cat", "cat", "entailment"),
         Example("the cat sleeps", "dog", "neutral"), Example("dog", "the dog", "entailment"),
         Example("not the dog", "the cat", "neutral"), Example("cat runs", "cat sleeps", "contradiction")]
WORDS = dict(zip(SNLI.labels, SNLI.label_words, strict=True))


def shown(shots, query):
    """The text of a row: shots with their label words, then the query with its mask."""
    parts = [filled(SNLI, shot).replace("<extra_id_0>", WORDS[shot.label]) for shot in shots]
    return " ".join([*parts, filled(SNLI, query)])


@pytest.mark.parametrize(("budget", "per_class"), [(100, 2), (70, 1)])
def test_demonstrations_are_class_balanced_in_the_shuffled_order_and_in_front_of_the_query(words, budget, per_class):
    rows, count = demonstration_rows(words, SNLI, SHOTS, PAIRS, budget, 5)
    order, taken = [SHOTS[i] for i in np.random.default_rng(5).permutation(6)], []
    for shot in order:
        if sum(other.label == shot.label for other in taken) < per_class:
            taken.append(shot)
    assert count == 3 * per_class and rows == words.tokenizer([shown(taken, pair) for pair in PAIRS])["input_ids"]
    assert all(row.count(28) == 1 and row[-2:] == [28, 1] and len(row) <= budget for row in rows)
    assert rows != demonstration_rows(words, SNLI, SHOTS, PAIRS, budget, 6)[0]


def test_a_hand_made_row_with_demonstrations(words):
    rows, count = demonstration_rows(words, MRPC, [
        Example("the dog", "dog", "equivalent"), Example("the cat", "dog", "not_equivalent")],
        [Example("cat", "the cat", "equivalent")], 40, 0)
    demonstrations = ["the cat and dog are equivalent ? no", "the dog and dog are equivalent ? yes"]
    if np.random.default_rng(0).permutation(2).tolist() == [0, 1]:
        demonstrations.reverse()
    assert words.tokenizer.decode(rows[0]) == " ".join(
        [*demonstrations, "cat and the cat are equivalent ? <extra_id_0> </s>"])
    assert count == 2


def test_demonstrations_are_never_unbalanced_and_cut_only_to_the_budget_of_a_pair(words):
    with pytest.raises(UserError, match=r"classifier.demonstration_tokens = 40: one demonstration of each of the 3 "):
        demonstration_rows(words, SNLI, SHOTS, PAIRS, 40, 5)
    with pytest.raises(UserError, match=r"there are 0 of the rarest"):
        demonstration_rows(words, SNLI, SHOTS[:2], PAIRS, 400, 5)
    batch, count = demonstration_arrays(words, SNLI, SHOTS, PAIRS, 40, 8, 5, pair_tokens=10)
    assert count == 3 and batch.tokens.shape == (2, 40) and batch.label.tolist() == [2, 0]
    assert batch.mask.sum(1).max() <= 40 and batch.weight.tolist() == [1, 1]


@pytest.mark.shared
def test_demonstrations_of_the_real_tokenizer(shared, t5):
    pools = load_pools(SEVEN["SICK"], str(shared / "data"))
    shots = [next(example for example in pools.train if example.label == label) for label in SNLI.labels]
    rows, count = demonstration_rows(t5, SEVEN["SICK"], shots, pools.test[:50], 512, 0)
    order = [shots[i] for i in np.random.default_rng(0).permutation(3)]
    assert count == 3 and rows == t5.tokenizer([shown(order, query) for query in pools.test[:50]])["input_ids"]
