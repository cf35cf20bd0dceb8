r"""Measures of synthetic sentences: diversity, distance from real sentences, and label consistency.

    distinct-n    different word n-grams / all word n-grams
    compression   bytes of the sentences, one per line / bytes after DEFLATE     (higher: more repetitive)
    self-BLEU     mean BLEU-4 of each sentence against all others                (higher: more repetitive)
    Vendi         exp(-sum_i w_i log w_i), w the eigenvalues of K / N, K the cosines of N feature vectors: the number
                  of different sentences, from 1 (all the same) to N (all orthogonal)
    JS(p, q)      KL(p || m)/2 + KL(q || m)/2, m = (p + q)/2, in bits: 0 equal, 1 disjoint
    MMD^2(x, y)   sum_{i != j} k(x_i, x_j) / (m (m - 1)) + sum_{i != j} k(y_i, y_j) / (n (n - 1))
                  - 2 sum_{i, j} k(x_i, y_j) / (m n), k(a, b) = exp(-||a - b||^2 / (2 s^2)),
                  s the median distance between two different points of both sets

Words are lower-cased runs of letters, digits and apostrophes. Diversity depends on the number of sentences: compare
sets of equal size. This estimate of MMD^2 is unbiased: for two samples of one distribution its mean is 0.

References:
  Li et al. A Diversity-Promoting Objective Function for Neural Conversation Models (distinct-n).
  https://arxiv.org/abs/1510.03055, 2016.
  Zhu et al. Texygen: A Benchmarking Platform for Text Generation Models (self-BLEU).
  https://arxiv.org/abs/1802.01886, 2018.
  Friedman, Dieng. The Vendi Score: A Diversity Evaluation Metric for Machine Learning.
  https://arxiv.org/abs/2210.02410, 2023.
  Shaib et al. Standardizing the Measurement of Text Diversity (compression ratio).
  https://arxiv.org/abs/2403.00553, 2024.
  Gretton et al. A Kernel Two-Sample Test. https://jmlr.org/papers/v13/gretton12a.html, 2012.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dawgen_jax.backbones.base import Backbone, Model
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.data.encoding import rectangle
from dawgen_jax.data.records import normalized
from dawgen_jax.evaluation.predict import length_batches
from dawgen_jax.training.placement import Placement

__all__ = ["TwoSample", "compression_ratio", "distinct", "divergence", "features", "measure", "ngram_counts",
           "self_bleu", "share", "two_sample", "vendi", "words"]

_TOKENS = 128
_MULTIPLE = 32


def words(sentence: str) -> list[str]:
    """Lower-cased words, without punctuation.

    >>> words("A boy's dog, running!")
    ['a', "boy's", 'dog', 'running']
    """
    return re.findall(r"\w+(?:'\w+)*", normalized(sentence))


def share(flags: Iterable[bool]) -> float:
    """The share of true values, in [0, 1]."""
    return float(np.mean([*flags]))


def _ngrams(sentence: str, n: int) -> Iterable[tuple[str, ...]]:
    tokens = words(sentence)
    return zip(*(tokens[start:] for start in range(n)), strict=False)


def distinct(sentences: Iterable[str], n: int = 2) -> float:
    """Distinct-n; 0 if there are no n-grams.

    >>> distinct(["a boy runs", "a boy moves"])
    0.75
    """
    counts = Counter(ngram for sentence in sentences for ngram in _ngrams(sentence, n))
    return len(counts) / max(counts.total(), 1)


def compression_ratio(sentences: Iterable[str]) -> float:
    """Size of the sentences in bytes, one per line, divided by their size after DEFLATE."""
    text = "\n".join(sentences).encode()
    return len(text) / len(zlib.compress(text, 9))


def self_bleu(sentences: Sequence[str]) -> float:
    """Mean BLEU of each sentence against all others, in [0, 1]; the cost is quadratic in the number of sentences.

    This is SacreBLEU's sentence BLEU with lower case, 13a tokens, exponential smoothing and effective order.

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
    """Counts [N, n-grams] of the word n-grams of each sentence, as features for :func:`vendi`."""
    counts = [Counter(ngram for n in sizes for ngram in _ngrams(sentence, n)) for sentence in sentences]
    column = {ngram: i for i, ngram in enumerate(dict.fromkeys(ngram for count in counts for ngram in count))}
    table = np.zeros((len(sentences), len(column)))
    for row, count in zip(table, counts, strict=True):
        row[[column[ngram] for ngram in count]] = list(count.values())
    return table


def vendi(features: np.ndarray) -> float:
    """The Vendi score of N feature vectors with cosine similarity.

    Args:
      features: [N, D]; a zero vector is orthogonal to all others.

    Returns:
      A number from 1 to N; 0 if N is 0.

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


def divergence(left: Mapping[Any, float], right: Mapping[Any, float]) -> float:
    """Jensen-Shannon divergence of two counted distributions, in bits: 0 if they are equal, 1 if they are disjoint.

    Raises:
      ValueError: a distribution is empty.

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


class TwoSample(NamedTuple):
    """A permutation test of MMD^2.

    Attributes:
      value: MMD^2 of the sample.
      p: share of the permutations, including the sample itself, with an MMD^2 at least as large.
      chance: 95 % quantile of MMD^2 under permutation.
    """

    value: float
    p: float
    chance: float


def two_sample(x: np.ndarray, y: np.ndarray, *, permutations: int = 999, seed: int = 0) -> TwoSample:
    """MMD^2 of two sets of points and its permutation test, which is exact for independent points.

    Args:
      x: [m, D].
      y: [n, D].
      permutations: number of random splits of the pooled points.
      seed: seed for the permutations.

    Raises:
      ValueError: a set has fewer than two points.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError("MMD needs at least two points per set.")
    kernel = _kernel(np.concatenate([x, y]).astype(np.float64))
    first = np.arange(len(kernel)) < len(x)
    rng = np.random.default_rng(seed)
    chosen = np.stack([first, *(rng.permutation(first) for _ in range(permutations))])
    value, *null = _mmd(kernel, chosen.astype(np.float64))
    p = (1 + np.sum(np.array(null) >= value - 1e-12)) / (1 + permutations)  # equal splits differ by rounding
    return TwoSample(float(value), float(p), float(np.quantile([value, *null], 0.95)))


def _kernel(points: np.ndarray) -> np.ndarray:
    """k [N, N] with a diagonal of 0, since the sums exclude it."""
    centred = points - points.mean(axis=0)
    norms = np.sum(centred**2, axis=1)
    squares = np.maximum(norms[:, None] + norms[None, :] - 2 * centred @ centred.T, 0.0)
    distances = np.sqrt(squares[np.triu_indices(len(points), 1)])
    width = np.median(distances) or np.mean(distances) or 1.0  # the median is 0 if most points are equal
    kernel = np.exp(-squares / (2 * width**2))
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _mmd(kernel: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """MMD^2 [B] for the splits ``chosen`` [B, N]: 1 for a point of x, 0 for a point of y."""
    m = chosen[0].sum()
    n = len(kernel) - m
    sums = chosen @ kernel
    xx, xy = np.sum(sums * chosen, axis=1), np.sum(sums * (1 - chosen), axis=1)
    yy = kernel.sum() - xx - 2 * xy
    return xx / (m * (m - 1)) + yy / (n * (n - 1)) - 2 * xy / (m * n)


def _mean_states(params, theta, batch: ClassifierBatch, *, model: Model):
    del params
    states = model.input_states(theta, model.embed(theta, batch.tokens), batch.mask).astype(jnp.float32)
    mask = batch.mask[..., None].astype(jnp.float32)
    return jnp.sum(states * mask, axis=1) / jnp.sum(mask, axis=1)


@functools.lru_cache(maxsize=4)
def _compiled(model: Model, placement: Placement) -> Callable:
    return placement.compile_score(functools.partial(_mean_states, model=model), batch_axis=0, model=model)


def features(sentences: Sequence[str], backbone: Backbone, placement: Placement, *, batch_size: int = 64
             ) -> np.ndarray:
    """The mean of a backbone's input states over the tokens of each sentence, encoded as a generator's input.

    Args:
      sentences: N sentences; tokens after the 127th are cut.
      backbone: the frozen backbone.
      placement: devices.
      batch_size: sentences per batch.

    Returns:
      float32 [N, H].
    """
    compiled = _compiled(backbone.model, placement)
    rows = backbone.format.source_rows(list(sentences), 0, _TOKENS - 1).rows
    tokens, mask = rectangle(rows, _MULTIPLE)
    data = ClassifierBatch(tokens, mask, np.zeros(len(rows), np.int32), np.ones(len(rows), np.float32))
    result = np.zeros((len(rows), backbone.model.width), np.float32)
    for chosen, batch in length_batches(data, placement.rows(batch_size), _MULTIPLE):
        result[chosen] = np.asarray(compiled((), backbone.theta, batch))[:len(chosen)]
    return result


Pair = tuple[str, str, str]
"""Sentence 1, sentence 2, label; ``data.pools.Example`` is one."""


def measure(samples: Sequence[Pair], real: Sequence[Pair], shots: Sequence[Pair] = (), *,
            consistency: Callable[[str, str], str | None] | None = None) -> dict[str, Any]:
    """The measures of a synthetic set, as the fields of :class:`~dawgen_jax.results.rows.SyntheticRow`.

    Args:
      samples: the set.
      real: pairs of the task's real pool, for the distances.
      shots: the real pairs on which the generator was tuned, for ``shot_copies``.
      consistency: (sentence 1, sentence 2) -> the true label, or None if the pair cannot be parsed, which counts as
        inconsistent.

    Returns:
      n; consistency (share of samples whose true label is their label, None without ``consistency``); diversity
      (distinct-2 of sentence 2); distance (JS of the words of sentence 2, 1 if a side has no words); copies (share of
      samples whose sentence 2 has the words of sentence 1); and extras: compression_ratio, length_distance (JS of
      lengths in words), mean_words, real_mean_words, shot_copies (share of samples whose sentence 2 has the words of
      a sentence of the shots) and, with ``consistency``, readable (share) and consistency_of (label -> share).

    Raises:
      ValueError: ``samples`` or ``real`` is empty.
    """
    if not samples or not real:
        raise ValueError("Quality needs at least one synthetic and one real pair.")
    written = [words(sentence2) for _, sentence2, _ in samples]
    reference = [words(sentence2) for _, sentence2, _ in real]
    seen = {tuple(words(sentence)) for pair in shots for sentence in pair[:2]} - {()}  # a text has no sentence 1
    counted = [Counter(word for tokens in side for word in tokens) for side in (written, reference)]
    extras = {
        "compression_ratio": compression_ratio(sentence2 for _, sentence2, _ in samples),
        "length_distance": divergence(Counter(map(len, written)), Counter(map(len, reference))),
        "mean_words": float(np.mean([*map(len, written)])),
        "real_mean_words": float(np.mean([*map(len, reference)])),
        "shot_copies": share(tuple(tokens) in seen for tokens in written),
    }
    consistent = None
    if consistency is not None:
        truth = [consistency(sentence1, sentence2) for sentence1, sentence2, _ in samples]
        labels = [label for _, _, label in samples]
        right = [found == label for found, label in zip(truth, labels, strict=True)]
        consistent = share(right)
        extras["readable"] = share(found is not None for found in truth)
        extras["consistency_of"] = {label: share(ok for ok, own in zip(right, labels, strict=True) if own == label)
                                    for label in sorted(set(labels))}
    return {
        "n": len(samples),
        "consistency": consistent,
        "diversity": distinct(sentence2 for _, sentence2, _ in samples),
        "distance": divergence(*counted) if all(counted) else 1.0,
        "copies": share(bool(sample[0]) and words(sample[0]) == tokens
                        for sample, tokens in zip(samples, written, strict=True)),
        "extras": extras,
    }
