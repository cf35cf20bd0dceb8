"""Files of artefacts that the report reads, validated as a whole."""

from __future__ import annotations

from pathlib import Path

from pydantic import NonNegativeFloat

from dawgen_jax.config.validation import Count, Items, validated
from dawgen_jax.errors import ConfigError
from dawgen_jax.io.files import read_json

__all__ = ["Mistakes", "WeightedSentence", "read_mistakes", "read_timings", "read_token_weights"]


@validated
class WeightedSentence:
    """A target sentence after ``sentence1``, and the weight of each of its tokens."""

    sentence1: str
    label: str
    tokens: Items[str]
    weights: Items[float]

    def __post_init__(self):
        if len(self.weights) != len(self.tokens):
            raise ConfigError("WeightedSentence.weights: must have as many items as tokens.")


@validated
class Mistakes:
    """Labels, confusion matrix (rows are true labels) and misclassified examples of a cell."""

    labels: Items[str]
    confusion: Items[tuple[Count, ...]]
    examples: Items[dict[str, str]]

    def __post_init__(self):
        if {len(self.confusion), *map(len, self.confusion)} - {len(self.labels)}:
            raise ConfigError("Mistakes.confusion: must have a row and a column per label.")


def read_timings(path: Path) -> dict[str, float]:
    """Seconds by stage in a timings.json; empty if the file does not exist.

    Raises:
      UserError: the file is broken, or a value is invalid.
    """
    return read_json(path, dict[str, NonNegativeFloat], missing_ok=True, advice="remove the file") or {}


def read_token_weights(path: Path) -> list[WeightedSentence]:
    """The sentences of a token_weights.json; empty if the file does not exist.

    Raises:
      UserError: the file is broken, or a value is invalid.
    """
    return read_json(path, list[WeightedSentence], missing_ok=True) or []


def read_mistakes(path: Path) -> Mistakes | None:
    """The contents of a wrong_examples.json; None if the file does not exist.

    Raises:
      UserError: the file is broken, or a value is invalid.
    """
    return read_json(path, Mistakes, missing_ok=True)
