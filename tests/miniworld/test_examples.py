"""The seven mini tasks: labels, balance, leaks, cues of one sentence, and the hashes of the released pools."""

import collections
import dataclasses
import gzip
import hashlib
import json
import pathlib

import numpy as np
import pytest
from scipy.optimize import minimize

from dawgen_jax import miniworld
from dawgen_jax.miniworld import TASKS, consistency, first_sentences, pools
from tools.mini_world.pools import stored

HASHES = {
    "mini-qqp": {"train": "d9f008ddbbd7", "validation": "7bf0f42dc6db", "test": "8de2d9a8d070"},
    "mini-mrpc": {"train": "1f15e39d8328", "validation": "b1f56b0095fd", "test": "7cd5a496e5e0"},
    "mini-mnli": {"train": "81b0263c2705", "validation": "2d4c6b46d266", "test": "d72a9ef7dac0"},
    "mini-snli": {"train": "b92532405473", "validation": "658e388812ee", "test": "7267d2c71cf3"},
    "mini-qnli": {"train": "c7c056beca1f", "validation": "4bb80511f8f7", "test": "aef1189b1dfa"},
    "mini-rte": {"train": "963207b3fc2d", "validation": "8d49cd91de91", "test": "ed86831600b2"},
    "mini-sick": {"train": "f7874853930e", "validation": "b76f9302095e", "test": "2f291fa1d1a0"},
}
NAMES = tuple(name for name in TASKS if not name.endswith("-worded"))


def fingerprint(split):
    return hashlib.sha256(json.dumps([list(example) for example in split]).encode()).hexdigest()[:12]


def bag_of_words_accuracy(train, test, field):
    """Accuracy of multinomial logistic regression on the words of one sentence."""
    vocabulary, labels = {}, sorted({example.label for example in train})
    for example in train:
        for word in getattr(example, field).split():
            vocabulary.setdefault(word, len(vocabulary))

    def arrays(split):
        x = np.zeros((len(split), len(vocabulary) + 1))
        x[:, -1] = 1
        for row, example in zip(x, split, strict=True):
            row[[vocabulary[word] for word in getattr(example, field).split() if word in vocabulary]] = 1
        return x, np.array([labels.index(example.label) for example in split])

    (x, y), (x_test, y_test) = arrays(train), arrays(test)

    def objective(flat):
        weights = flat.reshape(x.shape[1], -1)
        scores = x @ weights
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        value = -np.log(p[np.arange(len(y)), y]).mean() + 1e-3 * (flat**2).sum()
        p[np.arange(len(y)), y] -= 1
        return value, (x.T @ p / len(y)).ravel() + 2e-3 * flat

    found = minimize(objective, np.zeros(x.shape[1] * len(labels)), jac=True, method="L-BFGS-B",
                     options={"maxiter": 60})
    return float(np.mean((x_test @ found.x.reshape(x.shape[1], -1)).argmax(axis=1) == y_test))


def halves_accuracy(examples, field):
    """Mean accuracy of the same, fitted on every other example and scored on the rest, both ways."""
    one, other = examples[::2], examples[1::2]
    return (bag_of_words_accuracy(one, other, field) + bag_of_words_accuracy(other, one, field)) / 2


def majority_share(examples):
    return max(collections.Counter(example.label for example in examples).values()) / len(examples)


@pytest.mark.parametrize("name", NAMES)
def test_pools_of(name):
    made, task = pools(name), TASKS[name]
    splits = {split: getattr(made, split) for split in ("train", "validation", "test")}
    assert len(splits["test"]) >= 1000 and len(splits["validation"]) >= 500
    counts = collections.Counter(example.label for example in splits["train"])
    assert set(counts) == set(task.labels) and min(counts.values()) >= 1500
    for split, examples in splits.items():
        for example in examples:
            assert consistency(name, example.sentence1, example.sentence2) == example.label
            assert example.sentence1 != example.sentence2
        assert fingerprint(examples) == HASHES[name][split], f"{name}/{split}"
    found = [(example.sentence1, example.sentence2) for examples in splits.values() for example in examples]
    assert len(found) == len(set(found))
    if name in ("mini-qqp", "mini-mrpc"):  # their labels do not depend on the order
        assert len(found) == len({frozenset(pair) for pair in found})
    # In the training pool sentence 2 is independent of the label by construction, so a fit on it cannot find a cue that
    # only the other splits have: they are measured on themselves too.
    scored = splits["validation"] + splits["test"]
    majority, own_majority = majority_share(splits["test"]), majority_share(scored)
    fields = "sentence1", "sentence2"
    first, second = (bag_of_words_accuracy(splits["train"], splits["test"], field) for field in fields)
    own_first, own_second = (halves_accuracy(scored, field) for field in fields)
    print(f"{name}: majority {majority:.3f}, sentence 1 alone {first:.3f}, sentence 2 alone {second:.3f}; halves of "
          f"validation and test: majority {own_majority:.3f}, sentence 1 {own_first:.3f}, sentence 2 {own_second:.3f}")
    assert second <= majority + 0.05
    assert own_second <= own_majority + 0.05


def test_a_planted_cue_is_found():
    made = pools("mini-snli")
    scored = [example._replace(sentence2=example.sentence2 + " indeed" * (example.label == "neutral"))
              for example in made.validation + made.test]
    # Every neutral pair, a third, and half of the others.
    assert halves_accuracy(scored, "sentence2") > majority_share(scored) + 0.25


def test_shares_are_those_of_the_originals():
    shares = {name: collections.Counter(e.label for e in pools(name).test) for name in ("mini-mrpc", "mini-sick")}
    assert shares["mini-mrpc"] == {"equivalent": 1000, "not_equivalent": 500}
    assert shares["mini-sick"]["neutral"] > shares["mini-sick"]["entailment"] > shares["mini-sick"]["contradiction"]


def test_first_sentences_are_distinct_and_of_the_right_kind():
    for name in ("mini-snli", "mini-qnli"):
        found = first_sentences(name)
        assert len(found) == len(set(found)) == 4000
        assert all(sentence.endswith("?" if name == "mini-qnli" else ".") for sentence in found)


def test_first_sentences_are_those_of_the_evidence():
    assert fingerprint([[sentence] for sentence in first_sentences("mini-snli")]) == "b4340b46446b"


def test_the_files_are_what_the_program_writes():
    path = pathlib.Path(miniworld.__file__).parent / "pools" / "mini-rte.json.gz"
    assert gzip.decompress(path.read_bytes()) == gzip.decompress(stored("mini-rte"))


@pytest.mark.parametrize("task, first, second, label", [
    ("mini-snli", "a boy runs .", "a kid moves.", "entailment"),
    ("mini-snli", "a boy runs .", "A boy sprints .", "entailment"),
    ("mini-sick", "a boy runs .", "a boy sleeps .", "contradiction"),
    ("mini-mnli", "a child runs .", "a boy runs .", "neutral"),
    ("mini-rte", "a boy runs .", "a boy sleeps .", "not_entailment"),
    ("mini-rte", "a boy runs .", "a child runs .", "entailment"),
    ("mini-mrpc", "a boy runs .", "a boy sprints .", "equivalent"),
    ("mini-mrpc", "a boy runs .", "a boy moves .", "not_equivalent"),
    ("mini-qqp", "who runs ?", "who sprints ?", "duplicate"),
    ("mini-qqp", "who runs ?", "who moves ?", "not_duplicate"),
    ("mini-qnli", "who runs ?", "a boy sprints .", "entailment"),
    ("mini-qnli", "where does a boy run ?", "a boy sprints .", "not_entailment"),
    ("mini-qnli", "who runs ?", "who runs ?", None),
    ("mini-qqp", "who runs ?", "a boy runs .", None),
    ("mini-snli", "a boy runs .", "so a boy runs .", None),
    ("mini-snli", "a boy runs .", "", None),
])
def test_consistency_by_hand(task, first, second, label):
    assert consistency(task, first, second) == label


def test_tasks_are_complete():
    assert NAMES == ("mini-qqp", "mini-mrpc", "mini-mnli", "mini-snli", "mini-qnli", "mini-rte", "mini-sick")
    for task in TASKS.values():
        sizes = {len(task.labels), len(task.label_words), len(task.phrases), len(task.repetition_penalty)}
        assert len(sizes) == 1 and task.test_split == "test" and "<mask>" in task.template
    assert miniworld.BACKBONES.name == "backbones"


def test_worded_variants_differ_in_their_phrases_alone():
    for name in NAMES:
        plain, worded = TASKS[name], TASKS[f"{name}-worded"]
        assert len(set(plain.phrases)) == 1 < len(set(worded.phrases)) == len(worded.labels)  # neutral, and one a label
        assert dataclasses.replace(worded, name=name, phrases=plain.phrases) == plain
        assert len(set(plain.repetition_penalty)) == 1
    assert pools("mini-rte-worded") == pools("mini-rte")
    assert first_sentences("mini-rte-worded") == first_sentences("mini-rte")
    assert consistency("mini-qqp-worded", "who ran ?", "who ran ?") == consistency("mini-qqp", "who ran ?", "who ran ?")
