"""Documents: how they are read and split, and the three classes of sentence pairs."""

import gzip

import pytest

from dawgen_jax.backbones import registry
from dawgen_jax.data.documents import (
    NEXT_SENTENCE,
    PAIR_LABELS,
    Documents,
    read_documents,
    sentence_pairs,
    split_sentences,
)
from dawgen_jax.data.encoding import template_rows
from dawgen_jax.errors import UserError
from dawgen_jax.miniworld import BACKBONES, documents

SMALL = Documents("small", [["a0", "a1", "a2", "a3"], ["b0", "b1", "b2"], ["c0"]])


def place(sentence):
    return sentence[0], int(sentence[1:])


def kind(first, second):
    """The class of two sentences of SMALL, by definition."""
    (document, i), (other, j) = place(first), place(second)
    return "other" if document != other else "adjacent" if abs(i - j) == 1 else "same"


@pytest.mark.parametrize(("paragraph", "sentences"), [
    ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
    ("He left (at 5). Then (Later.) She came.", ["He left (at 5).", "Then (Later.)", "She came."]),
    ("No e.g. here, nor 3.5 there.", ["No e.g. here, nor 3.5 there."]),
    ("a boy runs . a child moves .", ["a boy runs . a child moves ."]),
    ("  \t ", []),
    ("Two   spaces.\tA tab.", ["Two spaces.", "A tab."]),
])
def test_split_sentences(paragraph, sentences):
    assert split_sentences(paragraph) == sentences


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz"])
def test_blank_lines_divide_documents(tmp_path, name):
    text = "\n\nFirst one. Second one.\nThird one.\n \n\nOther document.\n"
    with (gzip.open if name.endswith("gz") else open)(tmp_path / name, "wt", encoding="utf-8") as file:
        file.write(text)
    read = read_documents(tmp_path / name)
    assert read.texts == [["First one.", "Second one.", "Third one."], ["Other document."]]
    assert read.origin == str(tmp_path / name)


def test_the_three_classes_are_what_they_say_and_all_pairs_are_reached():
    pairs = sentence_pairs(SMALL, 3 * 38, 0)
    assert all(pair.label == kind(pair.sentence1, pair.sentence2) for pair in pairs)
    of = {label: [pair[:2] for pair in pairs if pair.label == label] for label in PAIR_LABELS}
    every = [a for text in SMALL.texts for a in text]
    for label, drawn in of.items():
        assert len(drawn) == 38
        possible = {(a, b) for a in every for b in every if a != b and kind(a, b) == label}
        assert set(drawn) == possible
        rounds = 38 // len(possible)
        assert all(drawn.count(pair) in (rounds, rounds + 1) for pair in possible), "distinct before any is repeated"
    assert {label: len({*drawn}) for label, drawn in of.items()} == {"other": 38, "same": 8, "adjacent": 10}


def test_pairs_are_a_function_of_the_seed_and_thirds_differ_by_one_at_most():
    assert sentence_pairs(SMALL, 20, 1) == sentence_pairs(SMALL, 20, 1) != sentence_pairs(SMALL, 20, 2)
    labels = [pair.label for pair in sentence_pairs(SMALL, 20, 1)]
    assert [labels.count(label) for label in PAIR_LABELS] == [7, 7, 6] and labels != sorted(labels)


@pytest.mark.parametrize("texts", [[], [["a", "b", "c"]], [["a", "b"], ["c", "d"]]])
def test_too_few_documents_are_an_error_that_names_the_file(tmp_path, texts):
    path = tmp_path / "few.txt"
    path.write_text("\n\n".join("\n".join(text) for text in texts))
    with pytest.raises(UserError, match=r"few.txt: .* two documents and one of three sentences; put a blank line"):
        sentence_pairs(read_documents(path), 9, 0)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none.txt: no such file"):
        read_documents(tmp_path / "none.txt")


def test_documents_of_the_mini_world_show_what_is_adjacent_and_what_is_not():
    made = documents.documents(300, 1)
    assert made == documents.documents.__wrapped__(300, 1) and len(made.texts) == 300
    assert documents.documents(3, 2).texts != made.texts[:3]
    vocabulary = registry.read_format(BACKBONES / "mini-t5").tokenizer.get_vocab()
    assert all(word in vocabulary for text in made.texts for sentence in text for word in sentence.split())
    aliases = {"sprints": "runs", "dozes": "sleeps", "kid": "child", "beast": "animal", "large": "big", "glad": "happy"}
    verbs, places = {"runs", "walks", "sleeps", "sits", "works"}, {"park", "garden", "kitchen", "school"}

    def parts(sentence):
        words = {aliases.get(word, word) for word in sentence.split()} - {"a", "an", "in", "the", "."}
        return words & verbs, words & places, words - verbs - places

    hits = {label: 0 for label in PAIR_LABELS}
    for pair in sentence_pairs(made, 900, 0):
        (verb, where, who), (verb2, where2, who2) = parts(pair.sentence1), parts(pair.sentence2)
        one = (verb == verb2) != (where == where2)
        guess = "other" if who != who2 else "adjacent" if one else "same"
        hits[pair.label] += guess == pair.label
    assert hits["adjacent"] == hits["same"] == 300 and hits["other"] > 280


def test_the_tasks_of_the_pairs_have_label_words_of_their_vocabulary():
    tokens = registry.read_format(BACKBONES / "mini-t5")
    (pair,) = sentence_pairs(documents.documents(4), 1, 0)
    (row,) = template_rows(tokens, documents.NEXT_SENTENCE, [pair], 48)
    assert tokens.tokenizer.decode(row) == f"{pair.sentence1} <extra_id_0> {pair.sentence2} </s>"
    assert len(tokens.label_ids(documents.NEXT_SENTENCE)) == 3


@pytest.mark.shared
def test_label_words_of_the_real_tokenizer_are_ppts(t5):
    assert t5.label_ids(NEXT_SENTENCE).tolist() == [150, 2087, 4273]
