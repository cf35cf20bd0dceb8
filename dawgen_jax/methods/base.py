"""What a method is: one small frozen value that says what is trained, on which data, for how long and from where.

That value alone decides the phases that run, the fields that a cell's key covers and the settings that its rows carry.
No code asks for a method's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from dawgen_jax.config import ClassifierConfig, Config

__all__ = ["FEW", "FINE", "FULL", "LONG", "UNSTATED", "Budget", "Method", "Phase", "Stretch", "Trained",
           "settings_of", "value_of"]


def value_of(config: Any, field: str) -> Any:
    """The value of a dotted field.

    >>> value_of(Config(), "classifier.fine_tuning.num_steps")
    500
    """
    for name in field.split("."):
        config = getattr(config, name)
    return config


UNSTATED = {"classifier.prompt_place": "before", "classifier.optimiser": "adafactor"}
"""Values that the settings of a prompt leave out, because rows of earlier code do not state them."""


def settings_of(config: Any, fields: Iterable[str]) -> dict[str, Any]:
    """Dotted fields with their values, as rows and keys state them.

    Values that were the only ones before their field existed are left out, so that older rows and keys stay valid.
    """
    return {field: value for field in sorted(set(fields))
            if (field, value := value_of(config, field)) not in UNSTATED.items()}


@dataclasses.dataclass(frozen=True)
class Budget:
    """Names of the fields of ``ClassifierConfig`` that say how long a stretch of training is.

    Attributes:
      steps: updates.
      batch: examples of each source in an update, or of each label where the name says so.
      evaluation: updates between two evaluations on dev.
    """

    steps: str
    batch: str
    evaluation: str


FEW = Budget("real_steps", "real_batch_per_label", "real_eval_every")
"""Real data only: as prompt tuning's own code has it."""
LONG = Budget("num_steps", "batch_size", "eval_every")
"""Every method with synthetic data, so that they compare, and real data only as their control."""
FULL = Budget("full_steps", "full_batch_size", "full_eval_every")
"""The whole training pool."""
FINE = Budget("fine_tuning.num_steps", "fine_tuning.batch_size", "fine_tuning.eval_every")
"""Training of all weights."""


@dataclasses.dataclass(frozen=True)
class Stretch:
    """What one optimiser is given.

    Attributes:
      sources: one inner tuple a source of gradients, the reference of the surgery first; an inner tuple names the data
        that this source draws from, pooled.
      budget: how long; two stretches of one method share it in halves.
      surgery: combine the sources by ``classifier.aggregator`` instead of by their sum.
      in_turn: the data of an inner tuple are taken one after the other in every epoch instead of pooled.
      smoothing: of labels.
    """

    sources: tuple[tuple[str, ...], ...]
    budget: Budget
    surgery: bool = False
    in_turn: bool = False
    smoothing: float = 0.0


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch under a configuration: everything that a program for it is compiled for.

    Attributes:
      sources, in_turn, smoothing: of the stretch.
      aggregator: how per-source gradients are combined.
      num_steps: updates T, the length of the schedule.
      batch_size: examples B of each source in a step.
      eval_every: updates between two evaluations on dev.
    """

    sources: tuple[tuple[str, ...], ...]
    aggregator: str
    num_steps: int
    batch_size: int
    eval_every: int
    in_turn: bool = False
    smoothing: float = 0.0


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a method trains.

    Attributes:
      name: for people.
      init: ``(backbone, config, num_labels, prompt [P, H], seed) -> params``, on the host.
      scores: ``(params, theta, batch, *, model, label_ids, config, tail) -> [B, L]``, class scores.
      optimiser: ``(config, num_steps, rate) -> transform`` of one gradient, after aggregation.
      fields: of ``ClassifierConfig``, that these read.
      rate: the config field that a user lowers where a loss is not finite.
      rates: name of the field with learning rates to try (the best on dev is kept); empty for a single rate.
      bare: the input is the text alone, without the task's template.
      together: several seeds fit in one program.
      weights: all weights are trained, so that no frozen copy is passed to the step.
      fixed: what the backbone makes of a text in front of the prompt does not depend on what is trained.
    """

    name: str
    init: Callable[..., Any]
    scores: Callable[..., Any]
    optimiser: Callable[..., Any]
    fields: tuple[str, ...]
    rate: str
    rates: str = ""
    bare: bool = False
    together: bool = True
    weights: bool = False
    fixed: bool = False


@dataclasses.dataclass(frozen=True)
class Method:
    """A row of the published tables, or one next to them.

    Attributes:
      name: as published.
      trains: what is trained; None for prompting without training.
      stretches: of its training, one after the other.
      source: name of the kind of prompt that it starts from (``transfer``); empty starts from the vocabulary.
      demonstrations: labelled examples are shown in the input.
      calibrated: class probabilities are divided by those of inputs without content.
      full: on the whole training pool instead of k shots.
      variant: distinguishes rows that the paper does not have.
      about: an explanation for reports, without a full stop.
    """

    name: str
    trains: Trained | None = None
    stretches: tuple[Stretch, ...] = ()
    source: str = ""
    demonstrations: bool = False
    calibrated: bool = False
    full: bool = False
    variant: str = ""
    about: str = ""

    def __str__(self) -> str:
        """The method as config files write it."""
        return self.name + (" @full" if self.full else "") + (f" #{self.variant}" if self.variant else "")

    @property
    def data(self) -> frozenset[str]:
        """The names of the data that it learns from: 'real', 'synthetic'."""
        return frozenset(name for stretch in self.stretches for source in stretch.sources for name in source)

    @property
    def baseline(self) -> bool:
        """Whether it learns from real data alone."""
        return self.seeded and "synthetic" not in self.data

    @property
    def seeded(self) -> bool:
        """Whether seeds make a difference."""
        return bool(self.stretches) or self.demonstrations

    def phases(self, config: ClassifierConfig, num_labels: int) -> tuple[Phase, ...]:
        """The stretches under a configuration."""
        count = len(self.stretches)
        return tuple(_phase(stretch, number, count, config, num_labels)
                     for number, stretch in enumerate(self.stretches))

    def settings(self, config: Config) -> dict[str, Any]:
        """The fields that the method itself reads, dotted, with their values (without those of its data)."""
        fields = ["max_tokens", *(self.trains.fields if self.trains else ())]
        if self.demonstrations:
            fields.append("demonstration_tokens")
        for stretch in self.stretches:
            fields += [stretch.budget.steps, stretch.budget.batch, stretch.budget.evaluation]
            if len(stretch.sources) > 1:
                fields.append("epsilon")
            if stretch.surgery:
                fields += ["aggregator", "surgery_scope"]
        return settings_of(config, [f"classifier.{field}" for field in fields])


def _phase(stretch: Stretch, number: int, count: int, config: ClassifierConfig, num_labels: int) -> Phase:
    steps, batch, evaluation = (value_of(config, field) for field in dataclasses.astuple(stretch.budget))
    if stretch.budget.batch.endswith("per_label"):
        batch *= num_labels
    return Phase(stretch.sources, config.aggregator if stretch.surgery else "sum",
                 steps * (number + 1) // count - steps * number // count, batch, evaluation, stretch.in_turn,
                 stretch.smoothing)
