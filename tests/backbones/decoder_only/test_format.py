"""Tokens and templates of decoder-only models, for byte-level and SentencePiece vocabularies."""

import dataclasses

import numpy as np
import pytest

from dawgen_jax.backbones.decoder_only.format import CausalFormat, document_start
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import Task
from tests.backbones.decoder_only import tiny

PHRASES = (("", ""),) * 3
PAIRS = Task("pairs", ("yes", "maybe", "no"), "{sentence1} {sentence2} <mask>", ("yes", "maybe", "no"), PHRASES,
             (1.0,) * 3, causal=("Premise: {sentence1}\nHypothesis: {sentence2}\n<prompt>Answer:<mask>",
                                 ("Yes", "Maybe", "No")))
REVIEWS = Task("reviews", ("bad", "good"), "{text} It was <mask>", ("terrible", "great"), PHRASES[:2], (1.0,) * 2)
TEXTS = [["A man is playing a guitar .", "A man"], ["A man is not playing .", "It was great"]]


@pytest.fixture(scope="module", params=["byte-level", "sentence-piece"])
def form(request):
    tokenizer = tiny.wrapped(tiny.byte_level() if request.param == "byte-level" else tiny.sentence_piece())
    return CausalFormat(tokenizer, len(tokenizer) + 3, (document_start(tokenizer, {"model_type": "llama"}),))


def pieces(form, row):
    return form.tokenizer.convert_ids_to_tokens(row)


def whole(form, text):
    """The tokens of a text behind the document start."""
    return [*form.start, *form.tokenizer(text, add_special_tokens=False)["input_ids"]]


def test_rows_are_the_whole_texts_tokens(form):
    found = form.answer_rows(PAIRS, TEXTS, 200)
    for row, first, second in zip(found.rows, *TEXTS, strict=True):
        assert row == whole(form, f"Premise: {first}\nHypothesis: {second}\nAnswer:"), pieces(form, row)
        assert row[-found.tail:] == whole(form, "x\nAnswer:")[-found.tail:]
        assert form.tokenizer.decode(row[-found.tail:]).strip() == "Answer:"
    found = form.answer_rows(REVIEWS, TEXTS[:1], 200)
    for row, text in zip(found.rows, TEXTS[0], strict=True):
        assert row == whole(form, f"{text} It was") and form.tokenizer.decode(row[-found.tail:]).strip() == "It was"


def test_label_words_have_their_space(form):
    assert form.pieces(form.label_ids(PAIRS)) == ["\u2581Yes", "\u2581Maybe", "\u2581No"]
    answered = form.answer_rows(REVIEWS, TEXTS[:1], 200, answers=[1, 0])
    assert answered.tail is None
    for row, text, word in zip(answered.rows, TEXTS[0], ("great", "terrible"), strict=True):
        assert row == whole(form, f"{text} It was {word}\n\n")[1:]  # a demonstration has no document start
    with pytest.raises(UserError, match="the label words 'great' of 'bad' and 'great' of 'good' begin with"):
        form.label_ids(dataclasses.replace(REVIEWS, label_words=("great", "great")))


def test_a_prompt_stands_behind_the_texts_whatever_space_surrounds_it(form):
    for template in ("{text}<prompt> It was<mask>", "{text} <prompt>It was<mask>", "{text} <prompt> It was <mask>"):
        task = dataclasses.replace(REVIEWS, causal=(template, ("terrible", "great")))
        assert form.answer_rows(task, TEXTS[:1], 200) == form.answer_rows(REVIEWS, TEXTS[:1], 200), template


def test_texts_are_cut_from_their_tails_and_the_cue_never_is(form):
    full = form.answer_rows(PAIRS, TEXTS, 200)
    longest = max(map(len, full.rows))
    for budget in range(longest - 8, longest):
        cut = form.answer_rows(PAIRS, TEXTS, budget)
        assert max(map(len, cut.rows)) == budget and cut.tail == full.tail
        assert cut.rows[0][-cut.tail:] == full.rows[0][-cut.tail:] and cut.rows[0][0] == form.start[0]
    with pytest.raises(UserError, match=r"classifier.max_tokens = 5: the template of pairs alone"):
        form.answer_rows(PAIRS, TEXTS, 5)


def test_a_mask_that_is_not_last_is_refused_with_a_way_out(form):
    task = dataclasses.replace(REVIEWS, template="<mask> review: {text}")
    with pytest.raises(UserError, match=r"does not end with <mask>.*move <mask> there"):
        form.answer_rows(task, TEXTS[:1], 200)


def test_bare_rows_are_the_texts(form):
    found = form.answer_rows(PAIRS, TEXTS, 200, bare=True)
    assert found.tail is None
    assert found.rows == [whole(form, " ".join(texts)) for texts in zip(*TEXTS, strict=True)]


def test_generator_rows(form):
    sentences = ["A man is playing .", "", "Maybe\nNo"]
    rows, slots, cut = form.source_rows(sentences, 2, 4)
    assert cut == [True, False, False]
    assert rows[1] == [*form.start, 0, 0] and slots[1] == [-1, 0, 1]
    assert slots[0] == [-1] * 5 + [0, 1]
    assert rows[0] == [*form.start, *whole(form, "Answer: A man is playing .")[-5:-1], 0, 0]
    assert form.texts([rows[0][1:5]]) == ["A man is playing"]
    targets = form.target_rows(sentences, 5)
    assert all(row[-1] == form.eos_id and len(row) <= 5 and form.eos_id not in row[:-1] for row in targets)
    assert form.texts([targets[2][:-1]]) == ["Maybe No"]
    assert form.tokenizer.decode([form.eos_id]) == "\n"


def test_no_other_piece_ends_a_line(form):
    banned = set(form.banned_ids().tolist())
    vocabulary = form.tokenizer.get_vocab()
    assert form.eos_id not in banned and set(range(len(vocabulary), len(vocabulary) + 3)) <= banned
    allowed = [i for i in vocabulary.values() if i not in banned]
    assert [i for i in allowed if "\n" in form.tokenizer.decode([i])] == [form.eos_id]
    assert not set(form.tokenizer.all_special_ids) & set(allowed)
    words = form.pieces(form.word_start_ids())
    assert words and all(word[0] == "\u2581" and word[1:].isalpha() for word in words)


def test_the_document_start_is_what_the_model_was_trained_with():
    byte_level, sentence_piece = tiny.wrapped(tiny.byte_level()), tiny.wrapped(tiny.sentence_piece())
    for tokenizer, values, wanted in (
        (byte_level, {"model_type": "llama"}, 0),
        (byte_level, {"model_type": "qwen2"}, None),
        (byte_level, {"model_type": "qwen2", "document_start_token_id": 1}, 1),
        (byte_level, {"model_type": "llama", "document_start_token_id": None}, None),
        (sentence_piece, {"model_type": "llama"}, 1),
    ):
        assert document_start(tokenizer, values) == wanted
    for wrong in (10**6, "0", True):
        with pytest.raises(UserError, match=r"document_start_token_id = .*must be the id of a piece, or null"):
            document_start(byte_level, {"document_start_token_id": wrong})


def test_the_card_of_an_adapter_reads_the_same_rows(form):
    code, _ = form.adapter.predict(PAIRS)
    seen = {}

    def model(input_ids):
        seen["row"] = input_ids
        return type("Output", (), {"logits": np.arange(10**3, dtype=np.float32)[None, None]})

    torch = type("Torch", (), {"no_grad": staticmethod(lambda: lambda function: function),
                               "tensor": staticmethod(lambda rows: rows[0])})
    scope = {"model": model, "tokenizer": form.tokenizer, "torch": torch}
    exec(code, scope)
    ids = form.label_ids(PAIRS)
    assert scope["predict"](sentence1=TEXTS[0][0], sentence2=TEXTS[1][0]) == PAIRS.labels[ids.argmax()]
    assert seen["row"] == form.answer_rows(PAIRS, [column[:1] for column in TEXTS], 200).rows[0]
    assert scope["word_ids"] == ids.tolist() and form.adapter.config["task_type"] == "CAUSAL_LM"
