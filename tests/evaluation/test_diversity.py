"""Diversity against closed forms and the values of the libraries that define the measures."""

import numpy as np
import pytest
from sacrebleu import sentence_bleu

from dawgen_jax.evaluation.diversity import compression_ratio, distinct, ngram_counts, self_bleu, vendi

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
