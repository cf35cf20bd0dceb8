"""What a method is: one small frozen value that says what is trained, on which data, for how long and from where.

That value alone decides the stages that run, the fields that a cell's key covers and the settings that its rows carry.
No code asks for a method's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from dawgen_jax.config import ClassifierConfig, Config

__all__ = ["UNSTATED", "Method", "Reading", "Stage", "Stages", "Trained", "settings_of", "value_of"]


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


class Reading:
    """A view of a configuration that notes the dotted fields that are read through it.

    >>> reading = Reading(ClassifierConfig())
    >>> reading.fine_tuning.num_steps, sorted(reading.fields)
    (500, ['fine_tuning.num_steps'])
    """

    def __init__(self, config: Any, prefix: str = "", fields: set[str] | None = None):
        self._config, self._prefix, self.fields = config, prefix, set() if fields is None else fields

    def __getattr__(self, name: str) -> Any:
        value, name = getattr(self._config, name), self._prefix + name
        if dataclasses.is_dataclass(value):
            return Reading(value, f"{name}.", self.fields)
        self.fields.add(name)
        return value


@dataclasses.dataclass(frozen=True)
class Stage:
    """What one optimiser is given: everything that a program for it is compiled for.

    Attributes:
      sources: one inner tuple a source of gradients, the reference of the surgery first; an inner tuple names the data
        that this source draws from, pooled.
      aggregator: how per-source gradients are combined.
      num_steps: updates T, the length of the schedule.
      batch_size: examples B of each source in a step.
      eval_every: updates between two evaluations on dev.
      in_turn: the data of an inner tuple are taken one after the other in every epoch instead of pooled.
      smoothing: of labels.
    """

    sources: tuple[tuple[str, ...], ...]
    aggregator: str
    num_steps: int
    batch_size: int
    eval_every: int
    in_turn: bool = False
    smoothing: float = 0.0


Stages = Callable[[ClassifierConfig, int], tuple[Stage, ...]]
"""(config of the classifier, number of labels) -> stages of training, one after the other."""


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
      bare: the input is the text alone, without the task's template.
      weights: all weights are trained: no frozen copy is passed to the step, seeds are trained one by one, and each of
        ``fine_tuning.learning_rates`` is tried (the best on dev is kept).
      fixed: what the backbone makes of a text in front of the prompt does not depend on what is trained.
    """

    name: str
    init: Callable[..., Any]
    scores: Callable[..., Any]
    optimiser: Callable[..., Any]
    fields: tuple[str, ...]
    rate: str
    bare: bool = False
    weights: bool = False
    fixed: bool = False


@dataclasses.dataclass(frozen=True)
class Method:
    """A row of the published tables, or one next to them.

    Attributes:
      name: as published.
      trains: what is trained; None for prompting without training.
      stages: of its training.
      source: name of the kind of prompt that it starts from (``transfer``); empty starts from the vocabulary.
      demonstrations: labelled examples are shown in the input.
      calibrated: class probabilities are divided by those of inputs without content.
      full: on the whole training pool instead of k shots.
      variant: distinguishes rows that the paper does not have.
      about: an explanation for reports, without a full stop.
    """

    name: str
    trains: Trained | None = None
    stages: Stages = lambda config, num_labels: ()
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
        stages = self.stages(ClassifierConfig(), 2)
        return frozenset(name for stage in stages for source in stage.sources for name in source)

    @property
    def baseline(self) -> bool:
        """Whether it learns from real data alone."""
        return self.seeded and "synthetic" not in self.data

    @property
    def seeded(self) -> bool:
        """Whether seeds make a difference."""
        return self.trains is not None or self.demonstrations

    def settings(self, config: Config) -> dict[str, Any]:
        """The fields that the method itself reads, dotted, with their values (without those of its data)."""
        reading = Reading(config.classifier)
        stages = self.stages(reading, 2)
        fields = {"max_tokens", *reading.fields, *(self.trains.fields if self.trains else ())}
        if self.demonstrations:
            fields.add("demonstration_tokens")
        if any(len(stage.sources) > 1 for stage in stages):
            fields.add("epsilon")
        if "aggregator" in reading.fields:
            fields.add("surgery_scope")
        return settings_of(config, [f"classifier.{field}" for field in fields])
