"""Rows of results.jsonl: one a (task, data, backbone, generator, method, k_shot, variant, settings, seed, metric).

Every finished cell of a run keeps its rows in its own folder (cells/NAME/result.json, a JSON list); results.jsonl
is nothing but all of them, sorted by key, one JSON object a line, rewritten as a whole. So a restart, or a larger
run in the same folder, ends with the same file. A results.jsonl whose last line is torn is read without that line;
the next run rewrites it whole from the cells.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, NonNegativeFloat, PlainValidator

from dawgen_jax.config import digest
from dawgen_jax.config.validation import Count, Share, must, shown, validated
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.io.files import read_json, write_file
from dawgen_jax.io.lines import json_lines
from dawgen_jax.io.strict_json import json_text
from dawgen_jax.results.published import GENERATORS, METHODS, ZERO_SHOT

__all__ = ["AnyRow", "Row", "SyntheticRow", "merge", "read_cell", "read_rows", "versions", "write_cell", "write_rows"]


def _as_in_a_file(settings: Any) -> Any:
    """Settings as a file returns them, so that a row that was read equals the row that was written."""
    try:
        return json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise ValueError("must be finite JSON values by dotted field") from None


Size = Annotated[Count, Field(gt=0)]
Shots = Annotated[int | str, PlainValidator(must(
    "be a number of shots or 'full'",
    lambda shots: shots == "full" or (type(shots) is int and 0 <= shots < 2**63)))]
Settings = Annotated[dict[str, Any], BeforeValidator(_as_in_a_file)]


@validated
class Row:
    """One measured number.

    Attributes:
      task, backbone: what was scored, and the classifier's backbone.
      method: a string of the column `method` of the published tables.
      metric: 'accuracy' (the main one) or 'f1'; each metric has a row of its own.
      value: in [0, 1]; tables show per cent.
      n_test: test pairs scored.
      seed: of the few-shot split, the generator and the prompt; 0 for zero-shot, which has one row.
      generator, generator_backbone: who wrote the synthetic data; empty where there is none.
      k_shot: examples a class, or 'full' for the whole pool; zero-shot carries the run's and reads none.
      variant: '' by default, else 'same-T', 'cut', ...
      class_counts: test pairs of each class by name; they sum to n_test.
      split_source: where the few-shot split came from.
      trainable_parameters: numbers that the method trains.
      wall_seconds: time of this cell (shared work, such as the synthetic set, not counted).
      config_hash: of the fields and inputs that this cell depends on.
      versions: of Python and of the packages that computed it.
      settings: the config fields that the method reads, by dotted name ({'classifier.learning_rate': 0.3}), as JSON
        values, and digests of the backbones' weights; empty where they are not known.
      data: digest of what the task's name stood for, its template, words, training pool and test pairs; empty where it
        is not known.
      extras: anything else worth keeping (conflict rate, steps, polarity of label words, ...).
    """

    task: str
    backbone: str
    method: str
    metric: Literal["accuracy", "f1"]
    value: Share
    n_test: Size
    seed: Count
    generator: str = ""
    generator_backbone: str = ""
    k_shot: Shots = 16
    variant: str = ""
    class_counts: dict[str, Count] = Field(default_factory=dict)
    split_source: str = ""
    trainable_parameters: Count = 0
    wall_seconds: NonNegativeFloat = 0.0
    config_hash: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    settings: Settings = Field(default_factory=dict)
    data: str = ""
    extras: dict[str, Any] = Field(default_factory=dict)

    def __post_init__(self):
        if self.class_counts and sum(self.class_counts.values()) != self.n_test:
            raise ConfigError(f"Row.class_counts = {shown(self.class_counts)}: must sum to n_test = {self.n_test}.")

    @property
    def key(self) -> tuple:
        """What names a row; a later row with the same key replaces an earlier one."""
        return (self.task, self.data, *self.arm_key, self.seed, self.metric)

    @property
    def arm_key(self) -> tuple:
        """What the rows of one arm, that is of one line of a table, share over tasks and seeds."""
        return (self.backbone, self.generator_backbone, self.generator, self.method, str(self.k_shot), self.variant,
                digest(self.settings))

    @property
    def arm(self) -> str:
        """Generator, method, shots and variant as config files write them, and what departs from the usual.

        That is the model that wrote the synthetic data where it is not the classifier's, and shots other than 16;
        settings are told apart by :func:`~dawgen_jax.results.arms.arm_names`.
        """
        prefix, full = f"{self.generator}: " if self.generator else "", " @full" if self.k_shot == "full" else ""
        variant = f" #{self.variant}" if self.variant else ""
        writer = f" by {self.generator_backbone}" if self.generator_backbone not in ("", self.backbone) else ""
        shots = "" if self.method == ZERO_SHOT or self.k_shot in (16, "full") else f", {self.k_shot} shots"
        return prefix + self.method + full + variant + writer + shots

    @property
    def order(self) -> tuple:
        """Sorts rows as tables show them: methods in the paper's order, few shots before 'full'."""
        return (self.task, self.backbone, self.generator_backbone, _rank(GENERATORS, self.generator),
                _rank(METHODS, self.method), self.k_shot == "full",
                self.k_shot if isinstance(self.k_shot, int) else 0, self.variant,
                json.dumps(self.settings, sort_keys=True), self.data, self.seed, self.metric)


@validated
class SyntheticRow:
    """Quality of one synthetic set (a line of synthetic.jsonl); measures as defined in ``evaluation.quality``.

    Attributes:
      task, generator, seed: which set; ``backbone`` is the model that wrote it.
      n: samples measured.
      consistency: share whose true label is the wanted one; None where no semantics tells it.
      diversity, distance, copies: distinct-2, unigram divergence from real sentences, copies of sentence 1.
      settings, data: as of a :class:`Row`.
      extras: the other measures.
    """

    task: str
    backbone: str
    generator: str
    seed: Count
    n: Size
    diversity: Share
    distance: Share
    copies: Share
    consistency: Share | None = None
    settings: Settings = Field(default_factory=dict)
    data: str = ""
    extras: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> tuple:
        """What names a row."""
        return (self.task, self.data, *self.arm_key, self.seed)

    @property
    def arm_key(self) -> tuple:
        """What sets of one way to make them share over tasks and seeds."""
        return (self.backbone, self.generator, digest(self.settings))

    @property
    def arm(self) -> str:
        """The generator, whose settings are told apart by :func:`~dawgen_jax.results.arms.arm_names`."""
        return self.generator

    @property
    def order(self) -> tuple:
        """Sorts rows: FewGen before DawGen."""
        return (self.task, self.backbone, _rank(GENERATORS, self.generator), json.dumps(self.settings, sort_keys=True),
                self.data, self.seed)


AnyRow = TypeVar("AnyRow", Row, SyntheticRow)
_CELL = Annotated[list[Row], Field(min_length=1)]


def _rank(names: tuple[str, ...], name: str) -> tuple[int, str]:
    return (names.index(name) if name in names else len(names) if name else -1, name)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a number, for :class:`Row`."""
    packages = ("dawgen-jax", "jax", "jaxlib", "flax", "optax", "numpy", "transformers")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


def merge(*groups: Iterable[AnyRow]) -> list[AnyRow]:
    """All rows, sorted, one a key: a later row replaces an earlier one with the same key."""
    kept = {row.key: row for rows in groups for row in rows}
    return sorted(kept.values(), key=lambda row: row.order)


def read_rows(path: str | os.PathLike, kind: type[AnyRow] = Row, *, torn_ok: bool = True) -> list[AnyRow]:
    """The rows of a .jsonl file, one JSON object a line.

    Args:
      path: of the file.
      kind: of its rows.
      torn_ok: leave out a torn last line with a logged warning: such a file is rewritten whole from the cells. A
        line torn anywhere else is an error.

    Raises:
      UserError: naming file and line, where the file is missing, or a line is no valid row or repeats a key.
    """
    if not os.path.exists(path):  # which, unlike a path's method, takes a name that is too long for none
        raise UserError(f"{path}: no such file; finish a run there first, or name its folder.")
    rows, first = [], {}
    for number, row in json_lines(path, kind, torn_ok=torn_ok):
        if first.setdefault(row.key, number) != number:
            raise UserError(f"{path}:{number}: repeats the row of line {first[row.key]}; keep one of them.")
        rows.append(row)
    return rows


def write_rows(path: str | os.PathLike, rows: Iterable[AnyRow]) -> None:
    """Replaces a .jsonl file as a whole by ``merge(rows)``; the same rows in any order give the same bytes."""
    write_file(Path(path), "".join(json_text(dataclasses.asdict(row)) + "\n" for row in merge(rows)))


def read_cell(path: str | os.PathLike) -> list[Row]:
    """The rows of one cell's result.json, a JSON list.

    Raises:
      UserError: naming the file and the position in the list.
    """
    return read_json(Path(path), _CELL, advice="remove the folder to compute the cell again")


def write_cell(path: str | os.PathLike, rows: Iterable[Row]) -> None:
    """Writes one cell's rows to its result.json, whole or not at all."""
    write_file(Path(path), json_text([dataclasses.asdict(row) for row in merge(rows)], indent=1) + "\n")
