"""The vocabulary of the mini world and its Hugging Face tokenizer: one token per word form.

Rows: <pad> 0, </s> 1, <unk> 2, the words, then the sentinels <extra_id_0>, <extra_id_1>, ...
"""

from __future__ import annotations

import json
import pathlib

from dawgen_jax.miniworld.lexicon import SLOTS

__all__ = ["ANSWERING", "ANSWERS", "CONNECTIVES", "EOS", "IDS", "META_WORDS", "NUM_SENTINELS", "PAD", "QUESTION_PAIRS",
           "SENTINELS", "TOKENS", "WORDS", "save_tokenizer"]

PAD, EOS, UNK = 0, 1, 2

WORDS = tuple(dict.fromkeys(form for slot in SLOTS.values() for word in slot.values()
                            for form in (*word.forms, word.participle) if form))
"""Every surface form of a content word, without repeats."""
FUNCTION_WORDS = ("a", "an", "no", "the", "in", "is", "by", "does", "do", "who", "what", "where", ".", "?")
CONNECTIVES = {"equivalent": ("likewise", "indeed"), "entailment": ("so", "therefore"),
               "neutral": ("maybe", "perhaps"), "contradiction": ("never", "rather")}
"""Words that join two statements, by the relation of the first to the second."""
QUESTION_PAIRS = {"same": ("again", "namely"), "different": ("also", "besides")}
"""Words that join two questions."""
ANSWERING = {"known": ("well", "surely"), "open": ("anyway", "meanwhile")}
"""Words that join a question and a statement that answers it, or leaves it open."""
ANSWERS = ("yes", "unknown", "no")
"""Answers to polar questions; 'unknown' also answers other questions."""
META_WORDS = ("text", "sentence", "question", "answer", "claim", "first", "second", "next", "other", "same",
              "different", "true", "false", "say", "write", "general", "special", "means", "word", "and", "or", "if",
              "not", ":", ",")
"""Words of instructions. In unlabelled text they occur only among the random words of prefixes and before cuts, and ':'
also ends a glossary; they never occur within a document."""
NUM_SENTINELS = 16

_TEXT_WORDS = (*FUNCTION_WORDS, *ANSWERS, *(word for table in (CONNECTIVES, QUESTION_PAIRS, ANSWERING)
                                            for words in table.values() for word in words), *WORDS, *META_WORDS)
SENTINELS = tuple(f"<extra_id_{i}>" for i in range(NUM_SENTINELS))
TOKENS = ("<pad>", "</s>", "<unk>", *dict.fromkeys(_TEXT_WORDS), *SENTINELS)
"""All tokens, in the order of their ids."""
IDS = {token: i for i, token in enumerate(TOKENS)}


def save_tokenizer(folder: str | pathlib.Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, which ``AutoTokenizer.from_pretrained`` loads.

    Text is lower-cased and split at spaces and punctuation; </s> is appended; decoding joins words with spaces.
    """
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", EOS)])
    special = ("<pad>", "</s>", "<unk>", *SENTINELS)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    folder = pathlib.Path(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>",
                "unk_token": "<unk>", "extra_special_tokens": list(SENTINELS), "clean_up_tokenization_spaces": False,
                "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
