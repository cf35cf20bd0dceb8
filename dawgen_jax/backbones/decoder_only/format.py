"""Tokens and templates of decoder-only models as a :class:`dawgen_jax.backbones.base.Format`.

Every row begins with the document start that the model was trained with, if there is one (:func:`document_start`).

Classifier: the task's wording for causal models, which ends where the answer is read; a label word has its space in
front. A soft prompt may be at <prompt>, after the texts, so that their keys and values do not depend on it.
Demonstrations end with the label word and a blank line, and have no document start.

Generator: sentence 1 and one place for each infix row; then sentence 2 and a line break. The line break ends a sentence
because it does so in running text: behind 48 sentences of four tasks in a bare 'Sentence 2:', SmolLM2-135M-Instruct
gives it a mean negative log-likelihood of 0.5 to 3.4, against 3.2 to 11.9 for its own end of a turn and 5.5 to 7.9 for
a space with a line break.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dawgen_jax.backbones import tokens
from dawgen_jax.backbones.base import Adapter, AnswerRows, SourceRows
from dawgen_jax.backbones.templates import MASK, PROMPT, Part, fill, spaced, split
from dawgen_jax.config import shown
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CausalFormat", "adapter", "document_start"]

_DOCUMENT_START = "<|endoftext|>"
"""What separates documents in vocabularies like GPT-2's."""


def document_start(tokenizer: PreTrainedTokenizerBase, values: Mapping[str, Any]) -> int | None:
    """The id that documents began with in training; None if they began with nothing.

    In this order: what config.json states as ``document_start_token_id`` (an id or null); what the tokenizer puts in
    front by itself (Llama 2 and 3); '<|endoftext|>' if a Llama-shaped model has it (SmolLM2, whose instruct versions
    name another token as their first); nothing (Qwen).

    Args:
      tokenizer: of the model.
      values: the parsed config.json.

    Raises:
      UserError: config.json states something else than an id.
    """
    vocabulary = tokenizer.get_vocab()
    if "document_start_token_id" in values:
        stated = values["document_start_token_id"]
        if stated is not None and (type(stated) is not int or stated not in vocabulary.values()):
            raise UserError(f"{tokenizer.name_or_path}: document_start_token_id = {shown(stated)} in config.json: must "
                            "be the id of a piece, or null.")
        return stated
    added = tokenizer("a")["input_ids"]
    if added and added[0] in tokenizer.all_special_ids:
        return added[0]
    return vocabulary.get(_DOCUMENT_START) if values.get("model_type") == "llama" else None


@dataclasses.dataclass(frozen=True, eq=False)
class CausalFormat:
    """The tokens of a decoder-only model.

    Attributes:
      tokenizer: from ``transformers``.
      vocab_size: V, rows of the model's embedding.
      start: the document start, or nothing.

    Raises:
      UserError: the tokenizer has neither a line break nor an end of sequence.
    """

    tokenizer: PreTrainedTokenizerBase
    vocab_size: int
    start: tuple[int, ...] = ()

    def __post_init__(self):
        if self.eos_id is None:
            raise UserError(f"{self.name}: its tokenizer has no line break and no end-of-sequence piece; put another "
                            "tokenizer there.")

    @property
    def name(self) -> str:
        return self.tokenizer.name_or_path

    @property
    def unk_id(self) -> int | None:
        # Byte-level vocabularies lack nothing; the unknown piece that SmolLM2's names is its document start.
        return None if self._byte_level else self.tokenizer.unk_token_id

    @property
    def adapter(self) -> Adapter:
        return adapter(self.start)

    @functools.cached_property
    def eos_id(self) -> int:
        """A line break, or the tokenizer's end of sequence if no piece is one."""
        return next((i for piece in tokens.LINE_BREAKS if (i := self.tokenizer.get_vocab().get(piece)) is not None),
                    self.tokenizer.eos_token_id)

    @functools.cached_property
    def _byte_level(self) -> bool:
        return tokens.is_byte_level(self.tokenizer)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return tokens.plain_ids(self.tokenizer, texts)

    def _continued(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts that follow others, including white space at their start."""
        if self._byte_level:
            return self.ids(texts)
        # SentencePiece puts a space in front of a text: one that belongs to a line break here, and is cut off with it.
        front = self.ids(["\n"])[0]
        return [row[len(front):] for row in self.ids(["\n" + text for text in texts])]

    def texts(self, rows: Iterable[Sequence[int]]) -> list[str]:
        return tokens.to_texts(self.tokenizer, rows)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return tokens.readable_pieces(self.tokenizer, ids)

    def label_ids(self, task: Task) -> np.ndarray:
        template, words = self.wording(task)
        lead = "" if template.removesuffix(MASK).endswith("\n") or not self._byte_level else " "
        return tokens.word_ids(self.tokenizer, task, words, lead)

    def word_start_ids(self) -> np.ndarray:
        return tokens.word_start_ids(self.tokenizer)

    def banned_ids(self) -> np.ndarray:
        # A sentence ends with its line, so that no other piece may break it.
        breaks = {i for piece, i in self.tokenizer.get_vocab().items() if any(mark in piece for mark in
                                                                              tokens.LINE_BREAKS)}
        return tokens.unused_ids(self.tokenizer, self.vocab_size, self.eos_id, breaks)

    def wording(self, task: Task) -> tuple[str, tuple[str, ...]]:
        return task.completion

    def answer_rows(self, task: Task, texts: Sequence[Sequence[str]], max_tokens: int, *,
                    answers: Sequence[int] | None = None, bare: bool = False) -> AnswerRows:
        count = len(texts[0])
        columns = {f"{{{field}}}": column for field, column in zip(task.fields, texts, strict=True)}
        parts = [] if answers is not None or not self.start else [Part([list(self.start)] * count)]
        words = () if answers is None else self.label_ids(task).tolist()
        place, space, encode = None, "", self.ids
        for lead, piece in spaced(split(task.bare if bare else self.wording(task)[0], MASK, PROMPT)):
            lead, space = lead or space, ""
            if piece in (PROMPT, MASK):
                # Line breaks stay in front of the mark. A space belongs to the next word; a label word has its own.
                front = lead.rstrip(" ")
                if front:
                    parts.append(Part(self._continued([front]) * count))
                if piece == PROMPT:
                    place, space = len(parts), lead[len(front):]
                elif answers is not None:
                    parts.append(Part([[words[answer]] for answer in answers]))
                    parts.append(Part(self._continued(["\n\n"]) * count))
                continue
            if piece in columns:
                parts.append(Part(encode([lead + text for text in columns[piece]]), cut=True))
            else:
                parts.append(Part(encode([lead + piece]) * count))
            encode = self._continued
        inside = place is not None and answers is None and count  # no examples say nothing about the tail
        tail = sum(len(part.rows[0]) for part in parts[place:]) if inside else None
        return AnswerRows(fill(parts, max_tokens, task.name), tail)

    def source_rows(self, sentences: Sequence[str], infix_length: int, max_tokens: int) -> SourceRows:
        found = self._sentences(sentences)
        front = len(self.start)
        return SourceRows([[*self.start, *ids[:max_tokens], *[0] * infix_length] for ids in found],
                          [[*[-1] * (front + min(len(ids), max_tokens)), *range(infix_length)] for ids in found],
                          [len(ids) > max_tokens for ids in found])

    def target_rows(self, sentences: Sequence[str], max_tokens: int) -> list[list[int]]:
        return [[*ids[:max_tokens - 1], self.eos_id] for ids in self._sentences(sentences)]

    def _sentences(self, sentences: Sequence[str]) -> list[list[int]]:
        """Ids of sentences on one line, each with a space in front, as behind 'Sentence 1:'."""
        lines = [" ".join(sentence.split()) for sentence in sentences]
        return [ids if line else [] for line, ids in zip(lines, self._continued([f" {line}" for line in lines]),
                                                         strict=True)]


_PREDICT = """
template = {template}
label_words = {words}
word_ids = [next(i for i in tokenizer(word, add_special_tokens=False).input_ids if tokenizer.decode([i]).strip())
            for word in label_words.values()]  # the first piece that is more than a space


@torch.no_grad()
def predict(**sentences):
    text = template
    for name, sentence in sentences.items():
        text = text.replace("{{" + name + "}}", sentence)
    tokens = {start} + tokenizer(text, add_special_tokens=False).input_ids
    scores = model(input_ids=torch.tensor([tokens])).logits[0, -1, word_ids]
    return list(label_words)[scores.argmax()]
"""


def adapter(start: tuple[int, ...]) -> Adapter:
    """How PEFT holds a prompt in front of a row that begins with ``start``."""
    def predict(task: Task) -> tuple[str, str]:
        template, words = task.completion
        text = template.replace(PROMPT, "").removesuffix(MASK)
        labels = {label: ("" if text.endswith("\n") else " ") + word
                  for label, word in zip(task.labels, words, strict=True)}
        code = _PREDICT.format(template=json.dumps(text), words=json.dumps(labels), start=list(start))
        return code, "The class is the label word that the model prefers as the next one."

    fields = {"task_type": "CAUSAL_LM", "num_transformer_submodules": 1}
    return Adapter(fields, "AutoModelForCausalLM", "input", predict)
