"""Selection of generated samples (rules of FewGen's released code), with counts of rejections by reason.

A sample is rejected if it did not end within its budget, is empty, contains a newline or a string that the task rejects
(a question mark in QNLI's paragraphs), or repeats a first sentence of its label (the whole example, if first sentences
are repeated on purpose or absent). Labels are then cut to the size of the smallest. Confidence plays no role.

References: Meng et al., *Tuning language models as training data generators for augmentation-enhanced few-shot
learning* (https://arxiv.org/abs/2211.03044, 2023).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from dawgen_jax.config import SynthesisConfig
from dawgen_jax.config.validation import Count
from dawgen_jax.data.pools import Example
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import Task

__all__ = ["LabelCount", "Sample", "Selection", "Selector"]


class Sample(NamedTuple):
    """One generated sample.

    Attributes:
      example: the first sentence, the generated text, and the class whose prompt generated it.
      index: position of the first sentence in the permuted corpus.
      cut: True if the budget was used up before the end of sequence.
      scores: log-probability under each label's prompt, in the order of ``Task.labels``; empty if not requested.
    """

    example: Example
    index: int
    cut: bool = False
    scores: tuple[float, ...] = ()


class LabelCount(NamedTuple):
    """Counts of one label's samples: made = accepted + the sum of rejected + surplus.

    Attributes:
      wanted: ``synthesis.samples_per_label``.
      made: generated samples.
      accepted: samples that pass all rules, up to ``wanted``.
      kept: samples in the set, after balancing.
      cut: kept samples that end at the budget (``synthesis.unfinished = 'cut'``).
      surplus: samples that pass all rules after ``wanted`` was reached.
      rejected: rejected samples by reason.
    """

    wanted: Count
    made: Count
    accepted: Count
    kept: Count
    cut: Count
    surplus: Count
    rejected: dict[str, Count]


class Selection(NamedTuple):
    """The kept samples with labels interleaved, counts by label, and warnings for the user."""

    samples: list[Sample]
    counts: dict[str, LabelCount]
    warnings: list[str]


class Selector:
    """Collects samples in the order of ``index`` and reports when there are enough.

    The selection depends only on the order within each label, so reading shards back gives the same set.
    """

    def __init__(self, task: Task, config: SynthesisConfig, *, repeats: bool = False):
        """``repeats``: first sentences are repeated, so only whole examples must differ."""
        self._task = task
        self._repeats = repeats
        self._config = config
        self._accepted: dict[str, list[Sample]] = {label: [] for label in task.labels}
        self._seen: dict[str, set[Example | str]] = {label: set() for label in task.labels}
        self._made: Counter[str] = Counter()
        self._surplus: Counter[str] = Counter()
        self._rejected: dict[str, Counter[str]] = {label: Counter() for label in task.labels}

    def add(self, samples: Iterable[Sample]) -> None:
        """Accept or reject each sample."""
        for sample in samples:
            label = sample.example.label
            self._made[label] += 1
            reason = rejection(sample, self._task, self._config)
            known = sample.example if self._repeats else sample.example.sentence1
            if not reason and known in self._seen[label]:
                reason = "duplicate" if self._repeats else "duplicate sentence 1"
            if reason:
                self._rejected[label][reason] += 1
            elif self.enough(label):
                self._surplus[label] += 1
            else:
                self._seen[label].add(known)
                self._accepted[label].append(sample)

    def enough(self, label: str | None = None) -> bool:
        """Whether ``label`` (None: every label) has as many accepted samples as wanted."""
        labels = self._task.labels if label is None else (label,)
        return all(len(self._accepted[name]) >= self._config.samples_per_label for name in labels)

    def accepted(self) -> dict[str, int]:
        """Number of accepted samples per label so far."""
        return {label: len(samples) for label, samples in self._accepted.items()}

    def select(self) -> Selection:
        """The kept samples.

        Raises:
          UserError: a label has no accepted sample.
        """
        for label, samples in self._accepted.items():
            if not samples:
                raise UserError(self._nothing(label))
        wanted, fewest = self._config.samples_per_label, min(map(len, self._accepted.values()))
        kept, counts, warnings = [], {}, []
        for label, samples in self._accepted.items():
            chosen = samples[:fewest] if self._config.balance else samples
            kept += chosen
            counts[label] = LabelCount(wanted, self._made[label], len(samples), len(chosen),
                                       sum(sample.cut for sample in chosen), self._surplus[label],
                                       dict(self._rejected[label].most_common()))
            if len(samples) < wanted:
                ended = "no more are tried" if self._repeats else "the first sentences are used up"
                warnings.append(f"{self._task.name}: label '{label}' has {len(samples)} accepted samples of {wanted} "
                                f"wanted ({self._reasons(label)}); {ended}.")
        kept.sort(key=lambda sample: (sample.index, self._task.labels.index(sample.example.label)))
        return Selection(kept, counts, warnings)

    def _reasons(self, label: str) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self._rejected[label].most_common())
        return f"{self._made[label]} made, rejected: {reasons or 'none'}"

    def _nothing(self, label: str) -> str:
        main = next(iter(self._rejected[label].most_common(1)), ("", 0))[0]
        if main == "unfinished":
            way_out = ("keep samples without end of sequence with synthesis.unfinished = 'cut', raise "
                       "synthesis.max_new_tokens, or tune the generator for longer")
        elif main:
            way_out = "tune the generator for longer, or sample with synthesis.temperature above 0"
        else:
            way_out = "give a corpus with more first sentences"
        return (f"{self._task.name}: no sample of label '{label}' was accepted ({self._reasons(label)}): {way_out}.")


def rejection(sample: Sample, task: Task, config: SynthesisConfig) -> str:
    """The reason to reject ``sample`` alone; empty if it passes."""
    if sample.cut and config.unfinished == "reject":
        return "unfinished"
    if not sample.example.sentence2.strip():
        return "empty"
    if "\n" in sample.example.sentence2:
        return "newline"
    return next((f"contains '{text}'" for text in task.reject if text in sample.example.sentence2), "")
