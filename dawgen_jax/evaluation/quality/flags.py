"""Suspicious samples of a synthetic set (copies, duplicates, leaks, label margins), and the set without them.

Two texts are near copies if the character 4-grams of their words overlap:

    J(a, b) = |A and B| / |A or B|, A and B the sets of 4-grams of a and b

A text is a tuple of parts (a single sentence, or sentence 1 and sentence 2); the similarity of two texts is the least
similarity of their parts. MinHash (datasketch) proposes candidates, whose similarity is then computed exactly: with 128
permutations and bands for a threshold 0.3 below the requested one, a pair at the threshold is missed with a probability
below 1e-3.

References: Broder. On the resemblance and containment of documents. 1997.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from dawgen_jax.config.validation import validated
from dawgen_jax.data.pools import Example
from dawgen_jax.evaluation.quality.measures import words
from dawgen_jax.synthesis.filtering import LabelCount, Sample, Selection

if TYPE_CHECKING:
    from datasketch import MinHash, MinHashLSH

__all__ = ["Flags", "Match", "Rules", "flag", "jaccard", "leak_rows", "margin", "near_copies", "near_duplicates",
           "refine", "shingles"]

Text = tuple[str, ...]
"""The parts of a text; all texts of a comparison have the same number of parts."""
_SIZE = 4
_PERMUTATIONS = 128
_SLACK = 0.3


class Match(NamedTuple):
    """The position of a near copy, and its similarity in [0, 1]."""

    position: int
    similarity: float


def shingles(sentence: str) -> frozenset[str]:
    """The character 4-grams of a sentence, ignoring case and punctuation; a shorter sentence is its only shingle.

    >>> sorted(shingles("A boy."))
    [' boy', 'a bo']
    """
    text = " ".join(words(sentence))
    return frozenset(text[start:start + _SIZE] for start in range(max(len(text) - _SIZE + 1, 1)))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """J of two sets, of which at least one is not empty."""
    return len(left & right) / len(left | right)


def near_copies(texts: Sequence[Text], references: Sequence[Text], threshold: float) -> list[Match | None]:
    """The most similar reference of each text.

    Args:
      texts: texts that may be copies.
      references: texts that may have been copied.
      threshold: minimum similarity, in (0, 1].

    Returns:
      For each text the first of the most similar references at or above the threshold, or None.
    """
    index = _Index(threshold)
    seen: set[tuple] = set()
    for position, text in enumerate(references):
        parts = tuple(map(shingles, text))
        if parts not in seen:
            seen.add(parts)
            index.add(position, parts, _sketch(parts))
    found = {}
    for text in dict.fromkeys(texts):
        parts = tuple(map(shingles, text))
        found[text] = index.best(parts, _sketch(parts))
    return [found[text] for text in texts]


def near_duplicates(texts: Sequence[Text], threshold: float, order: Iterable[int] | None = None) -> list[Match | None]:
    """Near copies within a set.

    Args:
      texts: the set.
      threshold: minimum similarity, in (0, 1].
      order: positions in the order in which texts are considered; by default 0, 1, ...

    Returns:
      For each text the most similar kept text, or None if it is kept: no two kept texts are near copies.
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
    """An empty sketch to copy, since sampling the permutations is slow; its hash function is cached."""
    from datasketch import MinHash
    from datasketch.hashfunc import sha1_hash32

    @functools.lru_cache(2**20)
    def hashed(shingle: str) -> int:
        return sha1_hash32(shingle.encode("utf-8", errors="surrogatepass"))

    return MinHash(num_perm=_PERMUTATIONS, hashfunc=hashed)


def _sketch(parts: tuple[frozenset[str], ...]) -> MinHash:
    """MinHash of the shingles of all parts, each tagged with the index of its part.

    The similarity of these unions lies between the similarities of the parts, so it is never below the smallest.
    """
    sketch = _empty().copy()
    sketch.update_batch([f"{number}{shingle}" for number, part in enumerate(parts) for shingle in part])
    return sketch


class _Index:
    """A set of texts with a search for near copies."""

    def __init__(self, threshold: float):
        from datasketch import MinHashLSH

        self._threshold = threshold
        # A missed pair costs ten times as much as a false candidate.
        self._lsh: MinHashLSH = MinHashLSH(max(threshold - _SLACK, 0.05), _PERMUTATIONS, weights=(0.1, 0.9))
        self._parts: dict[int, tuple[frozenset[str], ...]] = {}

    def add(self, position: int, parts: tuple[frozenset[str], ...], sketch: MinHash) -> None:
        self._parts[position] = parts
        self._lsh.insert(position, sketch, check_duplication=False)

    def best(self, parts: tuple[frozenset[str], ...], sketch: MinHash) -> Match | None:
        measured = ((min(map(jaccard, parts, self._parts[position])), -position)
                    for position in self._lsh.query(sketch))
        similarity, position = max(measured, default=(0.0, 0))
        return Match(-position, similarity) if similarity >= self._threshold else None


Similarity = Annotated[float, Field(gt=0, le=1)]


@validated
class Rules:
    """Rules for dropping samples; by default nothing is dropped.

    Raises:
      ConfigError: a value is out of range.
    """

    near: Similarity = 0.8
    """Minimum similarity of character 4-grams of near copies."""
    max_copy: Similarity = 1.0
    """Maximum similarity of sentence 2 to sentence 1, or to a sentence of the shots; 1 drops nothing."""
    min_margin: float | None = None
    """Minimum label margin in nats; None drops nothing."""
    dedup: bool = False
    """Of near copies within the set, keep only the one with the largest margin, or the first without margins."""
    drop_leaks: bool = False
    """Drop near copies of test pairs."""

    @property
    def active(self) -> bool:
        """Whether any sample can be dropped."""
        return self.max_copy < 1 or self.min_margin is not None or self.dedup or self.drop_leaks


class Flags(NamedTuple):
    """Suspicious properties of a sample.

    Attributes:
      verbatim: sentence 2 has the words of sentence 1.
      similarity: similarity of sentence 2 to sentence 1.
      shot: the shot with a sentence that sentence 2 nearly repeats.
      duplicate: the sample of the set whose sentences this sample nearly repeats.
      leak: the test pair whose sentences this sample nearly repeats.
      margin: label margin in nats; None without scores.
    """

    verbatim: bool
    similarity: float
    shot: Match | None
    duplicate: Match | None
    leak: Match | None
    margin: float | None


def margin(sample: Sample, labels: Sequence[str]) -> float | None:
    """log Pr(sentence 2 | its label's prompt) minus the greatest log-probability under another label's prompt, in nats.

    Positive if the generator's prompts prefer the label; None without scores.

    >>> margin(Sample(Example("a", "b", "yes"), 0, scores=(-3.5, -2.0)), ("yes", "no"))
    -1.5
    """
    if not sample.scores:
        return None
    label = labels.index(sample.example.label)
    return sample.scores[label] - max(score for i, score in enumerate(sample.scores) if i != label)


def _sentences(samples: Iterable[Sample]) -> list[Text]:
    return [sample.example[:2] for sample in samples]


def _best_first(margins: Sequence[float | None]) -> list[int]:
    return sorted(range(len(margins)), key=lambda i: -(margins[i] or 0.0))


def flag(samples: Sequence[Sample], labels: Sequence[str], shots: Sequence[Example], test: Sequence[Example],
         rules: Rules) -> list[Flags]:
    """The flags of each sample of a set.

    Args:
      samples: the set.
      labels: in the order of the scores.
      shots: the real pairs on which the generator was tuned.
      test: the pairs on which classifiers will be scored; may be empty.
      rules: ``near`` is the similarity of near copies; for shots, ``max_copy`` if it is lower.
    """
    pairs, margins = _sentences(samples), [margin(sample, labels) for sample in samples]
    shown = [(i, sentence) for i, shot in enumerate(shots) for sentence in shot[:2] if words(sentence)]
    shot_matches = near_copies([(sentence2,) for _, sentence2 in pairs], [(sentence,) for _, sentence in shown],
                               min(rules.near, rules.max_copy))
    remembered = [match and match._replace(position=shown[match.position][0]) for match in shot_matches]
    duplicates = near_duplicates(pairs, rules.near, _best_first(margins))
    leaks = near_copies(pairs, [pair[:2] for pair in test], rules.near)
    return [Flags(words(sentence1) == words(sentence2), jaccard(shingles(sentence1), shingles(sentence2)), *found)
            for (sentence1, sentence2), *found in zip(pairs, remembered, duplicates, leaks, margins, strict=True)]


def _fault(flags: Flags, rules: Rules) -> str:
    if rules.drop_leaks and flags.leak:
        return "near copy of a test pair"
    if flags.similarity > rules.max_copy:
        return "copy of sentence 1"
    if flags.shot and flags.shot.similarity > rules.max_copy:
        return "copy of a shot"
    if rules.min_margin is not None and flags.margin is not None and flags.margin < rules.min_margin:
        return "label margin"
    return ""


def refine(samples: Sequence[Sample], counts: dict[str, LabelCount], flags: Sequence[Flags], rules: Rules
           ) -> tuple[Selection, dict[str, Counter[str]]]:
    """The set without the samples that the rules drop.

    Near copies are compared only among samples that no other rule drops.

    Args:
      samples: the set.
      counts: counts of the set, by label.
      flags: result of :func:`flag` with the same rules.
      rules: rules for dropping samples.

    Returns:
      The remaining samples with counts that list dropped samples as rejected, and the number of dropped samples per
      label and reason.
    """
    faults = [_fault(found, rules) for found in flags]
    if rules.dedup:
        left = [i for i, fault in enumerate(faults) if not fault]
        order = _best_first([flags[i].margin for i in left])
        found = near_duplicates(_sentences(samples[i] for i in left), rules.near, order)
        for i, duplicate in zip(left, found, strict=True):
            faults[i] = "near copy of another sample" if duplicate else ""
    dropped = {label: Counter() for label in counts}
    for sample, fault in zip(samples, faults, strict=True):
        if fault:
            dropped[sample.example.label][fault] += 1
    kept = [sample for sample, fault in zip(samples, faults, strict=True) if not fault]
    after = {label: count._replace(
        accepted=count.accepted - dropped[label].total(),
        kept=sum(sample.example.label == label for sample in kept),
        cut=sum(sample.cut for sample in kept if sample.example.label == label),
        rejected=dict(Counter(count.rejected) + dropped[label])) for label, count in counts.items()}
    return Selection(kept, after, []), dropped


def leak_rows(samples: Sequence[Sample], flags: Sequence[Flags], test: Sequence[Example]) -> list[dict]:
    """The samples that nearly repeat a test pair, each with the pair; rows are counted from 1."""
    return [{"row": row, **sample.example._asdict(), "similarity": round(found.leak.similarity, 4),
             "test_row": found.leak.position + 1, "test": test[found.leak.position]._asdict()}
            for row, (sample, found) in enumerate(zip(samples, flags, strict=True), 1) if found.leak]
