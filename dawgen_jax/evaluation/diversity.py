"""Diversity of sentences. Words are lower-cased runs of letters, digits and apostrophes.

    distinct-n    different word n-grams / all word n-grams
    compression   bytes of all sentences, one a line / bytes of the same after DEFLATE    (higher: more repetitive)
    self-BLEU     mean BLEU-4 of each sentence against all others as references           (higher: more repetitive)
    Vendi         exp(- sum_i w_i log w_i), w the eigenvalues of K / N, K the cosines of N feature vectors:
                  how many different ones there are, from 1 (all the same) to N (all orthogonal)

All of them depend on how many sentences there are: compare sets of one size.

References:
  Li et al. A Diversity-Promoting Objective Function for Neural Conversation Models (distinct-n).
  https://arxiv.org/abs/1510.03055, 2016.
  Zhu et al. Texygen: A Benchmarking Platform for Text Generation Models (self-BLEU).
  https://arxiv.org/abs/1802.01886, 2018.
  Friedman, Dieng. The Vendi Score: A Diversity Evaluation Metric for Machine Learning.
  https://arxiv.org/abs/2210.02410, 2023.
  Shaib et al. Standardizing the Measurement of Text Diversity (compression ratio).
  https://arxiv.org/abs/2403.00553, 2024.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from dawgen_jax.data.records import normalized

__all__ = ["compression_ratio", "distinct", "ngram_counts", "self_bleu", "vendi", "words"]


def words(sentence: str) -> list[str]:
    """Lower-cased words, without punctuation.

    >>> words("A boy's dog, running!")
    ['a', "boy's", 'dog', 'running']
    """
    return re.findall(r"\w+(?:'\w+)*", normalized(sentence))


def _ngrams(sentence: str, n: int) -> Iterable[tuple[str, ...]]:
    tokens = words(sentence)
    return zip(*(tokens[start:] for start in range(n)), strict=False)


def distinct(sentences: Iterable[str], n: int = 2) -> float:
    """Distinct-n: different n-grams of words over all n-grams; 0 where there is none.

    >>> distinct(["a boy runs", "a boy moves"])
    0.75
    """
    counts = Counter(ngram for sentence in sentences for ngram in _ngrams(sentence, n))
    return len(counts) / max(counts.total(), 1)


def compression_ratio(sentences: Iterable[str]) -> float:
    """Bytes of the sentences, one a line, over their bytes after DEFLATE; higher is more repetitive."""
    text = "\n".join(sentences).encode()
    return len(text) / len(zlib.compress(text, 9))


def self_bleu(sentences: Sequence[str]) -> float:
    """Mean sentence BLEU of each sentence against all others, in [0, 1]; SacreBLEU's with lower case, 13a tokens,
    exponential smoothing and effective order. Its cost grows with the square of their number.

    Raises:
      ValueError: fewer than two sentences.
    """
    from sacrebleu.metrics import BLEU

    if len(sentences) < 2:
        raise ValueError("Self-BLEU needs at least two sentences.")
    bleu = BLEU(lowercase=True, effective_order=True)
    return float(np.mean([bleu.sentence_score(sentence, [*sentences[:i], *sentences[i + 1:]]).score / 100
                          for i, sentence in enumerate(sentences)]))


def ngram_counts(sentences: Sequence[str], sizes: Sequence[int] = (1, 2)) -> np.ndarray:
    """Counts [N, n-grams] of the word n-grams of each sentence, for :func:`vendi`."""
    counts = [Counter(ngram for n in sizes for ngram in _ngrams(sentence, n)) for sentence in sentences]
    column = {ngram: place for place, ngram in enumerate(dict.fromkeys(ngram for own in counts for ngram in own))}
    table = np.zeros((len(sentences), len(column)))
    for row, own in zip(table, counts, strict=True):
        row[[column[ngram] for ngram in own]] = list(own.values())
    return table


def vendi(features: np.ndarray) -> float:
    """The Vendi score of N feature vectors under their cosines.

    Args:
      features: [N, D]; a row of zeros is like nothing else.

    Returns:
      from 1 to N; 0 where there is no row.

    >>> round(vendi(np.eye(3)), 6), round(vendi(np.ones((3, 2))), 6)
    (3.0, 1.0)
    """
    count = len(features)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = np.divide(features, norms, out=np.zeros(features.shape), where=norms > 0)
    kernel = unit @ unit.T
    np.fill_diagonal(kernel, 1.0)
    weights = np.linalg.eigvalsh(kernel / max(count, 1))
    weights = weights[weights > 0]
    return float(np.exp(-np.sum(weights * np.log(weights)))) if count else 0.0
