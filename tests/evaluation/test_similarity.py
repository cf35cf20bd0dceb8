"""Near copies against all pairs measured one by one."""

import numpy as np
import pytest

from dawgen_jax.evaluation.similarity import Match, jaccard, matches, shingles, twins

WORDS = ["a", "the", "boy", "girl", "dog", "cat", "runs", "sleeps", "walks", "in", "near", "park", "house", "street",
         "big", "small", "red", "old", "quickly", "slowly"]


def invented(count, seed, base=None):
    """Sentences of ten words; with ``base``, each is one of those with up to three words exchanged."""
    rng = np.random.default_rng(seed)
    sentences = []
    for _ in range(count):
        words = list(rng.choice(WORDS, 10)) if base is None else base[rng.integers(len(base))].split()
        for place in rng.integers(0, 10, rng.integers(0, 4)):
            words[place] = str(rng.choice(WORDS))
        sentences.append(" ".join(words))
    return sentences


def similarity(left, right):
    return min(jaccard(shingles(one), shingles(other)) for one, other in zip(left, right, strict=True))


@pytest.fixture(scope="module")
def texts():
    first = invented(60, 0)
    second = invented(150, 1, first)
    pairs = [(one, other) for one, other in zip(first, invented(60, 2), strict=True)]
    near = zip(second[:60], invented(60, 3, [other for _, other in pairs]), strict=True)
    return {"one": ([(text,) for text in second], [(text,) for text in first]), "two": ([*near, *pairs[:5]], pairs)}


@pytest.mark.parametrize("parts", ["one", "two"])
@pytest.mark.parametrize("threshold", [0.4, 0.6, 0.8, 1.0])
def test_matches_are_those_of_all_pairs(texts, parts, threshold):
    queries, references = texts[parts]
    best = [max((similarity(query, other), -place) for place, other in enumerate(references)) for query in queries]
    expected = [Match(-place, value) if value >= threshold else None for value, place in best]
    assert matches(queries, references, threshold) == expected
    assert any(expected) and not all(expected)


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_no_two_that_are_kept_are_near_copies_and_all_others_are(texts, threshold):
    given = texts["one"][0]
    for order in (None, list(reversed(range(len(given))))):
        found = twins(given, threshold, order)
        kept = [place for place, match in enumerate(found) if match is None]
        assert 1 < len(kept) < len(given)
        assert all(similarity(given[one], given[other]) < threshold for one in kept for other in kept if one < other)
        for place, match in enumerate(found):
            if match:
                assert match.position in kept
                assert match.similarity == similarity(given[place], given[match.position]) >= threshold
        assert (order or [0])[0] in kept  # what comes first is kept


def test_both_sentences_of_a_pair_must_be_near():
    long = "the committee that met on monday said in a letter of two pages that it will change no rule"
    assert matches([(long, "a boy runs home")], [(long, "the sun is hot")], 0.5) == [None]
    assert matches([(long, "A boy runs home!")], [(long, "a boy runs home")], 0.5) == [Match(0, 1.0)]


def test_texts_without_words_and_lone_surrogates_are_texts_too():
    assert matches([("",), ("...",), ("\ud800 boy",)], [("",), ("\ud800 boy",)], 0.8) == [
        Match(0, 1.0), Match(0, 1.0), Match(1, 1.0)]
    assert matches([], [("a",)], 0.8) == [] and matches([("a",)], [], 0.8) == [None] and twins([], 0.8) == []
