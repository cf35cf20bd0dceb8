"""Rows of results.jsonl: one per (task, data, backbone, generator, method, k_shot, variant, settings, seed, metric).

Every finished cell of a run stores its rows in its folder (cells/NAME/result.json, a JSON list). results.jsonl holds
the rows of all cells, sorted by key, one JSON object per line, and is always rewritten as a whole, so that a restart,
or a larger run in the same folder, gives the same file. A torn last line of results.jsonl is skipped; the next run
rewrites the file from the cells.
"""

from __future__ import annotations

import contextlib
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
    """Settings as a file returns them, so that a row equals itself after writing and reading."""
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
      task, backbone: names of the task and of the classifier's backbone.
      method: name in the column `method` of the published tables.
      metric: 'accuracy' (the main metric) or 'f1'; each metric has a separate row.
      value: in [0, 1]; tables show per cent.
      n_test: number of test pairs.
      seed: seed for the few-shot split, the generator and the prompt; 0 for zero-shot, which has a single row.
      generator, generator_backbone: writer of the synthetic data; empty without synthetic data.
      k_shot: examples per class, or 'full' for the whole pool; zero-shot records the run's value but uses none.
      variant: '' by default, otherwise 'same-T', 'cut', ...
      class_counts: number of test pairs per class; they sum to n_test.
      split_source: source of the few-shot split.
      trainable_parameters: number of trained parameters.
      wall_seconds: time of this cell, without shared work such as the synthetic set.
      config_hash: digest of the fields and inputs that this cell depends on.
      versions: versions of Python and of the packages that computed it.
      settings: the config fields that the method reads, by dotted name ({'classifier.learning_rate': 0.3}), as JSON
        values, with digests of files in place of their paths; digests of the backbones' weights, and the revisions of
        the stages; empty if unknown.
      data: digest of the task's template, words, training pool and test pairs; empty if unknown.
      extras: other measures (conflict rate, steps, polarity of label words, ...).
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
        """Identifies a row; a later row with the same key replaces an earlier one."""
        return (self.task, self.data, self.split_source, *self.arm_key, self.seed, self.metric)

    @property
    def arm_key(self) -> tuple:
        """The part of the key that rows of an arm (a line of a table) share over tasks and seeds."""
        return (self.backbone, self.generator_backbone, self.generator, self.method, str(self.k_shot), self.variant,
                digest(self.settings))

    @property
    def arm(self) -> str:
        """Generator, method and variant as in config files, followed by unusual properties.

        These are a generator's backbone other than the classifier's, and shots other than 16.
        :func:`~dawgen_jax.results.arms.arm_names` distinguishes settings.
        """
        prefix, full = f"{self.generator}: " if self.generator else "", " @full" if self.k_shot == "full" else ""
        variant = f" #{self.variant}" if self.variant else ""
        writer = f" by {self.generator_backbone}" if self.generator_backbone not in ("", self.backbone) else ""
        shots = "" if self.method == ZERO_SHOT or self.k_shot in (16, "full") else f", {self.k_shot} shots"
        return prefix + self.method + full + variant + writer + shots

    @property
    def order(self) -> tuple:
        """Sort key for tables: methods in the paper's order, few shots before 'full'."""
        return (self.task, self.backbone, self.generator_backbone, _rank(GENERATORS, self.generator),
                _rank(METHODS, self.method), self.k_shot == "full",
                self.k_shot if isinstance(self.k_shot, int) else 0, self.variant,
                json.dumps(self.settings, sort_keys=True), self.data, self.seed, self.metric, self.split_source)


@validated
class SyntheticRow:
    """Quality of one synthetic set (a line of synthetic.jsonl); measures as defined in ``evaluation.quality``.

    Attributes:
      task, generator, seed: identify the set; ``backbone`` is the model that wrote it.
      n: number of samples.
      consistency: share of samples whose true label is the wanted one; None for a task without semantics.
      diversity, distance, copies: distinct-2, unigram divergence from real sentences, copies of sentence 1.
      settings, data: see :class:`Row`.
      extras: other measures.
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
        """Identifies a row; a later row with the same key replaces an earlier one."""
        return (self.task, self.data, *self.arm_key, self.seed)

    @property
    def arm_key(self) -> tuple:
        """The part of the key that sets of a generator with the same settings share over tasks and seeds."""
        return (self.backbone, self.generator, digest(self.settings))

    @property
    def arm(self) -> str:
        """The generator; :func:`~dawgen_jax.results.arms.arm_names` distinguishes settings."""
        return self.generator

    @property
    def order(self) -> tuple:
        """Sort key: FewGen before DawGen."""
        return (self.task, self.backbone, _rank(GENERATORS, self.generator), json.dumps(self.settings, sort_keys=True),
                self.data, self.seed)


AnyRow = TypeVar("AnyRow", Row, SyntheticRow)
_CELL = Annotated[list[Row], Field(min_length=1)]


def _rank(names: tuple[str, ...], name: str) -> tuple[int, str]:
    return (names.index(name) if name in names else len(names) if name else -1, name)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages on which a result depends, and the device, for :class:`Row`.

    The device is the accelerator's kind, or the model of the CPU and the number of its threads that may be used: sums
    are rounded in another order on another one. ``jax_default_matmul_precision``, on which the backbone's products
    depend on GPUs and TPUs, is included if it is set.
    """
    import jax  # tables and reports of stored rows do not need it

    packages = ("dawgen-jax", "jax", "jaxlib", "flax", "optax", "numpy", "transformers")
    precision, device = jax.config.jax_default_matmul_precision, jax.devices()[0]
    # Not all systems know which threads a process may use.
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    kind = f"{_cpu_model()}, {threads} threads" if device.platform == "cpu" else device.device_kind
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages} | {
        "device": kind} | ({"matmul precision": str(precision)} if precision else {})


def _cpu_model() -> str:
    """The name in /proc/cpuinfo, or what the platform knows."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def merge(*groups: Iterable[AnyRow]) -> list[AnyRow]:
    """All rows, sorted, one per key: a later row replaces an earlier one with the same key."""
    kept = {row.key: row for rows in groups for row in rows}
    return sorted(kept.values(), key=lambda row: row.order)


def read_rows(path: str | os.PathLike, kind: type[AnyRow] = Row, *, torn_ok: bool = True) -> list[AnyRow]:
    """The rows of a .jsonl file, one JSON object per line.

    Args:
      path: path of the file.
      kind: class of its rows.
      torn_ok: skip a torn last line with a logged warning, since such a file is rewritten from the cells. A torn line
        anywhere else is an error.

    Raises:
      UserError: the file is missing, or a line is not a valid row or repeats a key.
    """
    if not os.path.exists(path):  # unlike Path.exists, it does not raise for a name that is too long
        raise UserError(f"{path}: no such file; finish a run there first, or name its folder.")
    rows, first = [], {}
    for number, row in json_lines(path, kind, torn_ok=torn_ok):
        if first.setdefault(row.key, number) != number:
            raise UserError(f"{path}:{number}: repeats the row of line {first[row.key]}; keep one of them.")
        rows.append(row)
    return rows


def write_rows(path: str | os.PathLike, rows: Iterable[AnyRow]) -> None:
    """Write ``merge(rows)`` to a .jsonl file atomically; the bytes do not depend on the order of the rows."""
    write_file(Path(path), "".join(json_text(dataclasses.asdict(row)) + "\n" for row in merge(rows)))


def read_cell(path: str | os.PathLike) -> list[Row]:
    """The rows of one cell's result.json, a JSON list.

    Raises:
      UserError: the file is missing or broken; the message names the position in the list.
    """
    return read_json(Path(path), _CELL, advice="remove the folder to compute the cell again")


def write_cell(path: str | os.PathLike, rows: Iterable[Row]) -> None:
    """Write a cell's rows to its result.json atomically."""
    write_file(Path(path), json_text([dataclasses.asdict(row) for row in merge(rows)], indent=1) + "\n")
