"""What every family shares of tokenizers and templates, on a byte-level vocabulary; others are tested with T5's."""

import dataclasses

import numpy as np
import pytest

from dawgen_jax.backbones import templates, tokens
from dawgen_jax.backbones.templates import Part
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import SEVEN
from tests.backbones.bpe import SENTENCES, byte_level

RTE = SEVEN["RTE"]


@pytest.fixture(scope="module")
def bpe():
    return byte_level(["<eos>"], eos_token="<eos>")


def test_word_starts_are_whole_words_with_their_space(bpe):
    starts = bpe.convert_ids_to_tokens(tokens.word_start_ids(bpe).tolist())
    assert {"\u0120dog", "\u0120the", "\u0120caf\u00c3\u00a9", "\u0120yes"} <= set(starts)
    assert all(piece.startswith("\u0120") for piece in starts)
    assert not {"\u0120", "\u0120yes,"} & set(starts)


def test_label_words_have_their_leading_space(bpe):
    ids = tokens.word_ids(bpe, RTE, ("yes", "no"), " ")
    assert ids.dtype == np.int32 and bpe.convert_ids_to_tokens(ids.tolist()) == ["\u0120yes", "\u0120no"]
    with pytest.raises(UserError, match=r"the label word 'zebra' of 'not_entailment' has no usable token in "):
        tokens.word_ids(bpe, RTE, ("yes", "zebra"), " ")


def test_label_words_of_several_tokens_count_by_their_first_ones_if_these_differ(bpe):
    ids = tokens.word_ids(bpe, RTE, ("terribleness", "greatness"), " ")
    assert bpe.convert_ids_to_tokens(ids.tolist()) == ["\u0120terrible", "\u0120great"]
    with pytest.raises(tokens.LabelWordError, match=r"'greatly' of 'entailment' and 'greatness' of 'not_entailment' "
                                                    r"begin with the same token .* instance no yes\.$"):
        tokens.word_ids(bpe, RTE, ("greatly", "greatness"), " ")
    labels = ("very_terrible", "very_great", "3")
    task = dataclasses.replace(RTE, labels=labels, label_words=labels, phrases=(("", ""),) * 3, positive="",
                               causal=None, repetition_penalty=(1.0,) * 3)
    with pytest.raises(tokens.LabelWordError) as raised:
        tokens.word_ids(bpe, task, labels, " ")
    assert raised.value.proposed == ("terrible", "great", "no")
    assert len(tokens.word_ids(bpe, task, raised.value.proposed, " ")) == 3


def test_texts_come_back_and_special_pieces_are_text(bpe):
    texts = [*SENTENCES, "a caf\u00e9\u2019s <eos> \U0001f600"]
    ids = tokens.plain_ids(bpe, texts)
    assert not any(0 in row for row in ids)
    assert tokens.to_texts(bpe, [[*row, 0] for row in ids]) == [*SENTENCES, "a caf\u00e9\u2019s < eos> \U0001f600"]
    assert "".join(tokens.readable_pieces(bpe, ids[0])) == "a\u2581caf\u00e9\u2581opens\u2581today"
    assert tokens.unused_ids(bpe, len(bpe) + 2, 0).tolist() == [len(bpe), len(bpe) + 1]


def test_a_vocabulary_without_special_pieces(bpe):
    plain = byte_level([])
    assert tokens.to_texts(plain, tokens.plain_ids(plain, SENTENCES)) == list(SENTENCES)


def test_texts_are_cut_last_placeholder_first():
    parts = [Part([[1], [1]]), Part([[2, 3], [4]], cut=True), Part([[5], [5]]), Part([[6, 7, 8], [9, 9]], cut=True)]
    assert templates.fill(parts, 7, "RTE") == [[1, 2, 3, 5, 6, 7, 8], [1, 4, 5, 9, 9]]
    assert templates.fill(parts, 7, "RTE", reserved=3) == [[1, 2, 3, 5], [1, 4, 5, 9]]
    assert templates.fill(parts, 2, "RTE") == [[1, 5], [1, 5]]
    with pytest.raises(UserError, match="max_tokens = 4: the template of RTE alone has 5 tokens; raise it"):
        templates.fill(parts, 4, "RTE", reserved=3)


def test_words_that_stand_twice_in_a_template_are_counted_twice(words):
    task = dataclasses.replace(RTE, template="the {sentence1} the {sentence2} the <mask>")
    for budget in (5, 6, 7):
        (row,) = words.answer_rows(task, [["dog runs"], ["cat"]], budget).rows
        assert len(row) == budget
