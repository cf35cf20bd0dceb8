"""The backbone's tokenizer: sentences to ids and back, and which ids may stand where.

A T5 model has more embedding rows than its tokenizer has pieces; those rows, padding, the unknown piece and the
sentinels (<extra_id_n>) are never sampled and never start a prompt.
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

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "banned_ids", "batch_ids", "load_tokenizer", "read_tokenizer", "sentinel_id", "text_ids", "to_texts",
    "word_start_ids",
]


_SENTINEL = re.compile("\u2581?<extra_id_[0-9]+>")
"""A sentinel's piece; mt5's vocabulary holds them as ordinary pieces with a word mark."""


def read_tokenizer(path: str | pathlib.Path) -> PreTrainedTokenizerBase:
    """Reads the tokenizer of a Hugging Face directory, whatever its pieces.

    Nothing is fetched and no code of the directory is run.

    Raises:
      UserError: there is no such folder, or no tokenizer in it that can be read.
    """
    with no_advice():
        from transformers import AutoTokenizer

    if not pathlib.Path(path).is_dir():
        raise UserError(f"{path}: no such folder; give a Hugging Face directory with a tokenizer (tokenizer.json or "
                        "spiece.model).")
    try:
        return AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds, all of them about the files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: its tokenizer cannot be loaded ({reason}); put tokenizer.json, or spiece.model and "
                        "config.json, there.") from None


def load_tokenizer(path: str | pathlib.Path, vocab_size: int | None = None) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a T5, as :func:`read_tokenizer` reads it.

    Args:
      path: the directory.
      vocab_size: V, rows of the model's embedding; by default any number will do.

    Raises:
      UserError: there is no such folder, no tokenizer in it that can be read, or one whose sentinel the model lacks.
    """
    tokenizer = read_tokenizer(path)
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
        raise UserError(f"{path}: its tokenizer has no end-of-sequence or no padding piece; T5 needs </s> and <pad>.")
    if (mask := sentinel_id(tokenizer)) >= (vocab_size or np.inf):
        raise UserError(f"{path}: its tokenizer's <extra_id_0> is piece {mask}, but the model has only {vocab_size} "
                        "rows; put the tokenizer of this model there.")
    return tokenizer


@contextlib.contextmanager
def no_advice() -> Iterator[None]:
    """Keep transformers from saying, as it is imported, that it lacks PyTorch: its tokenizers need none."""
    name = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def sentinel_id(tokenizer: PreTrainedTokenizerBase, n: int = 0) -> int:
    """The id of <extra_id_n>; the first one is the mask of the templates.

    Raises:
      UserError: the tokenizer has no such piece.
    """
    for piece in (f"<extra_id_{n}>", f"\u2581<extra_id_{n}>"):
        found = tokenizer.convert_tokens_to_ids(piece)
        if found is not None and found != tokenizer.unk_token_id:
            return found
    raise UserError(f"{tokenizer.name_or_path}: its tokenizer has no piece <extra_id_{n}>; use a T5 tokenizer.")


def banned_ids(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> np.ndarray:
    """Ids that are never sampled: sentinels, all special pieces but end of sequence, and rows without a piece.

    Args:
      tokenizer: of the backbone.
      vocab_size: V, rows of the model's embedding.

    Returns:
      int32 [n], ascending.
    """
    pieces = tokenizer.get_vocab()
    special = {*tokenizer.all_special_ids, *(i for piece, i in pieces.items() if _SENTINEL.fullmatch(piece))}
    rows = set(range(vocab_size))
    return np.array(sorted((special - {tokenizer.eos_token_id}) & rows | rows - set(pieces.values())), np.int32)


def word_start_ids(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Ids of alphabetic pieces that start a word, ascending: the first 100 of T5's start a prompt ("the", "and", ...).

    In a vocabulary of whole words (no piece with a word mark) these are the alphabetic words.

    Returns:
      int32 [n].
    """
    special = set(tokenizer.all_special_ids)
    pieces = [(i, piece) for piece, i in tokenizer.get_vocab().items() if i not in special]
    mark = "\u2581" if any(piece.startswith("\u2581") for _, piece in pieces) else ""
    starts = (i for i, piece in pieces if piece.startswith(mark) and piece[len(mark) :].isalpha())
    return np.array(sorted(starts), np.int32)


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a plain text, nothing added; a text that spells a special piece ('</s>') gives ordinary pieces."""
    return batch_ids(tokenizer, [text])[0]


def batch_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """:func:`text_ids` of many texts in one call."""
    if not texts:
        return []
    special = re.compile("|".join(re.escape(piece) for piece in tokenizer.all_special_tokens))
    plain = [special.sub(lambda match: match[0][0] + " " + match[0][1:], text) for text in texts]
    return tokenizer(plain, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]


def to_texts(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Sequence[int]]) -> list[str]:
    """Texts of rows of ids, special pieces left out, ends stripped; spaces before punctuation stay (MRPC has them)."""
    return [tokenizer.decode(list(map(int, row)), skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
            for row in rows]
