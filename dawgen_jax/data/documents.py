"""Sentence pairs from plain documents, labelled by their relative position: PPT's pre-training data.

A third of the pairs are adjacent sentences of a document ('adjacent', in either order), a third are sentences of a
document that are not adjacent ('same'), and a third are sentences of two documents ('other').

``Departure:`` PPT visits every first sentence and samples a partner for it; here every class is sampled uniformly
without replacement from all its ordered pairs, so that long documents have more weight in the class 'same'.

References:
  Gu, Han, Liu, Huang: PPT: Pre-trained Prompt Tuning for Few-shot Learning, https://arxiv.org/abs/2109.04332, 2022.
"""

from __future__ import annotations

import math
import pathlib
import re
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
"""PPT's pre-training task, with its template and label words; it has no generator."""


class Documents(NamedTuple):
    """Documents as lists of sentences; ``origin`` names their source."""

    origin: str
    texts: list[list[str]]


_BOUNDARY = re.compile(r"""(?<=[.!?])(?:["'”’)\]]*)(\s+)(?=["'“‘(\[]?[A-Z0-9])""")


def split_sentences(paragraph: str) -> list[str]:
    """Split a paragraph into sentences by a simple rule.

    A sentence ends with '.', '!' or '?' and any closing quotes and brackets, followed by white space and an upper-case
    letter or digit, possibly after an opening quote or bracket. The rule also splits after abbreviations, and not
    before lower-case text: write one sentence per line there.

    >>> split_sentences('It rained. "Really?" 12 people asked. He said e.g. nothing.')
    ['It rained.', '"Really?"', '12 people asked.', 'He said e.g. nothing.']
    """
    sentences, start = [], 0
    for boundary in _BOUNDARY.finditer(paragraph):
        sentences.append(paragraph[start:boundary.start(1)])
        start = boundary.end(1)
    return [text for sentence in [*sentences, paragraph[start:]] if (text := " ".join(sentence.split()))]


def read_documents(path: str | pathlib.Path) -> Documents:
    """Read plain documents, optionally gzipped: one sentence or paragraph per line, blank lines between documents.

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

    Pairs are sampled without replacement; a class with too few pairs is repeated. If ``count`` is not a multiple of
    three, the first of :data:`PAIR_LABELS` get one more.

    Raises:
      UserError: there are too few documents.
    """
    sizes = np.array([len(text) for text in documents.texts], np.int64)
    if len(sizes) < 2 or sizes.max() < 3:
        longest = sizes.max() if len(sizes) else 0
        raise UserError(f"{documents.origin}: {len(sizes)} document(s), the longest of {longest} sentence(s): sentence "
                        "pairs need two documents and one of three sentences; put a blank line between documents, or "
                        "set transfer.documents to a larger file.")
    counts = {"other": sizes * (sizes.sum() - sizes), "adjacent": 2 * (sizes - 1),
              "same": np.maximum(sizes - 1, 0) * np.maximum(sizes - 2, 0)}
    random, pairs, ends = np.random.default_rng(seed), [], np.cumsum(sizes)
    for position, label in enumerate(PAIR_LABELS):
        last = np.cumsum(counts[label])
        for rank in _ranks(random, int(last[-1]), (count + 2 - position) // 3):
            document = int(np.searchsorted(last, rank, side="right"))
            rank -= int(last[document] - counts[label][document])
            pairs.append(Example(*_pair(label, documents.texts, ends, document, rank), label))
    return [pairs[i] for i in random.permutation(len(pairs))]


def _ranks(random: np.random.Generator, available: int, wanted: int) -> list[int]:
    """``wanted`` numbers below ``available``, sampled without replacement in each round."""
    rounds, rest = divmod(wanted, available)
    drawn = [random.permutation(available) for _ in range(rounds)] + [random.choice(available, rest, replace=False)]
    return np.concatenate(drawn).tolist()


def _pair(label: str, texts: list[list[str]], ends: np.ndarray, document: int, rank: int) -> tuple[str, str]:
    """The sentences of pair number ``rank`` of a class among the pairs whose first or only document is ``document``."""
    text = texts[document]
    if label == "other":
        i, position = divmod(rank, int(ends[-1]) - len(text))
        if position >= ends[document] - len(text):  # skip the sentences of the document itself
            position += len(text)
        partner = int(np.searchsorted(ends, position, side="right"))
        return text[i], texts[partner][position - int(ends[partner])]  # a negative index, from the partner's end
    number, backwards = divmod(rank, 2)
    i, j = number, number + 1
    if label == "same":  # pairs i < j of the first n - 1 sentences, by j and then i; then move j one further from i
        j = (1 + math.isqrt(1 + 8 * number)) // 2
        i, j = number - j * (j - 1) // 2, j + 1
    return (text[j], text[i]) if backwards else (text[i], text[j])
