"""What is said against each sample of a synthetic set, and sets without the samples that a rule forbids.

Everything here is told sample by sample, so that a person can look at the very rows, and that a filter drops exactly
what was counted.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dawgen_jax.data.pools import Example
from dawgen_jax.errors import ConfigError
from dawgen_jax.evaluation.diversity import words
from dawgen_jax.evaluation.similarity import Match, jaccard, matches, shingles, twins
from dawgen_jax.synthesis.filtering import LabelCount, Sample, Selection

__all__ = ["Mark", "Rules", "leak_rows", "margin", "mark", "refine", "reselect"]


@dataclasses.dataclass(frozen=True)
class Rules:
    """Which samples are dropped; by default none.

    Raises:
      ConfigError: a value is out of range.
    """

    near: float = 0.8
    """Similarity (shared character 4-grams over all of them) from which two texts are near copies."""
    max_copy: float = 1.0
    """The greatest similarity of sentence 2 to sentence 1, or to a sentence of the shots; 1 drops nothing."""
    min_margin: float | None = None
    """The least label margin in nats; None drops nothing."""
    dedup: bool = False
    """Of near copies within the set keep the one with the greatest margin, or the first where there are no margins."""
    drop_leaks: bool = False
    """Drop near copies of test pairs."""

    def __post_init__(self):
        for field in ("near", "max_copy"):
            if not 0 < getattr(self, field) <= 1:
                raise ConfigError(f"--{field.replace('_', '-')} {getattr(self, field)}: must be greater than 0 and at "
                                  "most 1.")
        if self.min_margin is not None and not np.isfinite(self.min_margin):
            raise ConfigError(f"--min-margin {self.min_margin}: must be a finite number of nats.")

    @property
    def active(self) -> bool:
        """Whether anything can be dropped."""
        return self.max_copy < 1 or self.min_margin is not None or self.dedup or self.drop_leaks


class Mark(NamedTuple):
    """What is said against one sample.

    Attributes:
      verbatim: sentence 2 has the words of sentence 1.
      copied: similarity of sentence 2 to sentence 1.
      shot: the shot that has a sentence which sentence 2 nearly repeats.
      twin: the sample of the set that this one nearly repeats, both sentences.
      leak: the test pair that it nearly repeats, both sentences.
      margin: of its label, in nats; None where the set has no scores.
    """

    verbatim: bool
    copied: float
    shot: Match | None
    twin: Match | None
    leak: Match | None
    margin: float | None


def margin(sample: Sample, labels: Sequence[str]) -> float | None:
    """log Pr(sentence 2 | its label's prompt) less the greatest log-probability under another label's prompt, in nats.

    Positive where the generator's own prompts tell the label; None where the sample has no scores.

    >>> margin(Sample(Example("a", "b", "yes"), 0, scores=(-3.5, -2.0)), ("yes", "no"))
    -1.5
    """
    if not sample.scores:
        return None
    own = labels.index(sample.example.label)
    return sample.scores[own] - max(score for place, score in enumerate(sample.scores) if place != own)


def mark(samples: Sequence[Sample], labels: Sequence[str], shots: Sequence[Example], test: Sequence[Example],
         rules: Rules) -> list[Mark]:
    """Marks the samples of a set.

    Args:
      samples: the set.
      labels: in the order of the scores.
      shots: the real pairs that the generator was tuned on.
      test: the pairs that classifiers will be scored on; may be empty.
      rules: ``near`` and, where it is lower, ``max_copy`` say how similar a near copy is.
    """
    written = [(sample.example.sentence2,) for sample in samples]
    pairs = [(sample.example.sentence1, sample.example.sentence2) for sample in samples]
    shown = [(sentence,) for shot in shots for sentence in (shot.sentence1, shot.sentence2) if words(sentence)]
    whose = [place for place, shot in enumerate(shots) for sentence in (shot.sentence1, shot.sentence2)
             if words(sentence)]
    margins = [margin(sample, labels) for sample in samples]
    best_first = sorted(range(len(samples)), key=lambda place: -(margins[place] or 0.0))
    remembered = [match and match._replace(position=whose[match.position])
                  for match in matches(written, shown, min(rules.near, rules.max_copy))]
    leaked = matches(pairs, [(pair.sentence1, pair.sentence2) for pair in test], rules.near)
    repeated = twins(pairs, rules.near, best_first)
    return [Mark(words(sentence1) == words(sentence2), jaccard(shingles(sentence1), shingles(sentence2)), *found)
            for (sentence1, sentence2), *found in zip(pairs, remembered, repeated, leaked, margins, strict=True)]


def _fault(found: Mark, rules: Rules) -> str:
    if rules.drop_leaks and found.leak:
        return "near copy of a test pair"
    if found.copied > rules.max_copy:
        return "copy of sentence 1"
    if found.shot and found.shot.similarity > rules.max_copy:
        return "copy of a shot"
    if rules.min_margin is not None and found.margin is not None and found.margin < rules.min_margin:
        return "label margin"
    return ""


def refine(samples: Sequence[Sample], labels: Sequence[str], marks: Sequence[Mark], rules: Rules
           ) -> tuple[list[Sample], dict[str, Counter[str]]]:
    """The samples that the rules leave, and how many of each label were dropped, by reason.

    Of near copies within the set one is left: only samples that no other rule drops compete.

    Args:
      samples: the set.
      labels: in the order of the scores.
      marks: of :func:`mark`, under the same rules.
      rules: what is dropped.
    """
    faults = [_fault(found, rules) for found in marks]
    if rules.dedup:
        left = [place for place, fault in enumerate(faults) if not fault]
        pairs = [(samples[place].example.sentence1, samples[place].example.sentence2) for place in left]
        order = sorted(range(len(left)), key=lambda place: -(marks[left[place]].margin or 0.0))
        for place, twin in zip(left, twins(pairs, rules.near, order), strict=True):
            faults[place] = "near copy of another sample" if twin else ""
    dropped = {label: Counter() for label in labels}
    for sample, fault in zip(samples, faults, strict=True):
        if fault:
            dropped[sample.example.label][fault] += 1
    return [sample for sample, fault in zip(samples, faults, strict=True) if not fault], dropped


def reselect(kept: Sequence[Sample], counts: dict[str, LabelCount], dropped: dict[str, Counter[str]]) -> Selection:
    """The selection of a refined set: what was dropped is rejected, by reason, and no longer accepted.

    Args:
      kept: what is left.
      counts: of the set before, by label.
      dropped: of :func:`refine`.
    """
    after = {label: count._replace(
        accepted=count.accepted - dropped[label].total(),
        kept=sum(sample.example.label == label for sample in kept),
        cut=sum(sample.cut for sample in kept if sample.example.label == label),
        rejected=dict(Counter(count.rejected) + dropped[label])) for label, count in counts.items()}
    return Selection(list(kept), after, [])


def leak_rows(samples: Sequence[Sample], marks: Sequence[Mark], test: Sequence[Example]) -> list[dict]:
    """The samples that nearly repeat a test pair, each with that pair; rows are counted from 1."""
    return [{"row": row, **sample.example._asdict(), "similarity": round(found.leak.similarity, 4),
             "test_row": found.leak.position + 1, "test": test[found.leak.position]._asdict()}
            for row, (sample, found) in enumerate(zip(samples, marks, strict=True), 1) if found.leak]
