"""T5's tokens and templates as a :class:`dawgen_jax.backbones.base.Format`.

Classifier: the template with the sentinel <extra_id_0> as its mask, followed by the end of sequence. The template's
words and the texts are tokenised separately, as in OpenPrompt; if white space separates them, the result equals
tokenising the whole text. Demonstrations have the label word instead of the mask and no end of sequence.

Generator: the encoder reads sentence 1, one position per infix row and the end of sequence; the decoder writes
sentence 2 and the end of sequence. For single-text tasks the encoder reads only the infix and the end of sequence.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dawgen_jax.backbones import tokens
from dawgen_jax.backbones.base import Adapter, AnswerRows, SourceRows
from dawgen_jax.backbones.templates import MASK, Part, fill, spaced, split
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ADAPTER", "T5Format", "sentinel_id"]

_SENTINEL = re.compile(f"{tokens.MARK}?<extra_id_[0-9]+>")
"""A sentinel; mt5's vocabulary holds sentinels as ordinary tokens with a word mark."""
_BYTE_SENTINELS = range(258, 247, -1)
"""ByT5 was trained with sentinels that count down from 258, the ids of bytes that never occur in UTF-8, and never saw
the tokens <extra_id_0>, ... that its tokenizer adds from 259 on."""


def _has_bytes(tokenizer: PreTrainedTokenizerBase) -> bool:
    return type(tokenizer).__name__ == "ByT5Tokenizer"


def sentinel_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the first sentinel, which is the mask of the templates.

    Raises:
      UserError: the tokenizer has no sentinel.
    """
    if _has_bytes(tokenizer):
        return _BYTE_SENTINELS[0]
    for piece in ("<extra_id_0>", f"{tokens.MARK}<extra_id_0>"):
        found = tokenizer.convert_tokens_to_ids(piece)
        if found is not None and found != tokenizer.unk_token_id:
            return found
    raise UserError(f"{tokenizer.name_or_path}: its tokenizer has no piece <extra_id_0>; use a T5 tokenizer.")


@dataclasses.dataclass(frozen=True, eq=False)
class T5Format:
    """The tokens of a T5.

    Attributes:
      tokenizer: from ``transformers``.
      vocab_size: V, rows of the model's embedding, often more than the tokenizer has tokens.

    Raises:
      UserError: the tokenizer has no end of sequence, padding or sentinel.
    """

    tokenizer: PreTrainedTokenizerBase
    vocab_size: int
    start: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self):
        if self.tokenizer.eos_token_id is None or self.tokenizer.pad_token_id is None:
            raise UserError(f"{self.name}: its tokenizer has no end-of-sequence or no padding piece; T5 needs </s> and "
                            "<pad>.")
        sentinel_id(self.tokenizer)

    @property
    def name(self) -> str:
        return self.tokenizer.name_or_path

    @property
    def eos_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def unk_id(self) -> int | None:
        return self.tokenizer.unk_token_id

    @property
    def adapter(self) -> Adapter:
        return ADAPTER

    @functools.cached_property
    def mask_id(self) -> int:
        """The first sentinel, which the decoder reads before the answer."""
        return sentinel_id(self.tokenizer)

    @functools.cached_property
    def _lead(self) -> str:
        """The space in front of a word within a text, if the vocabulary joins it with the word."""
        return " " if tokens.is_byte_level(self.tokenizer) else ""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return tokens.plain_ids(self.tokenizer, texts)

    def texts(self, rows: Iterable[Sequence[int]]) -> list[str]:
        return tokens.to_texts(self.tokenizer, rows)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return tokens.readable_pieces(self.tokenizer, ids)

    def label_ids(self, task: Task) -> np.ndarray:
        return tokens.word_ids(self.tokenizer, task, task.label_words, self._lead)

    def word_start_ids(self) -> np.ndarray:
        return tokens.word_start_ids(self.tokenizer)

    def banned_ids(self) -> np.ndarray:
        sentinels = {i for piece, i in self.tokenizer.get_vocab().items() if _SENTINEL.fullmatch(piece)}
        sentinels |= set(_BYTE_SENTINELS) if _has_bytes(self.tokenizer) else set()
        return tokens.unused_ids(self.tokenizer, self.vocab_size, self.eos_id, sentinels)

    def wording(self, task: Task) -> tuple[str, tuple[str, ...]]:
        return task.template, task.label_words

    def answer_rows(self, task: Task, texts: Sequence[Sequence[str]], max_tokens: int, *,
                    answers: Sequence[int] | None = None, bare: bool = False) -> AnswerRows:
        parts = split(task.bare if bare else task.template, MASK)
        pieces = spaced(parts) if self._lead else [("", part) for part in parts if part.strip()]
        columns = {f"{{{field}}}": column for field, column in zip(task.fields, texts, strict=True)}
        words = () if answers is None else self.label_ids(task).tolist()
        masks = [[words[answer]] for answer in answers] if answers is not None else [[self.mask_id]] * len(texts[0])
        filled = []
        for lead, piece in pieces:
            if piece in columns:
                filled.append(Part(self.ids([lead + text for text in columns[piece]]), cut=True))
            elif piece == MASK:
                filled.append(Part(masks))
            else:
                filled.append(Part(self.ids([lead + piece]) * len(texts[0])))
        rows = fill(filled, max_tokens, task.name, reserved=1)
        end = [self.eos_id] if answers is None else []
        return AnswerRows([row + end for row in rows], None)

    def source_rows(self, sentences: Sequence[str], infix_length: int, max_tokens: int) -> SourceRows:
        found, filler = self.ids(sentences), self.tokenizer.pad_token_id
        kept = [ids[:max_tokens] for ids in found]
        return SourceRows([[*ids, *[filler] * infix_length, self.eos_id] for ids in kept],
                          [[*[-1] * len(ids), *range(infix_length), -1] for ids in kept],
                          [len(ids) > max_tokens for ids in found])

    def target_rows(self, sentences: Sequence[str], max_tokens: int) -> list[list[int]]:
        return [[*ids[:max_tokens - 1], self.eos_id] for ids in self.ids(sentences)]


_PREDICT = """
template = {template}
label_words = {words}
mask = tokenizer("<extra_id_0>", add_special_tokens=False).input_ids[-1]
word_ids = [tokenizer(word, add_special_tokens=False).input_ids[0] for word in label_words.values()]
decoder = torch.tensor([[model.config.decoder_start_token_id, mask]])


@torch.no_grad()
def predict(**sentences):
    text = template
    for name, sentence in sentences.items():
        text = text.replace("{{" + name + "}}", sentence)
    scores = model(**tokenizer(text, return_tensors="pt"), decoder_input_ids=decoder).logits[0, -1, word_ids]
    return list(label_words)[scores.argmax()]
"""


def _predict(task: Task) -> tuple[str, str]:
    words = dict(zip(task.labels, task.label_words, strict=True))
    code = _PREDICT.format(template=json.dumps(task.template.replace(MASK, "<extra_id_0>")), words=json.dumps(words))
    return code, "The class is the label word that the decoder prefers behind `<extra_id_0>`."


ADAPTER = Adapter(
    # By default PEFT uses 2 submodules for this task type, and expects virtual tokens for the decoder too.
    {"task_type": "SEQ_2_SEQ_LM", "num_transformer_submodules": 1}, "AutoModelForSeq2SeqLM", "encoder", _predict)
"""Virtual tokens in front of the encoder's input."""
