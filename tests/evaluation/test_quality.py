"""Measures of synthetic sets on sets whose quality is known by construction."""

import pytest

from dawgen_jax.evaluation.quality import measure
from dawgen_jax.results.rows import SyntheticRow

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
