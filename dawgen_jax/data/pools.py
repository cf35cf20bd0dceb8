"""Interpretation of a file's columns: labelled examples, pools of them, and texts to classify.

A :class:`Layout` says which columns are wanted, :func:`resolve` finds them in a file, :func:`labelled` reads the rows.
The paper's tasks are preset layouts: column names of the hub's GLUE, SNLI and SICK and of the original files, with
integer labels as positions in ``Task.labels``. Unused content of a file is counted and logged.
"""

from __future__ import annotations

import calendar
import functools
import itertools
import logging
import os
import pathlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from dawgen_jax.config import shown
from dawgen_jax.data.records import SPLITS, Records, listed, normalized, records, splits
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import Task
from dawgen_jax.tasks.schema import PAIR

__all__ = ["LABEL", "Example", "Labelled", "Layout", "Pools", "alike", "classified", "distinct", "labelled",
           "load_pools", "overlap", "preset", "read_examples", "read_texts", "resolve", "texts_of"]

log = logging.getLogger(__name__)
TEXT = ("text", "sentence", "review", "content")
SENTENCE1 = ("sentence1", "premise", "question1", "question", "sentence_A", "#1 String")
SENTENCE2 = ("sentence2", "hypothesis", "question2", "sentence", "sentence_B", "#2 String")
LABEL = ("label", "gold_label", "is_duplicate", "entailment_judgment", "entailment_label", "Quality")
HUB = {
    "QQP": "nyu-mll/glue/qqp", "MRPC": "nyu-mll/glue/mrpc", "MNLI": "nyu-mll/glue/mnli", "QNLI": "nyu-mll/glue/qnli",
    "RTE": "nyu-mll/glue/rte", "SNLI": "stanfordnlp/snli", "SICK": "RobZamp/sick@refs/convert/parquet",
}
"""Data sets for ``hub:`` without a name, by task."""
_WHOLE = re.compile(r"([0-9]{1,9})(\.0)?")  # ASCII only, since \d also matches other digits such as '\u0661'
_NUMBERED = re.compile(r"(id|idx|index|guid|__index_level_\d+__|)")
"""Names of columns that number rows; pandas stores an index in parquet under the last but one."""
_DATES = {part for name in (*calendar.month_name, *calendar.day_name) for part in (name.lower(), name[:3].lower())} | {
    "am", "pm", "utc", "gmt", "t", "z", "st", "nd", "rd", "th"}
"""Words in dates and times."""
_SAMPLE = 1000
"""Number of rows that are inspected to decide whether a column holds texts."""


class Example(NamedTuple):
    """A labelled pair, or a single text as ``sentence2`` with an empty ``sentence1``. ``label`` is a class name."""

    sentence1: str
    sentence2: str
    label: str


def texts_of(task: Task, examples: Sequence[Example]) -> list[list[str]]:
    """The texts of examples, one list per field of ``task.fields``."""
    pairs = [[example.sentence1 for example in examples], [example.sentence2 for example in examples]]
    return pairs[-len(task.fields):]


def alike(example: Example) -> tuple[str, str, str]:
    """A key that is equal for examples that differ only by case, white space or Unicode form."""
    return normalized(example.sentence1), normalized(example.sentence2), example.label


def distinct(examples: Iterable[Example]) -> Iterator[Example]:
    """Examples without repeats of earlier ones."""
    seen = set()
    for example in examples:
        if (key := alike(example)) not in seen:
            seen.add(key)
            yield example


def overlap(examples: Iterable[Example], others: Iterable[Example]) -> int:
    """Number of ``examples`` whose texts occur in ``others``, with any label."""
    known = {alike(other)[:2] for other in others}
    return sum(alike(example)[:2] in known for example in examples)


class Pools(NamedTuple):
    """The splits of a task; a missing split is empty. ``columns`` describes the columns that were read."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    source: str
    columns: str = ""

    def scored(self, task: Task) -> list[Example]:
        """The split on which results are reported: ``task.test_split``."""
        return getattr(self, task.test_split)


class Layout(NamedTuple):
    """The columns of a file.

    Attributes:
      texts: accepted column names for the text, or for each text of a pair; empty to detect the columns.
      label: accepted column names for the label; empty for texts to classify.
      count: number of texts per row; 0 to detect it.
      preset: layout of the paper's data sets: values under several of the names must agree (otherwise the first
        counts), integer labels are positions in ``Task.labels``, and texts may be empty.
      hint: the next step if a column is missing.
      unused: the other columns.
    """

    texts: tuple[tuple[str, ...], ...] = ()
    label: tuple[str, ...] = LABEL
    count: int = 0
    preset: bool = False
    hint: str = "name it with --columns or --label (own.columns, own.label)"
    unused: tuple[str, ...] = ()

    def named(self, columns: Sequence[str], label: str = "") -> Layout:
        """The same layout with the columns that a user names."""
        return self._replace(texts=tuple((name,) for name in columns) or self.texts,
                             label=(label,) if label else self.label)

    def __str__(self) -> str:
        """Describe which columns are used, and which are not."""
        text = f"texts from {' and '.join(shown(names[0]) for names in self.texts)}"
        text += f", labels from {shown(self.label[0])}" if self.label else ""
        return text + (f"; not used: {listed(self.unused)}" if self.unused else "")


def preset(task: Task) -> Layout:
    """The usual column names of a task's texts and labels."""
    texts = (SENTENCE1, SENTENCE2) if task.fields == PAIR else (TEXT,)
    return Layout(texts, count=len(task.fields), preset=True, hint="rename a column")


def resolve(table: Records, wanted: Layout) -> tuple[Records, Layout]:
    """The table, with all rows unread, and the layout of its columns.

    Text columns that ``wanted`` does not name are detected: by their usual names, or because no other columns can hold
    texts. Names are compared after :func:`~.records.normalized`.

    Raises:
      UserError: a column is missing, or it is ambiguous which columns hold texts.
    """
    head = list(itertools.islice(table.rows, _SAMPLE))
    if not head:
        return table, wanted
    location, first = head[0]

    def present(names: Sequence[str]) -> tuple[str, ...]:
        if found := _among(names, first):
            return found if wanted.preset else found[:1]
        others = f"it may also be named {', '.join(names[1:])}; " if names[1:] else ""
        raise UserError(f"{location}: no field {shown(names[0])} (fields there: {listed(first)}); {others}"
                        f"{wanted.hint}.")

    label = present(wanted.label) if wanted.label else ()
    texts = tuple(map(present, wanted.texts)) or _texts(head, label[0], wanted.count)
    if wanted.count not in (0, len(texts)):
        raise UserError(f"{table.origin}: {len(texts)} column(s) of texts ({listed(names[0] for names in texts)}), but "
                        f"the task has {wanted.count}; name as many with --columns.")
    used = {*itertools.chain(label, *texts)}
    layout = wanted._replace(texts=texts, label=label, unused=tuple(name for name in first if name not in used))
    return table._replace(rows=itertools.chain(head, table.rows)), layout


def _among(names: Sequence[str], columns: Iterable[str]) -> tuple[str, ...]:
    """The columns with one of the names, in the order of the names."""
    there = {normalized(column): column for column in columns} | {column: column for column in columns}
    found = (there.get(name, there.get(normalized(name))) for name in names)
    return tuple(dict.fromkeys(column for column in found if column is not None))


def _texts(head: Sequence[tuple[str, dict]], label: str, count: int) -> tuple[tuple[str], ...]:
    """Detect the column of the text, or the two of a pair."""
    labels = [row.get(label) for _, row in head]
    faults = {name: _not_text(name, [row.get(name) for _, row in head], labels) for name in head[0][1] if name != label}
    fit = [name for name, fault in faults.items() if not fault]
    pair, single = [column for names in (SENTENCE1, SENTENCE2) for column in _among(names, fit)[:1]], _among(TEXT, fit)
    found = pair if len(pair) == 2 and count != 1 else single[:1] if single and count != 2 else fit
    if len(found) not in ((count,) if count else (1, 2)):
        columns = listed(f"{name} ({fault})" if fault else name for name, fault in faults.items())
        raise UserError(f"{head[0][0]}: which columns hold the texts is not clear (columns there: {columns or 'none'}, "
                        f"{label}); name the text's, or the pair's two, with --columns NAME [NAME] (own.columns).")
    return tuple((name,) for name in found)


def _not_text(name: str, values: Sequence[Any], labels: Sequence[Any]) -> str:
    """The reason why a column cannot hold texts; '' if it can."""
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    words = [re.findall(r"[^\W\d_]+", text.casefold()) for text in texts]
    digits = all(re.search(r"\d", text) for text in texts)
    if _NUMBERED.fullmatch(normalized(name)):
        return "row numbers"
    if not any(words):
        return "numbers" if texts else "no text"
    if digits and all(map(_DATES.issuperset, words)):
        return "dates"
    if digits and not any(re.search(r"\s", text.strip()) for text in texts):
        return "identifiers"
    pairs = {(str(value), str(label)) for value, label in zip(values, labels, strict=True)}
    kinds, classes = (len(set(side)) for side in zip(*pairs, strict=True))
    if kinds == 1 < len(values):
        return "the same in every row"
    # A text contains more than the label: few rows share a text, whereas many rows share a label.
    if (len(pairs) == classes and 2 * classes <= len(values)) or (len(pairs) == kinds and 4 * kinds <= len(values)):
        return "says the label"
    return ""


class Labelled(NamedTuple):
    """(location, texts, label as spelled) of labelled rows; ``names`` are the class names of integer labels."""

    layout: Layout
    names: tuple[str, ...]
    rows: list[tuple[str, tuple[str, ...], str]]


def labelled(table: Records, wanted: Layout, labels: Sequence[str] = (), *, needed: bool = True, quiet: bool = False
             ) -> Labelled:
    """Read the labelled rows of a file, and log the number of omitted rows.

    Args:
      table: the file.
      wanted: its columns, for :func:`resolve`.
      labels: class names for the integers of a preset.
      needed: raise an error if no row is labelled.
      quiet: do not log.

    Raises:
      UserError: a column is ambiguous, a row is broken, or no row has a label.
    """
    table, layout = resolve(table, wanted)
    names = next(filter(None, map(table.classes.get, layout.label)), tuple(labels) if layout.preset else ())
    rows, total, empty = [], 0, 0
    for location, row in table.rows:
        total += 1
        if label := _field(location, row, layout.label, functools.partial(_spelled, names)):
            texts = tuple(_field(location, row, columns, _text) for columns in layout.texts)
            if "" in texts and not layout.preset:
                column = layout.texts[texts.index("")][0]
                raise UserError(f"{location}: field '{column}' is empty; fill it in or drop the row.")
            empty += "" in texts
            rows.append((location, texts, label))
    if needed and not rows:
        fault = f"none of its {total} rows has a label in {shown(layout.label[0])}; add labels, or leave the file out"
        raise UserError(f"{table.origin}: {fault if total else 'holds no row of examples under a header; add some'}.")
    for count, what in ((total - len(rows), "have no label and are left out"), (empty, "have an empty text")):
        if count and not quiet:
            log.warning("%s: %d of %d rows %s.", table.origin, count, total, what)
    return Labelled(layout, names, rows)


def _field(location: str, row: dict, columns: Sequence[str], read: Callable[[str, str, Any], str]) -> str:
    """The value of a row's columns, which must agree, converted by ``read``."""
    if missing := [column for column in columns if column not in row]:
        raise UserError(f"{location}: no field {shown(missing[0])} (fields there: {listed(row)}); add it.")
    values = [read(location, column, row[column]) for column in columns]
    for column, value in zip(columns[1:], values[1:], strict=True):
        if normalized(value) != normalized(values[0]):
            raise UserError(f"{location}: fields '{columns[0]}' and '{column}' disagree ({shown(values[0])} and "
                            f"{shown(value)}); keep one of them.")
    return values[0]


def _text(location: str, column: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(f"{location}: field '{column}' is {shown(value)}; it must be text.")
    return value.strip()


def _spelled(names: Sequence[str], location: str, column: str, value: Any) -> str:
    """A label as a class name; integers are replaced by their names, if any; '' if there is no label."""
    if not isinstance(value, str | int | float | None):
        raise UserError(f"{location}: field '{column}' is {shown(value)}; it must be text or a number.")
    text = "" if value is None or value != value else " ".join(unicodedata.normalize("NFC", str(value)).split())
    if (whole := _WHOLE.fullmatch(text)) and text not in names:
        return names[int(whole[1])] if int(whole[1]) < len(names) else whole[1]
    return "" if text in ("-1", "-1.0", "-") else text


def classified(found: Labelled, task: Task) -> list[tuple[str, Example]]:
    """(location, example) of every labelled row; raises :class:`UserError` if a label is not a class of the task."""
    spelling = {normalized(label): label for label in task.labels}
    for location, _, label in found.rows:
        if normalized(label) not in spelling:
            way_out = "write its position from 0" if found.layout.preset else "set own.labels"
            raise UserError(f"{location}: label {shown(label)} is not a class of {task.name}; the classes are "
                            f"{listed(task.labels)}: rename it there, or {way_out}.")
    return [(location, Example(*["", *texts][-2:], spelling[normalized(label)]))
            for location, texts, label in found.rows]


def read_examples(path: str | pathlib.Path, task: Task, wanted: Layout | None = None) -> list[Example]:
    """Read a file of labelled examples; ``wanted`` are its columns, by default the preset.

    Raises:
      UserError: the file is missing or of unknown type, has no label, a column is ambiguous, or a row is broken; the
        message names file and line.
    """
    wanted = wanted or preset(task)
    found = labelled(records(path, quotes=wanted.preset), wanted, task.labels)
    log.info("%s: %s.", path, found.layout)
    return [example for _, example in classified(found, task)]


def load_pools(task: Task, root: str, needed: Collection[str] = ()) -> Pools:
    """Read the splits of ``task``.

    Args:
      task: its ``data_folder`` is a subfolder of ``root``.
      root: a folder, or a name of Hugging Face ``datasets``: 'hub:NAME', 'hub:NAME/CONFIG' or
        'hub:NAME/CONFIG@REVISION'; 'hub:' alone is the usual data set of each of the paper's tasks.
      needed: splits that must exist; by default train and the task's test split.

    Raises:
      UserError: a split, field or label is missing or unknown, or a row is broken.
    """
    needed, source = needed or ("train", task.test_split), root
    if not root:
        raise UserError(f"data.root is empty, and {task.name} is not a task of the embedded mini world: set data.root "
                        f"to a folder that holds {task.data_folder}/train.jsonl, or to 'hub:'.")
    if not root.startswith("hub:"):
        source = os.path.join(root, task.data_folder)
        if not os.path.isdir(source):
            raise UserError(f"{source}: no such folder; data.root must hold {task.data_folder}/train.jsonl (or .csv, "
                            f".tsv, .parquet) and {task.data_folder}/{task.test_split}.jsonl.")
    tables = splits(source, "data.root", task.name, needed, usual=HUB.get(task.name, ""), quotes=True)
    found = {split: labelled(table, preset(task), task.labels, needed=split in needed)
             for split, table in tables.items()}
    pools = [[example for _, example in classified(found[split], task)] if split in found else [] for split in SPLITS]
    columns = str(next(found[split].layout for split in needed))
    log.info("%s: %s.", source, columns)
    return Pools(*pools, "hub:" + HUB[task.name] if root == "hub:" else root, columns)


def read_texts(path: str | pathlib.Path, task: Task, columns: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Read texts to classify from a file; labels are not needed and not read.

    Raises:
      UserError: see :func:`read_examples`.
    """
    wanted = preset(task).named(columns)._replace(label=(), hint="name the columns with --columns")
    table, layout = resolve(records(path, quotes=True), wanted)
    log.info("%s: %s.", path, layout)
    return [tuple(_field(location, row, names, _text) for names in layout.texts) for location, row in table.rows]
