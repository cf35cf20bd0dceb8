"""T5's tokens and templates, with a small vocabulary of words and with the real one."""

import dataclasses
import sys

import numpy as np
import pytest
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from dawgen_jax.backbones import registry
from dawgen_jax.backbones.t5.format import T5Format
from dawgen_jax.backbones.tokens import read_tokenizer
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import SEVEN
from tests.backbones.bpe import SENTENCES, byte_level

RTE = SEVEN["RTE"]


def test_ids_and_texts(words):
    assert words.ids(["the", "", "cat zebra"]) == [[3], [], [5, 2]] and words.ids([]) == []
    assert words.texts([np.array([3, 4, 1, 0]), []]) == ["the dog", ""]
    assert words.mask_id == 28 and words.pieces(np.array([3, 28])) == ["the", "<extra_id_0>"]


def test_special_pieces_in_a_text_are_ordinary_text(words):
    (ids,) = words.ids(["the </s> dog <pad> <extra_id_0>"])
    assert not set(ids) & {0, 1, 28}
    assert ids[:6] == [3, 24, 25, 26, 27, 4]


def test_banned_and_starting_ids(words):
    assert words.banned_ids().tolist() == [0, 2, 28, 29, 30, 31]
    assert words.word_start_ids().tolist() == [*range(3, 16), 17, 19, 20, 21, 22, 26]


def test_label_words(words):
    assert words.label_ids(SEVEN["SNLI"]).tolist() == [9, 11, 10]


@pytest.mark.parametrize(("label_words", "message"), [
    (("yes", "zebra", "no"), r"the label word 'zebra' of 'neutral' has no usable token in .*; choose words of one"),
    (("the cat", "the dog", "no"), r"'the cat' of 'entailment' and 'the dog' of 'neutral' begin with the same token"),
    (("yes", "", "no"), r"the label word '' of 'neutral' has no usable token"),
    (("yes", "yes", "no"), r"'yes' of 'entailment' and 'yes' of 'neutral' begin with the same token 'yes' in "),
])
def test_label_word_mistakes(words, label_words, message):
    with pytest.raises(UserError, match=message):
        words.label_ids(dataclasses.replace(SEVEN["SNLI"], label_words=label_words))


def test_read_tokenizer(words, tmp_path):
    words.tokenizer.save_pretrained(tmp_path / "ok")
    assert T5Format(read_tokenizer(tmp_path / "ok", 30), 30).ids(["the dog"]) == [[3, 4]]
    with pytest.raises(UserError, match="nothing: no such folder"):
        read_tokenizer(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: its tokenizer cannot be loaded"):
        read_tokenizer(tmp_path / "empty")


def word_level(*pieces, **special):
    from tokenizers import Tokenizer, models

    model = models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="<unk>", **special)


def test_a_tokenizer_without_sentinels_or_padding_is_refused():
    with pytest.raises(UserError, match="no piece <extra_id_0>; use a T5 tokenizer"):
        T5Format(word_level("<pad>", "</s>", "<unk>", pad_token="<pad>", eos_token="</s>"), 3)
    with pytest.raises(UserError, match="no end-of-sequence or no padding piece; T5 needs </s> and <pad>"):
        T5Format(word_level("<pad>", "</s>", "<unk>", eos_token="</s>"), 3)


def test_sentinels_that_are_ordinary_pieces():
    """mt5's tokenizer holds them with a word mark and does not call them special."""
    pieces = ["<pad>", "</s>", "<unk>", "\u2581the", "\u2581<extra_id_1>", "\u2581<extra_id_0>", "<extra>"]
    mt5 = T5Format(word_level(*pieces, pad_token="<pad>", eos_token="</s>"), 8)
    assert mt5.mask_id == 5
    assert mt5.banned_ids().tolist() == [0, 2, 4, 5, 7] and mt5.word_start_ids().tolist() == [3]


def test_the_sentinels_of_byt5_are_bytes_that_no_text_has():
    tokens = T5Format(ByT5Tokenizer(), 384)
    task = dataclasses.replace(RTE, label_words=("y", "n"))
    (row,) = tokens.answer_rows(task, [["a"], ["b"]], 100).rows
    assert row[-2:] == [258, 1] and row.count(258) == 1
    assert set(tokens.banned_ids()) == {0, 2, *range(248, 384)}
    assert set(tokens.word_start_ids()) >= set(range(ord("a") + 3, ord("z") + 4))
    assert tokens.label_ids(task).tolist() == [ord("y") + 3, ord("n") + 3]


def test_a_byte_level_vocabulary_keeps_spaces_with_their_words():
    bpe = byte_level(["<pad>", "</s>", "<unk>", "<extra_id_0>"], pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
                     extra_special_tokens=["<extra_id_0>"])
    tokens = T5Format(bpe, len(bpe))
    task = dataclasses.replace(RTE, template="first: {sentence1} second: {sentence2} answer: <mask>",
                               label_words=("yes", "no"))
    rows = tokens.answer_rows(task, [[SENTENCES[0]], [SENTENCES[1]]], 100).rows
    text = f"first: {SENTENCES[0]} second: {SENTENCES[1]} answer:"
    assert rows == [[*bpe(text, add_special_tokens=False).input_ids, tokens.mask_id, 1]]
    assert bpe.convert_ids_to_tokens(tokens.label_ids(task).tolist()) == ["\u0120yes", "\u0120no"]
    shown = tokens.answer_rows(task, [[SENTENCES[0]], [SENTENCES[1]]], 100, answers=[1]).rows
    assert bpe.decode(shown[0]) == text + " no"


@pytest.mark.shared
def test_t5_facts(t5):
    assert (t5.mask_id, t5.tokenizer.eos_token_id, t5.tokenizer.pad_token_id, len(t5.tokenizer)) == (32099, 1, 0, 32100)
    banned = t5.banned_ids()
    assert banned.tolist() == [0, 2, *range(32000, 32128)] and not set(banned) & set(t5.word_start_ids())
    starts = t5.word_start_ids()[:100]
    assert (starts[0], starts[-1]) == (8, 164)
    assert t5.pieces([8, 164]) == ["\u2581the", "\u2581may"]
    assert t5.ids(["maybe"]) == [[2087]]
    assert not set(*t5.ids(["a </s> b <pad> <extra_id_0>"])) & {0, 1, 32099}


@pytest.mark.shared
@pytest.mark.parametrize(("task", "ids"), [
    ("QQP", [150, 4273]), ("MRPC", [150, 4273]), ("MNLI", [4273, 7163, 150]), ("SNLI", [4273, 7163, 150]),
    ("QNLI", [4273, 150]), ("RTE", [4273, 150]), ("SICK", [4273, 7163, 150]),
])
def test_t5_label_words(t5, task, ids):
    assert t5.label_ids(SEVEN[task]).tolist() == ids


@pytest.mark.shared
def test_t5_texts_come_back(t5):
    texts = ["It isn't 3,000 km (café)!", "He said , \" no \" , did n't he ?", "Two dogs ran; \"why?\" he asked."]
    assert t5.texts([[*ids, 1, 0, 0] for ids in t5.ids(texts)]) == texts


@pytest.mark.shared
def test_sentencepiece_model_alone_is_enough_and_needs_its_library(shared, t5, tmp_path, monkeypatch):
    (tmp_path / "spiece.model").write_bytes((shared / "tokenizer" / "spiece.model").read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    alone = registry.read_format(tmp_path)
    text = "Hypothesis: it isn't 3,000 km (naïve)!"
    assert alone.ids([text]) == t5.ids([text]) and alone.mask_id == 32099
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match="its tokenizer cannot be loaded"):
        registry.read_format(tmp_path)
