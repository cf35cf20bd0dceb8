"""Tokenizers, whatever the family: reading them, plain texts to ids and back, and which ids start a word.

Three kinds of vocabulary are told apart by their pieces: SentencePiece marks the start of a word with '▁', byte-level
BPE writes the space in front of it as 'Ġ', and a vocabulary of whole words marks nothing.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dawgen_jax.errors import UserError
from dawgen_jax.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["LINE_BREAKS", "MARK", "TOKENIZER_FILES", "LabelWordError", "is_byte_level", "no_advice", "plain_ids",
           "read_tokenizer", "readable_pieces", "to_texts", "unused_ids", "word_ids", "word_mark", "word_start_ids"]

MARK, _BYTE_MARK = "\u2581", "\u0120"  # '▁' and 'Ġ'
LINE_BREAKS = ("\u010a", "<0x0A>")  # of byte-level and of SentencePiece vocabularies
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model",
                   "tokenizer.model", "added_tokens.json", "generation_config.json", "vocab.json", "merges.txt")
"""What a checkpoint's directory may hold besides weights and config.json."""


def read_tokenizer(path: str | pathlib.Path, vocab_size: int | None = None) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a Hugging Face directory. Nothing is fetched, and no code of the directory runs.

    Args:
      path: the directory.
      vocab_size: V, rows of the model's embedding; None if there is no model to fit.

    Raises:
      UserError: there is no such folder, no tokenizer in it that can be read, or a piece has no row in the embedding.
    """
    with no_advice():
        from transformers import AutoTokenizer

    if not pathlib.Path(path).is_dir():
        raise UserError(f"{path}: no such folder; give a Hugging Face directory with a tokenizer (tokenizer.json or "
                        "spiece.model).")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds, all of them about the files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: its tokenizer cannot be loaded ({reason}); put tokenizer.json, or spiece.model and "
                        "config.json, there.") from None
    if vocab_size is not None:
        # JAX clips an index that is out of range, so that different texts would silently get one embedding.
        piece, highest = max(tokenizer.get_vocab().items(), key=lambda item: item[1], default=("", 0))
        if highest >= vocab_size:
            raise UserError(f"{path}: its tokenizer's piece {piece!r} has id {highest}, but the model's embedding has "
                            f"only {vocab_size} rows; put the tokenizer of this model there, without added tokens.")
    return tokenizer


@contextlib.contextmanager
def no_advice() -> Iterator[None]:
    """Keep transformers from warning on import that PyTorch is missing: its tokenizers do not need it."""
    name = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def plain_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Ids of plain texts, nothing added; a text that spells a special piece gives ordinary pieces."""
    if not texts:
        return []
    special = re.compile("|".join(map(re.escape, tokenizer.all_special_tokens)) or "(?!)")
    plain = [special.sub(lambda match: match[0][0] + " " + match[0][1:], text) for text in texts]
    return tokenizer(plain, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]


def to_texts(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Sequence[int]]) -> list[str]:
    """Texts of rows of ids, special pieces left out, ends stripped; spaces before punctuation stay (MRPC has them)."""
    return [tokenizer.decode(list(map(int, row)), skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
            for row in rows]


def word_mark(tokenizer: PreTrainedTokenizerBase) -> str:
    """What pieces that start a word begin with: '▁', 'Ġ', or nothing if the vocabulary has whole words."""
    counts = {mark: sum(piece.startswith(mark) for piece in tokenizer.get_vocab()) for mark in (MARK, _BYTE_MARK)}
    mark = max(counts, key=lambda mark: counts[mark])
    return mark if counts[mark] else ""


def is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a word's leading space is a part of its piece: texts in the middle of a row then need one."""
    return word_mark(tokenizer) == _BYTE_MARK


def readable_pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Pieces as people read them: the start of a word is '▁', and byte-level pieces are decoded."""
    pieces = tokenizer.convert_ids_to_tokens(list(map(int, ids)))
    return [_decoded(piece) for piece in pieces] if is_byte_level(tokenizer) else pieces


def _byte_letters() -> dict[str, int]:
    """The letter that byte-level BPE writes for each byte: itself if printable, else one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_letters()


def _decoded(piece: str) -> str:
    """A byte-level piece as text, its leading space as '▁'; special pieces, which are not in this alphabet, as they
    are.

    >>> _decoded("\u0120caf\u00c3\u00a9")
    '▁café'
    """
    if any(letter not in _BYTES for letter in piece):
        return piece
    text = bytes(_BYTES[letter] for letter in piece).decode(errors="replace")
    return MARK + text[1:] if text.startswith(" ") else text


def word_start_ids(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Ids of alphabetic pieces that start a word, ascending: the first 100 of T5's start a prompt ("the", "and", ...).

    In a vocabulary of whole words these are the alphabetic words.

    Returns:
      int32 [n].
    """
    special, mark = set(tokenizer.all_special_ids), word_mark(tokenizer)
    decoded = _decoded if mark == _BYTE_MARK else str
    front = MARK if mark else ""
    starts = (i for piece, i in tokenizer.get_vocab().items()
              if i not in special and piece.startswith(mark) and decoded(piece)[len(front):].isalpha())
    return np.array(sorted(starts), np.int32)


def unused_ids(tokenizer: PreTrainedTokenizerBase, vocab_size: int, eos_id: int, special: Iterable[int] = ()
               ) -> np.ndarray:
    """Ids that are never sampled: special pieces but the end of sequence, and rows without a piece.

    Args:
      tokenizer: of the backbone.
      vocab_size: V, rows of the model's embedding.
      eos_id: the end of sequence, which may be sampled.
      special: the family's own special ids besides the tokenizer's.

    Returns:
      int32 [n], ascending.
    """
    rows, pieces = set(range(vocab_size)), set(tokenizer.get_vocab().values())
    return np.array(sorted(({*tokenizer.all_special_ids, *special} - {eos_id}) & rows | rows - pieces), np.int32)


class LabelWordError(UserError):
    """Label words that cannot be told apart by one token each.

    Attributes:
      proposed: words that are one token each, in the order of the labels.
    """

    def __init__(self, message: str, proposed: Sequence[str]):
        super().__init__(message)
        self.proposed = tuple(proposed)


def word_ids(tokenizer: PreTrainedTokenizerBase, task: Task, words: Sequence[str], lead: str = "") -> np.ndarray:
    """The id that stands for each label word: that of its first token, which is usually the whole word.

    Args:
      tokenizer: of the backbone.
      task: whose labels the words stand for, for messages.
      words: one for each label.
      lead: what stands in front of a word in a text: a space, or nothing.

    Returns:
      int32 [L] in the order of ``task.labels``.

    Raises:
      LabelWordError: a label word is unknown, or two labels share their first token.
    """
    rows = _known(tokenizer, [lead + word for word in words])
    ids = [row[0] if row else None for row in rows]
    if None not in ids and len(set(ids)) == len(ids):
        return np.array(ids, np.int32)
    bad = next((i for i, found in enumerate(ids) if found is None or ids.index(found) < i))
    if ids[bad] is None:
        fault = f"the label word '{words[bad]}' of '{task.labels[bad]}' has no token of its own in"
    else:
        other = ids.index(ids[bad])
        piece = readable_pieces(tokenizer, [ids[bad]])[0]
        fault = (f"the label words '{words[other]}' of '{task.labels[other]}' and '{words[bad]}' of "
                 f"'{task.labels[bad]}' begin with the same token '{piece}' in")
    proposed = _proposed(tokenizer, task.labels, lead)
    raise LabelWordError(f"Task {task.name}: {fault} {tokenizer.name_or_path}; choose words of one token each"
                         + (f", for instance {' '.join(proposed)}." if proposed else "."), proposed)


def _known(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> list[list[int]]:
    """The ids of words; none of a word with an unknown piece, or whose first piece is only the mark of a word's
    start."""
    bare = tokenizer.convert_tokens_to_ids(word_mark(tokenizer) or "<none>")
    return [[] if tokenizer.unk_token_id in row or row[:1] == [bare] else list(row)
            for row in plain_ids(tokenizer, words)]


_LETTERS = ("no", "yes", "maybe", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _proposed(tokenizer: PreTrainedTokenizerBase, labels: Sequence[str], lead: str) -> list[str]:
    """A word of one token for each label: a word of its name, or one of a fixed list; nothing if there are too few."""
    proposed: list[str] = []
    for label in labels:
        own = [word for name in (label, label.lower()) for word in (name, *re.split(r"[\W_]+", name)[::-1]) if word]
        rows = _known(tokenizer, [lead + word for word in (*own, *_LETTERS)])
        fitting = [word for word, row in zip((*own, *_LETTERS), rows, strict=True)
                   if len(row) == 1 and word not in proposed]
        proposed += fitting[:1]
    return proposed if len(proposed) == len(labels) else []
