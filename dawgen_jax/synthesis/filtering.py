"""Which generated samples are kept (rules of FewGen's released code), and a count of why others are not.

A sample is rejected if it did not end within its budget, is empty, contains a newline or one of the task's own
strings (a question mark in QNLI's paragraphs), or repeats a first sentence that its label has already (the whole
example, where first sentences come again on purpose or there are none). Labels are then cut to the size of the
smallest. Nothing is chosen by confidence.

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
    """One generated pair.

    Attributes:
      example: the first sentence, the text that was generated for it, and the class whose prompt did.
      index: position of the first sentence in the permuted corpus.
      cut: True if the budget ended before end of sequence came.
      scores: log-probability under each label's prompt, in the order of ``Task.labels``; empty where not asked for.
    """

    example: Example
    index: int
    cut: bool = False
    scores: tuple[float, ...] = ()


class LabelCount(NamedTuple):
    """What became of one label's samples: made = accepted + the sum of rejected + surplus.

    Attributes:
      wanted: ``synthesis.samples_per_label``.
      made: samples generated.
      accepted: those that no rule rejected, up to ``wanted``.
      kept: those in the set, after balancing.
      cut: those of ``kept`` that end at the budget (``synthesis.unfinished = 'cut'``).
      surplus: good ones after ``wanted`` was reached.
      rejected: number by reason.
    """

    wanted: Count
    made: Count
    accepted: Count
    kept: Count
    cut: Count
    surplus: Count
    rejected: dict[str, Count]


class Selection(NamedTuple):
    """The kept samples, labels interleaved; counts by label; sentences to warn the user with."""

    samples: list[Sample]
    counts: dict[str, LabelCount]
    warnings: list[str]


class Selector:
    """Takes samples as they are made, in the order of ``index``, and tells when there are enough.

    What it keeps depends on the order within each label alone, so shards that are read back give the same set.
    """

    def __init__(self, task: Task, config: SynthesisConfig, *, repeats: bool = False):
        """``repeats``: first sentences come again, so that only whole examples must differ."""
        self._task = task
        self._repeats = repeats
        self._config = config
        self._accepted: dict[str, list[Sample]] = {label: [] for label in task.labels}
        self._seen: dict[str, set[Example | str]] = {label: set() for label in task.labels}
        self._made: Counter[str] = Counter()
        self._surplus: Counter[str] = Counter()
        self._rejected: dict[str, Counter[str]] = {label: Counter() for label in task.labels}

    def add(self, samples: Iterable[Sample]) -> None:
        """Accepts or rejects each sample."""
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
        """Whether ``label`` (all labels where None) has as many accepted samples as are wanted."""
        labels = self._task.labels if label is None else (label,)
        return all(len(self._accepted[name]) >= self._config.samples_per_label for name in labels)

    def accepted(self) -> dict[str, int]:
        """Accepted samples of each label so far."""
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
                warnings.append(f"{self._task.name}: label '{label}' has {len(samples)} accepted samples of {wanted} "
                                f"wanted ({self._reasons(label)}); {self._used_up}.")
        position = {label: i for i, label in enumerate(self._task.labels)}
        kept.sort(key=lambda sample: (sample.index, position[sample.example.label]))
        return Selection(kept, counts, warnings)

    @property
    def _used_up(self) -> str:
        return "no more are tried" if self._repeats else "the first sentences are used up"

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
    """Why ``sample`` is rejected by itself; empty if it is not."""
    if sample.cut and config.unfinished == "reject":
        return "unfinished"
    if not sample.example.sentence2.strip():
        return "empty"
    if "\n" in sample.example.sentence2:
        return "newline"
    return next((f"contains '{text}'" for text in task.reject if text in sample.example.sentence2), "")
