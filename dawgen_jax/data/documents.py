"""Sentence pairs of plain documents, labelled by where the two come from: what PPT pre-trains its prompt on.

A third of the pairs are adjacent sentences of one document ('adjacent', in either order), a third are sentences of one
document that are not adjacent ('same'), a third are sentences of two documents ('other').

``Departure:`` PPT walks through all first sentences and draws a partner for each; here every class is drawn uniformly
without replacement from all its ordered pairs, so that long documents count for more among the 'same'.

References:
  Gu, Han, Liu, Huang: PPT: Pre-trained Prompt Tuning for Few-shot Learning, https://arxiv.org/abs/2109.04332, 2022.
"""

from __future__ import annotations

import math
import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dawgen_jax.data.pools import Example
from dawgen_jax.errors import UserError
from dawgen_jax.io.lines import text_lines
from dawgen_jax.tasks import Task

__all__ = ["NEXT_SENTENCE", "PAIR_LABELS", "Documents", "read_documents", "sentence_pairs", "split_sentences"]

PAIR_LABELS = ("other", "same", "adjacent")

NEXT_SENTENCE = Task("next-sentence", PAIR_LABELS, "{sentence1} <mask> {sentence2}", ("no", "maybe", "yes"),
                     (("", ""),) * 3, (1.0,) * 3)
"""PPT's pre-training task, with its template and label words; no generator writes for it."""


class Documents(NamedTuple):
    """Documents as lists of sentences.

    Attributes:
      origin: the file that they were read from, or what else they are from.
      texts: the sentences of each document.
    """

    origin: str
    texts: list[list[str]]


_BOUNDARY = re.compile(r"""(?<=[.!?])(?:["'”’)\]]*)(\s+)(?=["'“‘(\[]?[A-Z0-9])""")


def split_sentences(paragraph: str) -> list[str]:
    """Split a paragraph into sentences by a simple rule.

    A sentence ends with '.', '!' or '?' and any closing quotes and brackets, where white space and then an upper-case
    letter or a digit (perhaps behind an opening quote or bracket) follow. Abbreviations are not known to it, and text
    in lower case is not split: put one sentence a line there.

    >>> split_sentences('It rained. "Really?" 12 people asked. He said e.g. nothing.')
    ['It rained.', '"Really?"', '12 people asked.', 'He said e.g. nothing.']
    """
    sentences, start = [], 0
    for boundary in _BOUNDARY.finditer(paragraph):
        sentences.append(paragraph[start:boundary.start(1)])
        start = boundary.end(1)
    return [text for sentence in [*sentences, paragraph[start:]] if (text := " ".join(sentence.split()))]


def read_documents(path: str | pathlib.Path) -> Documents:
    """Read plain documents: one sentence or paragraph a line, blank lines between documents.

    Args:
      path: a UTF-8 text file, plain or compressed (.gz).

    Raises:
      UserError: the file is missing or broken.
    """
    texts: list[list[str]] = [[]]
    for _, line in text_lines(path):
        sentences = split_sentences(line)
        if sentences:
            texts[-1] += sentences
        elif texts[-1]:
            texts.append([])
    return Documents(str(path), [text for text in texts if text])


def sentence_pairs(documents: Documents, count: int, seed: int) -> list[Example]:
    """Labelled pairs of sentences, a third of each class, in random order.

    Pairs are drawn without replacement; a class with fewer pairs than are wanted is gone through several times.

    Args:
      documents: two or more, one of them with three sentences or more.
      count: pairs; where it is no multiple of three, the first of :data:`PAIR_LABELS` have one more.
      seed: of the draws and of the order.

    Returns:
      Examples with a label of :data:`PAIR_LABELS`.

    Raises:
      UserError: there are too few documents.
    """
    sizes = np.array([len(text) for text in documents.texts], np.int64)
    if len(sizes) < 2 or sizes.max() < 3:
        longest = sizes.max() if len(sizes) else 0
        raise UserError(f"{documents.origin}: {len(sizes)} document(s), the longest of {longest} sentence(s): sentence "
                        "pairs need two documents and one of three sentences; put a blank line between documents, or "
                        "set transfer.documents to a larger file.")
    draws = {"other": (sizes * (sizes.sum() - sizes), _other(documents.texts, sizes)),
             "same": (np.maximum(sizes - 1, 0) * np.maximum(sizes - 2, 0), _same(documents.texts)),
             "adjacent": (2 * (sizes - 1), _adjacent(documents.texts))}
    random, pairs = np.random.default_rng(seed), []
    for position, label in enumerate(PAIR_LABELS):
        per_document, pair = draws[label]
        ends = np.cumsum(per_document)
        for rank in _ranks(random, int(ends[-1]), (count + 2 - position) // 3):
            document = int(np.searchsorted(ends, rank, side="right"))
            pairs.append(Example(*pair(document, rank - int(ends[document] - per_document[document])), label))
    return [pairs[i] for i in random.permutation(len(pairs))]


def _ranks(random: np.random.Generator, available: int, wanted: int) -> list[int]:
    """``wanted`` numbers below ``available``, each drawn once before one is drawn again."""
    rounds, rest = divmod(wanted, available)
    drawn = [random.permutation(available) for _ in range(rounds)] + [random.choice(available, rest, replace=False)]
    return np.concatenate(drawn).tolist()


_Pair = Callable[[int, int], tuple[str, str]]
"""(document, number of the pair among those whose first or only document it is) -> the two sentences."""


def _adjacent(texts: list[list[str]]) -> _Pair:
    def pair(document: int, rank: int) -> tuple[str, str]:
        i, backwards = divmod(rank, 2)
        first, second = texts[document][i:i + 2]
        return (second, first) if backwards else (first, second)

    return pair


def _same(texts: list[list[str]]) -> _Pair:
    def pair(document: int, rank: int) -> tuple[str, str]:
        number, backwards = divmod(rank, 2)
        # Pairs i < j of the first n - 1 sentences, by j and then i; then j moves on by one, away from i.
        j = (1 + math.isqrt(1 + 8 * number)) // 2
        first, second = texts[document][number - j * (j - 1) // 2], texts[document][j + 1]
        return (second, first) if backwards else (first, second)

    return pair


def _other(texts: list[list[str]], sizes: np.ndarray) -> _Pair:
    ends = np.cumsum(sizes)

    def pair(document: int, rank: int) -> tuple[str, str]:
        i, place = divmod(rank, int(ends[-1] - sizes[document]))
        if place >= ends[document] - sizes[document]:  # the document's own sentences are left out
            place += int(sizes[document])
        partner = int(np.searchsorted(ends, place, side="right"))
        return texts[document][i], texts[partner][place - int(ends[partner] - sizes[partner])]

    return pair
