"""Quality of a synthetic set: diversity, distance from real sentences, copies, and consistency of labels.

Over the n samples (s1, s2, y) of a set:

    distinct-2, compression    of all s2, as in :mod:`dawgen_jax.evaluation.diversity`
    distance                   JS(words of synthetic s2, words of real s2), 1 also where one has no words
    copies                     share of samples whose s2 has the words of s1
    consistency                share of samples whose true label, by a given semantics, is y

These are the measures that every synthetic set of a run carries. :mod:`dawgen_jax.evaluation.appraisal` judges one set
by more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from dawgen_jax.evaluation.diversity import compression_ratio, distinct, words
from dawgen_jax.evaluation.fidelity import divergence

__all__ = ["measure"]

Pair = tuple[str, str, str]
"""Sentence 1, sentence 2, label (``data.pools.Example`` is one)."""


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
