"""Near copies: pairs of texts whose character 4-grams overlap, found by MinHash and then measured exactly.

    J(a, b) = |A and B| / |A or B|, A and B the sets of 4-grams of the words of a and b, one space apart

A text is a tuple of parts (one sentence, or sentence 1 and sentence 2), and two texts are as similar as their least
similar parts. MinHash (datasketch) only finds the candidates: with 128 permutations and bands laid out for a threshold
0.3 below the one asked for, a pair at the threshold is missed with a probability below 1e-3; none is found that is not.

References: Broder. On the resemblance and containment of documents. 1997.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dawgen_jax.evaluation.diversity import words

if TYPE_CHECKING:
    from datasketch import MinHash, MinHashLSH

__all__ = ["Match", "Text", "jaccard", "matches", "shingles", "twins"]

Text = tuple[str, ...]
"""The parts that are compared one by one; all texts of a comparison have as many."""
_SIZE = 4
_PERMUTATIONS = 128
_MARGIN = 0.3


class Match(NamedTuple):
    """The position of a near copy, and its similarity in [0, 1]."""

    position: int
    similarity: float


def shingles(sentence: str) -> frozenset[str]:
    """The character 4-grams of a sentence without case and punctuation; a shorter one is its own.

    >>> sorted(shingles("A boy."))
    [' boy', 'a bo']
    """
    text = " ".join(words(sentence))
    return frozenset(text[start:start + _SIZE] for start in range(max(len(text) - _SIZE + 1, 1)))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Shared members over all members of two sets that are not empty."""
    return len(left & right) / len(left | right)


def matches(texts: Sequence[Text], references: Sequence[Text], threshold: float) -> list[Match | None]:
    """The most similar reference of each text.

    Args:
      texts: what is searched for.
      references: where.
      threshold: the least similarity, in (0, 1].

    Returns:
      for each text the first most similar reference at or above the threshold, or None.
    """
    index = _Index(threshold)
    first: dict[tuple, int] = {}
    for position, text in enumerate(references):
        parts = tuple(map(shingles, text))
        if first.setdefault(parts, position) == position:
            index.add(position, parts, _sketch(parts))
    found = {}
    for text in dict.fromkeys(texts):
        parts = tuple(map(shingles, text))
        found[text] = index.best(parts, _sketch(parts))
    return [found[text] for text in texts]


def twins(texts: Sequence[Text], threshold: float, order: Iterable[int] | None = None) -> list[Match | None]:
    """The near copies within a set.

    Args:
      texts: the set.
      threshold: the least similarity, in (0, 1].
      order: positions, the ones to keep first; by default as they come.

    Returns:
      for each text the most similar one that is kept, or None for those that are kept: no two of these are near
      copies of each other.
    """
    index, found = _Index(threshold), [None] * len(texts)
    for position in range(len(texts)) if order is None else order:
        parts = tuple(map(shingles, texts[position]))
        sketch = _sketch(parts)
        found[position] = index.best(parts, sketch)
        if found[position] is None:
            index.add(position, parts, sketch)
    return found


@functools.cache
def _empty() -> MinHash:
    """An empty sketch to copy, with a hash that remembers: drawing permutations and hashing would cost most."""
    from datasketch import MinHash
    from datasketch.hashfunc import sha1_hash32

    @functools.lru_cache(2**20)
    def hashed(shingle: str) -> int:
        return sha1_hash32(shingle.encode("utf-8", errors="surrogatepass"))

    return MinHash(num_perm=_PERMUTATIONS, hashfunc=hashed)


def _sketch(parts: tuple[frozenset[str], ...]) -> MinHash:
    """MinHash of all parts' shingles, each marked with its part.

    The similarity of these unions is between those of the parts, so never below the least of them.
    """
    sketch = _empty().copy()
    sketch.update_batch([f"{number}{shingle}" for number, part in enumerate(parts) for shingle in part])
    return sketch


class _Index:
    """Texts that can be searched."""

    def __init__(self, threshold: float):
        from datasketch import MinHashLSH

        self._threshold = threshold
        # Missing a pair costs ten times as much as looking at one too many.
        self._lsh: MinHashLSH = MinHashLSH(max(threshold - _MARGIN, 0.05), _PERMUTATIONS, weights=(0.1, 0.9))
        self._parts: dict[int, tuple[frozenset[str], ...]] = {}

    def add(self, position: int, parts: tuple[frozenset[str], ...], sketch: MinHash) -> None:
        self._parts[position] = parts
        self._lsh.insert(position, sketch, check_duplication=False)

    def best(self, parts: tuple[frozenset[str], ...], sketch: MinHash) -> Match | None:
        measured = ((min(map(jaccard, parts, self._parts[position])), -position)
                    for position in self._lsh.query(sketch))
        similarity, position = max(measured, default=(0.0, 0))
        return Match(-position, similarity) if similarity >= self._threshold else None
