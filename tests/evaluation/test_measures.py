"""Measures of synthetic sentences against closed forms, the libraries that define them, and sets of known quality."""

import math

import numpy as np
import pytest
from sacrebleu import sentence_bleu
from scipy import stats

from dawgen_jax.evaluation.quality.measures import (
    compression_ratio,
    distinct,
    divergence,
    measure,
    ngram_counts,
    self_bleu,
    two_sample,
    vendi,
)
from dawgen_jax.results.rows import SyntheticRow

SENTENCES = ["A boy runs.", "A boy runs fast.", "The sun is hot", "A dog barks at the sun", "Two dogs bark",
             "a boy runs"]


def test_diversity_falls_with_repetition():
    same, different = ["the boy runs fast"] * 20, [f"word{i} runs to{i} place{i}" for i in range(20)]
    assert distinct(same) == pytest.approx(3 / 60)
    assert distinct(different) == 1.0
    assert distinct(["one"], n=2) == 0.0
    assert compression_ratio(same) > 3 * compression_ratio(different)


def test_self_bleu_of_two_sentences_is_the_closed_form():
    # Of "a b c d e", 4 of 5 words, 3 of 4 pairs, 2 of 3 triples and 1 of 2 quadruples stand in "A b c d f".
    assert self_bleu(["a b c d e", "A b c d f"]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert self_bleu(["the boy runs fast"] * 3) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at least two"):
        self_bleu(["alone"])


def test_self_bleu_is_sacrebleus():
    scores = [sentence_bleu(sentence, SENTENCES[:i] + SENTENCES[i + 1:], lowercase=True).score
              for i, sentence in enumerate(SENTENCES)]
    assert self_bleu(SENTENCES) == pytest.approx(np.mean(scores) / 100)


def test_vendi_has_the_values_of_vendi_score():
    # vendi.score_X of vendi-score 0.0.3, on CountVectorizer(ngram_range=(1, 2)) and on normal numbers.
    assert vendi(ngram_counts(SENTENCES)) == pytest.approx(3.826929528854299, rel=1e-9)
    assert vendi(np.random.default_rng(0).normal(size=(20, 5))) == pytest.approx(4.3414499243867315, rel=1e-9)


def test_vendi_counts_different_groups_whatever_the_scale():
    groups = np.repeat(np.eye(4), 3, axis=0) * np.arange(1, 13)[:, None]
    assert vendi(groups) == pytest.approx(4.0)
    assert vendi(np.zeros((3, 2))) == pytest.approx(3.0)  # sentences without a word are like nothing else
    assert vendi(np.zeros((0, 2))) == 0.0


def test_ngram_counts_are_counted():
    table = ngram_counts(["a b a b", "", "c"])
    assert table.shape == (3, 5) and sorted(table[0].tolist()) == [0, 1, 2, 2, 2] and not table[1].any()


RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)), RNG.normal(0.7, 1, size=(9, 3))


def test_divergence_matches_the_closed_form():
    # p = (1, 0), q = (1/2, 1/2): m = (3/4, 1/4).
    expected = 0.5 * math.log2(4 / 3) + 0.5 * (0.5 * math.log2(2 / 3) + 0.5 * math.log2(2))
    assert divergence({"a": 3}, {"a": 1, "b": 1}) == pytest.approx(expected)
    assert divergence({"a": 1, "b": 1}, {"a": 3}) == pytest.approx(expected)
    with pytest.raises(ValueError, match="not empty"):
        divergence({}, {"a": 1})


def mmd(x, y, width):
    """The three sums, term by term."""
    def kernel(a, b):
        return math.exp(-sum((a - b) ** 2) / (2 * width**2))

    m, n = len(x), len(y)
    return (sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
            + sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
            - 2 * sum(kernel(a, b) for a in x for b in y) / (m * n))


def width_of(points):
    return np.median([np.linalg.norm(points[i] - points[j]) for i in range(len(points)) for j in range(i)])


def test_mmd_is_its_three_sums():
    assert two_sample(X, Y).value == pytest.approx(mmd(X, Y, width_of(np.concatenate([X, Y]))), rel=1e-10)
    # Two points a side, by hand: distances 1, 1, 3, 4, 4, 5 have the median 3.5.
    one, other = np.array([[0.0], [1.0]]), np.array([[4.0], [5.0]])

    def k(distance):
        return math.exp(-distance**2 / (2 * 3.5**2))

    assert two_sample(one, other, permutations=1).value == pytest.approx(2 * k(1) - (k(3) + 2 * k(4) + k(5)) / 2)


def test_its_p_value_is_scipys():
    points = np.concatenate([X, Y])
    width = width_of(points)

    def statistic(first, second):
        return mmd(points[first.astype(int)], points[second.astype(int)], width)

    scipys = stats.permutation_test((np.arange(12.0), np.arange(12.0, 21.0)), statistic, n_resamples=400,
                                    vectorized=False, alternative="greater", rng=np.random.default_rng(1))
    ours = two_sample(X, Y, permutations=4000)
    assert scipys.statistic == pytest.approx(ours.value)
    assert abs(scipys.pvalue - ours.p) < 4 * math.sqrt(ours.p * (1 - ours.p) / 400)
    assert ours.chance == pytest.approx(np.quantile(scipys.null_distribution, 0.95), abs=0.02)


def test_equal_distributions_are_told_apart_as_often_as_alpha_says():
    rng = np.random.default_rng(2)
    p = np.array([two_sample(rng.normal(size=(20, 2)), rng.normal(size=(30, 2)), permutations=99, seed=i).p
                  for i in range(400)])
    assert abs(np.mean(p <= 0.05) - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 400)
    assert abs(np.mean(p <= 0.5) - 0.5) < 4 * math.sqrt(0.5 * 0.5 / 400)


def test_different_distributions_are_told_apart_whatever_their_scale():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(100, 4)), rng.normal(1.0, 1.0, size=(100, 4))
    tested = two_sample(x, y)
    assert tested.p == 0.001 and tested.value > 5 * tested.chance
    scaled = two_sample(1e4 * x + 1e3, 1e4 * y + 1e3)
    assert scaled == pytest.approx(tested, rel=1e-6)


def test_points_that_are_all_one_differ_by_nothing():
    tested = two_sample(np.ones((5, 2)), np.ones((4, 2)))
    assert tested.value == pytest.approx(0.0) and tested.p == 1.0
    mostly = two_sample(np.ones((30, 2)), np.concatenate([np.ones((28, 2)), np.zeros((2, 2))]))
    assert np.isfinite(mostly).all()
    with pytest.raises(ValueError, match="at least two"):
        two_sample(np.ones((1, 2)), np.ones((4, 2)))


REAL = [("a boy runs", "a child moves", "yes"), ("a dog barks", "no dog barks", "no")]


def test_copies_are_found_after_normalisation():
    samples = [("A boy runs.", "a boy  runs", "yes"), ("A dog barks", "A child moves!", "no"),
               ("A dog barks", "the sun", "no"), ("x y", "y x", "no")]
    quality = measure(samples, REAL, shots=REAL[:1])
    assert quality["copies"] == 0.25
    assert quality["extras"]["shot_copies"] == 0.5  # 'a boy runs' and 'a child moves' stand in a shot


def test_consistency_is_asked_from_the_world():
    samples = [("a", "b", "yes"), ("a", "b", "no"), ("a", "?", "no"), ("a", "c", "no")]
    truth = {"b": "yes", "c": "no", "?": None}
    quality = measure(samples, REAL, consistency=lambda _, sentence2: truth[sentence2])
    assert quality["consistency"] == 0.5
    assert quality["extras"]["readable"] == 0.75
    assert quality["extras"]["consistency_of"] == {"no": pytest.approx(1 / 3), "yes": 1.0}
    assert measure(samples, REAL)["consistency"] is None


def test_the_real_pool_is_at_no_distance_from_itself():
    quality = measure(REAL, REAL)
    assert quality["distance"] == quality["extras"]["length_distance"] == 0.0
    assert measure([("a", "sun sun sun sun", "yes")], REAL)["distance"] == 1.0
    SyntheticRow(task="t", backbone="b", generator="FewGen", seed=1, **quality)  # the fields fit


def test_a_set_without_a_word_is_measured_as_farthest():
    quality = measure([("a boy runs", ".", "yes"), ("a dog barks", "", "no")], REAL, consistency=lambda *_: None)
    assert quality["distance"] == 1.0
    assert quality["diversity"] == quality["copies"] == quality["consistency"] == 0.0
    assert quality["extras"]["length_distance"] == 1.0 and quality["extras"]["mean_words"] == 0.0
    assert measure(REAL, [("a boy runs", ".", "yes")])["distance"] == 1.0


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        measure([], REAL)
