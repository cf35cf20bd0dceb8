"""Tokenizers for the data tests: a small one of whole words, and the real T5's."""

import pytest


@pytest.fixture(scope="session")
def words():
    """A tokenizer of whole words, as the mini world's is: no word mark, unknown words become <unk>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ["<pad>", "</s>", "<unk>", "the", "dog", "cat", "runs", "sleeps", "not", "yes", "no", "neutral", "maybe",
              "and", "are", "equivalent", "?", "hypothesis", ":", "premise", "answer", "question", "sentence", "7",
              "<", "/", "s", ">", "<extra_id_0>", "<extra_id_1>"]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens=["<extra_id_0>", "<extra_id_1>"])


@pytest.fixture(scope="session")
def t5(shared):
    """The real T5 tokenizer; for tests with the marker `shared`."""
    from dawgen_jax.data.tokenizer import load_tokenizer

    return load_tokenizer(shared / "tokenizer")
