"""The tokenizer's seam, with a small word tokenizer and with the real one."""

import numpy as np
import pytest

from dawgen_jax.backbones.tokenizer import (
    banned_ids,
    batch_ids,
    load_tokenizer,
    sentinel_id,
    text_ids,
    to_texts,
    word_start_ids,
)
from dawgen_jax.data.encoding import label_word_ids
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import SEVEN


def test_ids_and_texts(words):
    assert text_ids(words, "the dog runs") == [3, 4, 6]
    assert batch_ids(words, ["the", "", "cat zebra"]) == [[3], [], [5, 2]] and batch_ids(words, []) == []
    assert to_texts(words, [np.array([3, 4, 1, 0]), []]) == ["the dog", ""]
    assert sentinel_id(words) == 28 and sentinel_id(words, 1) == 29


def test_special_pieces_in_a_text_are_ordinary_text(words):
    ids = text_ids(words, "the </s> dog <pad> <extra_id_0>")
    assert not set(ids) & {0, 1, 28}
    assert ids[:6] == [3, 24, 25, 26, 27, 4]


def test_banned_and_starting_ids(words):
    assert banned_ids(words, 32).tolist() == [0, 2, 28, 29, 30, 31]
    assert word_start_ids(words).tolist() == [*range(3, 16), 17, 19, 20, 21, 22, 26]


def test_label_words(words):
    assert label_word_ids(words, SEVEN["SNLI"]).tolist() == [9, 11, 10]


@pytest.mark.parametrize(("label_words", "message"), [
    (("yes", "zebra", "no"), r"the label word 'zebra' of 'neutral' is not one piece of the vocabulary of .* but <unk>"),
    (("yes", "the dog", "no"), r"the label word 'the dog' of 'neutral' is not one piece .* but the dog: choose a word"),
    (("yes", "", "no"), r"the label word '' .* but nothing"),
    (("yes", "yes", "no"), r"two labels share a label word \(yes, yes, no\)"),
])
def test_label_word_mistakes(words, label_words, message):
    import dataclasses

    with pytest.raises(UserError, match=message):
        label_word_ids(words, dataclasses.replace(SEVEN["SNLI"], label_words=label_words))


def test_load(words, tmp_path):
    words.save_pretrained(tmp_path / "ok")
    loaded = load_tokenizer(tmp_path / "ok")
    assert text_ids(loaded, "the dog") == [3, 4] and sentinel_id(loaded) == 28
    with pytest.raises(UserError, match="nothing: no such folder"):
        load_tokenizer(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: its tokenizer cannot be loaded"):
        load_tokenizer(tmp_path / "empty")


def test_a_tokenizer_without_sentinels_is_refused(words, tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    other = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=other, pad_token="<pad>", eos_token="</s>",
                            unk_token="<unk>").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no piece <extra_id_0>; use a T5 tokenizer"):
        load_tokenizer(tmp_path)


def test_sentinels_that_are_ordinary_pieces(tmp_path):
    """mt5's tokenizer holds them with a word mark and does not call them special."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    pieces = ["<pad>", "</s>", "<unk>", "\u2581the", "\u2581<extra_id_1>", "\u2581<extra_id_0>", "<extra>"]
    mt5 = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, unk_token="<unk>")),
        pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    assert sentinel_id(mt5) == 5 and sentinel_id(mt5, 1) == 4
    assert banned_ids(mt5, 8).tolist() == [0, 2, 4, 5, 7] and word_start_ids(mt5).tolist() == [3]
    mt5.save_pretrained(tmp_path)
    assert sentinel_id(load_tokenizer(tmp_path, 6)) == 5
    with pytest.raises(UserError, match="<extra_id_0> is piece 5, but the model has only 5 rows"):
        load_tokenizer(tmp_path, 5)


@pytest.mark.shared
def test_t5_facts(t5):
    assert (sentinel_id(t5), t5.eos_token_id, t5.pad_token_id, len(t5)) == (32099, 1, 0, 32100)
    banned = banned_ids(t5, 32128)
    assert banned.tolist() == [0, 2, *range(32000, 32128)] and not set(banned) & set(word_start_ids(t5))
    starts = word_start_ids(t5)[:100]
    assert (starts[0], starts[-1]) == (8, 164)
    assert t5.convert_ids_to_tokens([8, 164]) == ["\u2581the", "\u2581may"]
    assert text_ids(t5, "maybe") == [2087]
    assert not set(text_ids(t5, "a </s> b <pad> <extra_id_0>")) & {0, 1, 32099}


@pytest.mark.shared
@pytest.mark.parametrize(("task", "ids"), [
    ("QQP", [150, 4273]), ("MRPC", [150, 4273]), ("MNLI", [4273, 7163, 150]), ("SNLI", [4273, 7163, 150]),
    ("QNLI", [4273, 150]), ("RTE", [4273, 150]), ("SICK", [4273, 7163, 150]),
])
def test_t5_label_words(t5, task, ids):
    assert label_word_ids(t5, SEVEN[task]).tolist() == ids


@pytest.mark.shared
def test_t5_texts_come_back(t5):
    texts = ["It isn't 3,000 km (café)!", "He said , \" no \" , did n't he ?", "Two dogs ran; \"why?\" he asked."]
    assert to_texts(t5, [[*ids, 1, 0, 0] for ids in batch_ids(t5, texts)]) == texts


@pytest.mark.shared
def test_sentencepiece_model_alone_is_enough(shared, t5, tmp_path):
    (tmp_path / "spiece.model").write_bytes((shared / "tokenizer" / "spiece.model").read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    alone = load_tokenizer(tmp_path)
    text = "Hypothesis: it isn't 3,000 km (naïve)!"
    assert text_ids(alone, text) == text_ids(t5, text) and sentinel_id(alone) == 32099
