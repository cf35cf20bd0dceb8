"""The rows, folders and files of a run directory that the report shows (:mod:`.page` lists the files)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydantic import NonNegativeFloat

from dawgen_jax.config.validation import Count, Items, validated
from dawgen_jax.errors import ConfigError
from dawgen_jax.io.files import read_json
from dawgen_jax.io.metadata import read_meta
from dawgen_jax.results.arms import arm_names
from dawgen_jax.results.rows import Row, SyntheticRow, read_cell, read_rows

__all__ = ["Artefact", "Cell", "Mistakes", "WeightedSentence", "cells", "finished", "names_of", "optional_rows",
           "read_mistakes", "read_timings", "read_token_weights", "synthetic_sets", "writers"]

Artefact = tuple[SyntheticRow, Path]
"""The row of a synthetic set, and the folder of the set or of the generator that wrote it."""
Cell = tuple[Row, Path]
"""The first row of a cell, and the folder of the cell."""


def names_of(sets: Iterable[Artefact]) -> Callable[[Artefact], str]:
    """A function that names a set's generator: 'DawGen by mini-t5', with any settings in which equal names differ."""
    names = arm_names(row for row, _ in sets)
    return lambda artefact: f"{names[artefact[0].arm_key]} by {artefact[0].backbone}"


def finished(run: Path, kind: str) -> list[Path]:
    """Finished artefacts; a name that starts with a dot is unfinished."""
    return sorted(folder for folder in (run / kind).glob("[!.]*") if folder.is_dir())


def optional_rows(path: Path, kind: type[Row] | type[SyntheticRow]) -> list:
    """The rows of a file; empty if the file is missing."""
    return read_rows(path, kind) if path.exists() else []


def cells(run: Path, rows: Sequence[Row]) -> list[Cell]:
    """The cells of results.jsonl."""
    current = {row.config_hash for row in rows}
    found = ((read_cell(folder / "result.json")[0], folder) for folder in finished(run, "cells")
             if (folder / "result.json").exists())
    return sorted((cell for cell in found if cell[0].config_hash in current), key=lambda cell: cell[0].order)


def synthetic_sets(run: Path) -> list[Artefact]:
    """The synthetic sets of synthetic.jsonl."""
    current = {row.key: row for row in optional_rows(run / "synthetic.jsonl", SyntheticRow)}
    found = {row.key: (row, folder) for folder in finished(run, "synthetic")
             for row in optional_rows(folder / "quality.jsonl", SyntheticRow) if row == current.get(row.key)}
    return sorted(found.values(), key=lambda artefact: artefact[0].order)


def writers(run: Path, sets: Sequence[Artefact]) -> list[Artefact]:
    """The generators that wrote the sets."""
    folders = {folder.name: folder for folder in finished(run, "generators")}
    named = ((row, read_meta(folder).generator_artefact) for row, folder in sets)
    return [(row, folders[name]) for row, name in named if name in folders]


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
