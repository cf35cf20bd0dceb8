"""The seven tasks against the facts of the paper and of its baselines' code; checks on a user's own."""

import dataclasses
import math

import pytest

from dawgen_jax.config import digest
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.tasks import SEVEN

INFERENCE = ("entailment", "neutral", "contradiction")


def test_names_and_label_order():
    assert {name: task.labels for name, task in SEVEN.items()} == {
        "QQP": ("not_duplicate", "duplicate"), "MRPC": ("not_equivalent", "equivalent"),
        "MNLI": INFERENCE, "SNLI": INFERENCE, "SICK": INFERENCE,
        "QNLI": ("entailment", "not_entailment"), "RTE": ("entailment", "not_entailment"),
    }
    assert all(name == task.name for name, task in SEVEN.items())


@pytest.mark.parametrize(("name", "label", "word", "penalty", "phrase", "infix"), [
    ("QQP", "duplicate", "yes", 1.0, "Question 1 is equivalent to Question 2. Question 1:", "Question 2:"),
    ("QQP", "not_duplicate", "no", 1.5, "Question 1 is different from Question 2. Question 1:", "Question 2:"),
    ("MRPC", "equivalent", "yes", 1.0, "Sentence 1 is equivalent to Sentence 2. Sentence 1:", "Sentence 2:"),
    ("MRPC", "not_equivalent", "no", 1.5, "Sentence 1 is different from Sentence 2. Sentence 1:", "Sentence 2:"),
    ("MNLI", "entailment", "yes", 1.1, "Sentence 1 implies Sentence 2. Sentence 1:", "Sentence 2:"),
    ("SNLI", "neutral", "neutral", 1.5, "Sentence 1 supplements Sentence 2. Sentence 1:", "Sentence 2:"),
    ("SICK", "contradiction", "no", 1.1, "Sentence 1 contradicts Sentence 2. Sentence 1:", "Sentence 2:"),
    ("QNLI", "entailment", "yes", 1.0, "Paragraph is relevant to Question. Question:", "Paragraph:"),
    ("QNLI", "not_entailment", "no", 1.5, "Paragraph is irrelevant to Question. Question:", "Paragraph:"),
    ("RTE", "entailment", "yes", 1.0, "Sentence 1 implies Sentence 2. Sentence 1:", "Sentence 2:"),
    ("RTE", "not_entailment", "no", 1.5, "Sentence 1 supplements Sentence 2. Sentence 1:", "Sentence 2:"),
])
def test_what_belongs_to_a_label(name, label, word, penalty, phrase, infix):
    task = SEVEN[name]
    position = task.labels.index(label)
    assert task.label_words[position] == word
    assert task.repetition_penalty[position] == penalty
    assert task.phrases[position] == (phrase, infix)


def test_templates():
    inference = "hypothesis: {sentence2} premise: {sentence1} answer: <mask>"
    paraphrase = "{sentence1} and {sentence2} are equivalent? <mask>"
    assert {name: task.template for name, task in SEVEN.items()} == {
        "QQP": paraphrase, "MRPC": paraphrase, "MNLI": inference, "SNLI": inference, "RTE": inference,
        "SICK": inference, "QNLI": "question: {sentence1} sentence: {sentence2} answer: <mask>",
    }


def test_scored_splits_and_their_sizes_in_the_paper():
    assert {name: (task.test_split, task.paper_n_test) for name, task in SEVEN.items()} == {
        "QQP": ("validation", 40430), "MRPC": ("test", 1725), "MNLI": ("validation", 9815),
        "SNLI": ("validation", 9842), "QNLI": ("validation", 5463), "RTE": ("validation", 277), "SICK": ("test", 4906),
    }
    assert {name for name, task in SEVEN.items() if task.positive} == {"QQP", "MRPC"}
    assert {name for name, task in SEVEN.items() if task.reject} == {"QNLI"}
    assert {name for name, task in SEVEN.items() if task.draw == "classes"} == {"SICK"}


@pytest.mark.parametrize(("field", "value"), [
    ("labels", ("entailment", "entailment")), ("labels", ("entailment",)), ("label_words", ("yes",)),
    ("phrases", ()), ("repetition_penalty", (1.0, 1.0, 1.0)), ("repetition_penalty", (0.5, 1.0)),
    ("repetition_penalty", (1.0, math.inf)), ("repetition_penalty", (1.0, math.nan)),
    ("template", "{sentence1} <mask>"), ("template", "{sentence1} {sentence2} <mask> <mask>"),
    ("template", "{sentence1} {sentence2} {label} <mask>"), ("positive", "duplicate"), ("test_split", "dev"),
    ("draw", "any"),
])
def test_fields_that_do_not_fit_are_named(field, value):
    with pytest.raises(ConfigError, match=rf"Task\.{field}(\[\d\])* = "):
        dataclasses.replace(SEVEN["RTE"], **{field: value})


def test_single_texts_and_a_field_that_keys_of_artefacts_do_not_know():
    single = dataclasses.replace(SEVEN["RTE"], template="{text} It was <mask>.", causal=None)
    assert (single.fields, single.bare) == (("text",), "{text}")
    for template in ("{text} {sentence2} <mask>", "{text} {text} <mask>", "<mask>", "{label} <mask>"):
        with pytest.raises(ConfigError, match=r"Task\.template = "):
            dataclasses.replace(SEVEN["RTE"], template=template)
    fields = dataclasses.asdict(SEVEN["RTE"])
    assert fields.pop("causal") and not fields.pop("folder") and digest(fields) == "6c7d87325d09"  # source prompts are found by it


def test_completions_for_causal_models():
    assert all(task.completion == task.causal for task in SEVEN.values())
    pair = dataclasses.replace(SEVEN["RTE"], causal=None)
    for template, derived in (("{sentence1} <mask> {sentence2}", "{sentence1}\n{sentence2}\n<prompt>Answer:<mask>"),
                              (pair.template, "hypothesis: {sentence2} premise: {sentence1}<prompt> answer:<mask>"),
                              ("{sentence1} {sentence2}", "{sentence1}\n{sentence2}\n<prompt>Answer:<mask>")):
        assert dataclasses.replace(pair, template=template).completion == (derived, ("yes", "no"))
    with pytest.raises(UserError, match=r"does not end with <mask>.* move <mask> there \(own.template\)"):
        dataclasses.replace(pair, template="{sentence1} {sentence2} It was <mask>.").completion  # noqa: B018
    for template, words in (("{sentence1} {sentence2} <prompt><mask>.", ("Yes", "No")),
                            ("{sentence1} <prompt>{sentence2} <mask>", ("Yes", "No")),
                            ("{sentence1} {sentence2} <mask>", ("Yes", "No")),
                            ("{sentence1} {sentence2} <prompt> <prompt><mask>", ("Yes", "No")),
                            ("{sentence1} {sentence2} <prompt><mask>", ("Yes",))):
        with pytest.raises(ConfigError, match=r"Task\.causal = "):
            dataclasses.replace(pair, causal=(template, words))
