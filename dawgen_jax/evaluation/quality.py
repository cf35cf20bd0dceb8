"""Quality of a synthetic set: diversity, distance from real sentences, copies, and consistency of labels.

Over the n samples (s1, s2, y) of a set, words being lower-cased runs of letters, digits and apostrophes:

    distinct-2    different word bigrams of all s2 / all word bigrams of all s2
    compression   bytes of all s2, one a line / bytes of the same after DEFLATE     (higher: more repetitive)
    distance      JS(words of synthetic s2, words of real s2), JS in bits: 0 equal, 1 disjoint (or one without words)
    copies        share of samples whose s2 has the words of s1
    consistency   share of samples whose true label, by a given semantics, is y

Distinct-2, compression and distance depend on the size of a set: compare sets of one size.

References:
  Li et al. A Diversity-Promoting Objective Function for Neural Conversation Models (distinct-n).
  https://arxiv.org/abs/1510.03055, 2016.
  Shaib et al. Standardizing the Measurement of Text Diversity (compression ratio).
  https://arxiv.org/abs/2403.00553, 2024.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["compression_ratio", "distinct", "divergence", "measure", "words"]

Pair = tuple[str, str, str]
"""Sentence 1, sentence 2, label (``data.pools.Example`` is one)."""


def words(sentence: str) -> list[str]:
    """Lower-cased words, without punctuation.

    >>> words("A boy's dog, running!")
    ['a', "boy's", 'dog', 'running']
    """
    return re.findall(r"\w+(?:'\w+)*", sentence.casefold())


def distinct(sentences: Iterable[str], n: int = 2) -> float:
    """Distinct-n: different n-grams of words over all n-grams; 0 where there is none.

    >>> distinct(["a boy runs", "a boy moves"])
    0.75
    """
    counts = Counter()
    for sentence in sentences:
        tokens = words(sentence)
        counts.update(zip(*(tokens[start:] for start in range(n)), strict=False))
    return len(counts) / max(counts.total(), 1)


def compression_ratio(sentences: Iterable[str]) -> float:
    """Bytes of the sentences, one a line, over their bytes after DEFLATE; higher is more repetitive."""
    text = "\n".join(sentences).encode()
    return len(text) / len(zlib.compress(text, 9))


def divergence(left: Mapping[Any, float], right: Mapping[Any, float]) -> float:
    """Jensen-Shannon divergence of two counted distributions, in bits.

    JS(p, q) = KL(p || m)/2 + KL(q || m)/2 with m = (p + q)/2, p and q being ``left`` and ``right`` divided by their
    sums. 0 if they are equal, 1 if they share nothing.

    Raises:
      ValueError: one of them is empty.

    >>> divergence({"a": 1, "b": 1}, {"a": 5, "b": 5}), divergence({"a": 1}, {"b": 1})
    (0.0, 1.0)
    """
    support = sorted(left.keys() | right.keys())
    p, q = (np.array([counts.get(item, 0) for item in support], np.float64) for counts in (left, right))
    if not p.sum() or not q.sum():
        raise ValueError("A divergence needs two distributions that are not empty.")
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def relative(part: np.ndarray) -> float:
        seen = part > 0
        return float(np.sum(part[seen] * np.log2(part[seen] / middle[seen])))

    return min(1.0, max(0.0, relative(p) / 2 + relative(q) / 2))


def _share(flags: Iterable[bool]) -> float:
    return float(np.mean([*flags]))


def measure(samples: Sequence[Pair], real: Sequence[Pair], shots: Sequence[Pair] = (), *,
            consistency: Callable[[str, str], str | None] | None = None) -> dict[str, Any]:
    """All measures of a synthetic set, as the fields of :class:`~dawgen_jax.results.rows.SyntheticRow`.

    Args:
      samples: the set.
      real: pairs of the task's real pool: what its distance is taken from.
      shots: the few real pairs that the generator was tuned on; ``shot_copies`` counts samples whose sentence 2 has
        the words of one of their sentences.
      consistency: (sentence 1, sentence 2) -> the true label by the world's semantics, or None where the pair
        cannot be read (which counts as inconsistent); without it consistency is None.

    Returns:
      n, consistency, diversity (distinct-2), distance (unigrams of sentence 2), copies, and extras:
      compression_ratio, length_distance (JS of lengths in words), mean_words, real_mean_words, shot_copies and,
      with ``consistency``, readable (share) and consistency_of (label -> share).

    Raises:
      ValueError: ``samples`` or ``real`` is empty.
    """
    if not samples or not real:
        raise ValueError("Quality needs at least one synthetic and one real pair.")
    written = [words(sentence2) for _, sentence2, _ in samples]
    reference = [words(sentence2) for _, sentence2, _ in real]
    seen = {tuple(words(sentence)) for sentence1, sentence2, _ in shots for sentence in (sentence1, sentence2)
            } - {()}  # a single text has no sentence 1
    counted = [Counter(word for tokens in sentences for word in tokens) for sentences in (written, reference)]
    extras = {
        "compression_ratio": compression_ratio(sentence2 for _, sentence2, _ in samples),
        "length_distance": divergence(Counter(map(len, written)), Counter(map(len, reference))),
        "mean_words": float(np.mean([*map(len, written)])),
        "real_mean_words": float(np.mean([*map(len, reference)])),
        "shot_copies": _share(tuple(tokens) in seen for tokens in written),
    }
    consistent = None
    if consistency is not None:
        truth = [consistency(sentence1, sentence2) for sentence1, sentence2, _ in samples]
        right = [found == label for found, (_, _, label) in zip(truth, samples, strict=True)]
        labels = [label for _, _, label in samples]
        consistent = _share(right)
        extras["readable"] = _share(found is not None for found in truth)
        extras["consistency_of"] = {
            label: _share(ok for ok, own in zip(right, labels, strict=True) if own == label)
            for label in sorted(set(labels))
        }
    return {
        "n": len(samples),
        "consistency": consistent,
        "diversity": distinct(sentence2 for _, sentence2, _ in samples),
        "distance": divergence(*counted) if all(counted) else 1.0,  # no words are shared where there are none
        "copies": _share(bool(sample[0]) and words(sample[0]) == tokens
                         for sample, tokens in zip(samples, written, strict=True)),
        "extras": extras,
    }
