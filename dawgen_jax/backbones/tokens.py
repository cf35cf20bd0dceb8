"""Functions of tokenizers that all families share: reading, encoding, decoding, and which tokens start a word.

The tokens show which of three kinds a vocabulary is: SentencePiece marks the start of a word with '▁', byte-level BPE
writes the preceding space as 'Ġ', and a vocabulary of whole words has no marks.
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

__all__ = ["LINE_BREAKS", "MARK", "TOKENIZER_FILES", "LabelWordError", "is_byte_level", "plain_ids", "quiet_import",
           "read_tokenizer", "readable_pieces", "to_texts", "unused_ids", "word_ids", "word_mark", "word_start_ids"]

MARK, _BYTE_MARK = "\u2581", "\u0120"  # '▁' and 'Ġ'
LINE_BREAKS = ("\u010a", "<0x0A>")  # in byte-level and in SentencePiece vocabularies
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model",
                   "tokenizer.model", "added_tokens.json", "generation_config.json", "vocab.json", "merges.txt")
"""Tokenizer files of a checkpoint."""


def read_tokenizer(path: str | pathlib.Path, vocab_size: int | None = None) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a Hugging Face directory, without downloading anything or running its code.

    Args:
      path: the directory.
      vocab_size: V, rows of the model's embedding; None skips the comparison.

    Raises:
      UserError: the folder or a usable tokenizer is missing, or a token has no row in the embedding.
    """
    with quiet_import():
        from transformers import AutoTokenizer

    if not pathlib.Path(path).is_dir():
        raise UserError(f"{path}: no such folder; give a Hugging Face directory with a tokenizer (tokenizer.json or "
                        "spiece.model).")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many types, all caused by the files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: its tokenizer cannot be loaded ({reason}); put tokenizer.json, or spiece.model and "
                        "config.json, there.") from None
    if vocab_size is not None:
        # JAX clips indices that are out of range, so different texts would silently share an embedding.
        piece, highest = max(tokenizer.get_vocab().items(), key=lambda item: item[1], default=("", 0))
        if highest >= vocab_size:
            raise UserError(f"{path}: token {piece!r} of its tokenizer has id {highest}, but the model's embedding has "
                            f"only {vocab_size} rows; put the tokenizer of this model there, without added tokens.")
    return tokenizer


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Silence the warning of transformers that PyTorch is missing: its tokenizers do not need it."""
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
    """Ids of plain texts without special tokens; text that spells a special token is tokenised as plain text."""
    if not texts:
        return []
    special = re.compile("|".join(map(re.escape, tokenizer.all_special_tokens)) or "(?!)")
    plain = [special.sub(lambda match: match[0][0] + " " + match[0][1:], text) for text in texts]
    return tokenizer(plain, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]


def to_texts(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Sequence[int]]) -> list[str]:
    """Decoded rows, without special tokens, stripped; spaces before punctuation stay, because MRPC has them."""
    return [tokenizer.decode(list(map(int, row)), skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
            for row in rows]


def word_mark(tokenizer: PreTrainedTokenizerBase) -> str:
    """The prefix of tokens that start a word: '▁', 'Ġ', or '' in a vocabulary of whole words."""
    counts = {mark: sum(piece.startswith(mark) for piece in tokenizer.get_vocab()) for mark in (MARK, _BYTE_MARK)}
    mark = max(counts, key=lambda mark: counts[mark])
    return mark if counts[mark] else ""


def is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether tokens include the preceding space, so that text in the middle of a row needs one."""
    return word_mark(tokenizer) == _BYTE_MARK


def readable_pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Tokens for people: '▁' marks the start of a word, and byte-level tokens are decoded."""
    pieces = tokenizer.convert_ids_to_tokens(list(map(int, ids)))
    return [_decoded(piece) for piece in pieces] if is_byte_level(tokenizer) else pieces


def _byte_letters() -> dict[str, int]:
    """The character that byte-level BPE writes for each byte: itself if printable, otherwise one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_letters()


def _decoded(piece: str) -> str:
    """A byte-level token as text with its leading space as '▁'; special tokens are returned unchanged.

    >>> _decoded("\u0120caf\u00c3\u00a9")
    '▁café'
    """
    if any(letter not in _BYTES for letter in piece):
        return piece
    text = bytes(_BYTES[letter] for letter in piece).decode(errors="replace")
    return MARK + text[1:] if text.startswith(" ") else text


def word_start_ids(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Ids of alphabetic tokens that start a word, ascending; the first 100 of T5 ("the", "and", ...) start a prompt.

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
    """Ids that are never sampled: special tokens except the end of sequence, and unused ids.

    Args:
      tokenizer: from ``transformers``.
      vocab_size: V, rows of the model's embedding.
      eos_id: the end of sequence, which may be sampled.
      special: special ids of the family that the tokenizer does not list.
      int32 [n], ascending.
    """
    rows, pieces = set(range(vocab_size)), set(tokenizer.get_vocab().values())
    return np.array(sorted(({*tokenizer.all_special_ids, *special} - {eos_id}) & rows | rows - pieces), np.int32)


class LabelWordError(UserError):
    """Label words whose first tokens are unknown or equal.

    Attributes:
      proposed: words that are one token each, in the order of the labels.
    """

    def __init__(self, message: str, proposed: Sequence[str]):
        super().__init__(message)
        self.proposed = tuple(proposed)


def word_ids(tokenizer: PreTrainedTokenizerBase, task: Task, words: Sequence[str], lead: str = "") -> np.ndarray:
    """The id of each label word's first token, which is usually the whole word.

    Args:
      tokenizer: from ``transformers``.
      task: gives the labels, for messages.
      words: one word per label.
      lead: text in front of a word: a space, or nothing.

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
        fault = f"the label word '{words[bad]}' of '{task.labels[bad]}' has no usable token in"
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
