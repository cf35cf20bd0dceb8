"""Pools of labelled pairs, read from a folder of files or from the Hugging Face hub.

A folder holds ``TASK/{train,validation,test}.{jsonl,csv,tsv,parquet}`` (``.gz`` after a text format). Fields are
those of the hub's GLUE, SNLI and SICK and of their original files; labels are class names, or the hub's
integers, which are positions in ``Task.labels``. Pairs without a gold label (-1 or '-') are dropped.
"""

from __future__ import annotations

import csv
import logging
import os
import pathlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dawgen_jax.config import shown
from dawgen_jax.errors import UserError
from dawgen_jax.io.lines import json_lines, text_lines
from dawgen_jax.io.strict_json import parse_json
from dawgen_jax.io.terminal import printable
from dawgen_jax.tasks import Task
from dawgen_jax.tasks.schema import PAIR

__all__ = ["Example", "Pools", "hub_splits", "listed", "load_pools", "located_examples", "named_splits",
           "read_examples", "read_texts", "rows_of", "split_file", "text_of", "texts_of"]

log = logging.getLogger(__name__)
TEXT = ("text", "sentence", "review", "content")
SENTENCE1 = ("sentence1", "premise", "question1", "question", "sentence_A", "#1 String")
SENTENCE2 = ("sentence2", "hypothesis", "question2", "sentence", "sentence_B", "#2 String")
LABEL = ("label", "gold_label", "is_duplicate", "entailment_judgment", "entailment_label", "Quality")
SPLITS = {
    "train": ("train",),
    "validation": ("validation", "validation_matched", "dev", "dev_matched"),
    "test": ("test",),
}
SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
HUB = {
    "QQP": "nyu-mll/glue/qqp", "MRPC": "nyu-mll/glue/mrpc", "MNLI": "nyu-mll/glue/mnli", "QNLI": "nyu-mll/glue/qnli",
    "RTE": "nyu-mll/glue/rte", "SNLI": "stanfordnlp/snli", "SICK": "RobZamp/sick@refs/convert/parquet",
}
"""What ``hub:`` alone stands for, task by task."""


class Example(NamedTuple):
    """A labelled pair; a single text is its ``sentence2``, and ``sentence1`` is empty. ``label`` is a class name."""

    sentence1: str
    sentence2: str
    label: str


def texts_of(task: Task, examples: Sequence[Example]) -> list[list[str]]:
    """The texts of examples, one list for each of ``task.fields``."""
    pairs = [[example.sentence1 for example in examples], [example.sentence2 for example in examples]]
    return pairs[-len(task.fields):]


class Pools(NamedTuple):
    """The splits of one task; a split that the source lacks is empty, train and the task's test split never are."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    source: str

    def scored(self, task: Task) -> list[Example]:
        """The split that results are reported on: ``task.test_split``."""
        return getattr(self, task.test_split)


def load_pools(task: Task, root: str, needed: Collection[str] = ()) -> Pools:
    """Reads the splits of ``task``.

    Args:
      task: its name is the folder's name below ``root``.
      root: a folder; or 'hub:NAME', 'hub:NAME/CONFIG', 'hub:NAME/CONFIG@REVISION' for a name of Hugging Face
        ``datasets``; 'hub:' alone is the usual name of each of the paper's tasks.
      needed: splits that must be there; by default train and the task's test split.

    Raises:
      UserError: a split, field or label is missing or unknown, or a line is broken.
    """
    needed = needed or ("train", task.test_split)
    if root.startswith("hub:"):
        return _load_hub(task, root, needed)
    if not root:
        raise UserError(f"data.root is empty, and {task.name} is no task of the embedded mini world: set data.root to "
                        f"a folder that holds {task.name}/train.jsonl, or to 'hub:'.")
    folder = pathlib.Path(root) / task.name
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder; data.root must hold {task.name}/train.jsonl (or .csv, .tsv, "
                        f".parquet) and {task.name}/{task.test_split}.jsonl.")
    splits = {split: _read_split_file(folder, split, task, needed) for split in SPLITS}
    return Pools(**splits, source=root)


def split_file(folder: pathlib.Path, split: str) -> pathlib.Path | None:
    """The file of a split in a folder, or None.

    Raises:
      UserError: there are two.
    """
    found = [path for name in SPLITS[split] for suffix in SUFFIXES if (path := folder / (name + suffix)).is_file()]
    if len(found) > 1:
        raise UserError(f"{folder}: {' and '.join(path.name for path in found)} are both the {split} split; keep one.")
    return found[0] if found else None


def _read_split_file(folder: pathlib.Path, split: str, task: Task, needed: Collection[str]) -> list[Example]:
    found = split_file(folder, split)
    if not found:
        if split in needed:
            raise UserError(f"{folder}: no {split} split; add {split}.jsonl (or .csv, .tsv, .parquet).")
        return []
    return _not_empty(read_examples(found, task), str(found), split, task, needed)


def read_examples(path: str | pathlib.Path, task: Task) -> list[Example]:
    """Reads one file of labelled pairs.

    Args:
      path: a .jsonl, .csv, .tsv (the first two and this also .gz) or .parquet file.
      task: whose labels the file must hold.

    Raises:
      UserError: the file is missing or of another kind, or a line is broken; the message names file and line.
    """
    return [example for _, example in located_examples(path, task)]


def located_examples(path: str | pathlib.Path, task: Task) -> Iterator[tuple[str, Example]]:
    """What :func:`read_examples` reads, each with its place: 'file:line'."""
    rows, names = rows_of(path)
    return _located(rows, task, names)


def read_texts(path: str | pathlib.Path, task: Task, columns: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Reads texts to be classified from one file; labels are not needed and not read.

    Args:
      path: as for :func:`read_examples`.
      task: of pairs or of single texts.
      columns: names of their fields, one or two; by default the usual ones.

    Raises:
      UserError: the file is missing or of another kind, or a line is broken; the message names file and line.
    """
    rows, _ = rows_of(path, columns or SENTENCE1 + SENTENCE2 + TEXT)
    names, way_out = [[name] for name in columns] or _columns(task), "name the columns with --columns"
    return [tuple(_texts(place, row, names, way_out)) for place, row in rows]


def rows_of(path: str | pathlib.Path, columns: Collection[str] = SENTENCE1 + SENTENCE2 + TEXT + LABEL,
            labels: tuple[str, ...] = LABEL, *, quotes: bool = True
            ) -> tuple[Iterator[tuple[str, dict]], tuple[str, ...]]:
    """The rows of a file: place ('file:line') and fields; and what integer labels stand for there, where it says so.

    Args:
      path: as for :func:`read_examples`.
      columns: those of a .parquet file that are read; empty for all.
      labels: names that its label's column may have.
      quotes: take values of a .tsv file that look as a program quotes them (in quotes, those inside doubled) for text,
        as GLUE's own QQP has them; otherwise they are refused.

    Raises:
      UserError: as :func:`read_examples`.
    """
    path = pathlib.Path(path)
    kind = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if kind not in SUFFIXES:
        raise UserError(f"{path}: unknown kind of file; known are {', '.join(SUFFIXES)}.")
    if kind == ".parquet":
        return _parquet_rows(path, columns, labels)
    numbered = json_lines(path) if kind.startswith(".jsonl") else _separated(path, quotes)
    return ((f"{path}:{line}", row) for line, row in numbered), ()


def _located(rows: Iterator[tuple[str, dict]], task: Task, names: tuple[str, ...]) -> Iterator[tuple[str, Example]]:
    """The labelled ones of ``rows`` (place, fields); ``names`` are what integer labels stand for in the source."""
    for place, row in rows:
        label = _field(place, row, LABEL, lambda field, place=place, row=row: _label(place, row[field], task, names))
        if label is not None:
            yield place, Example(*["", *_texts(place, row, _columns(task))][-2:], label)


def _columns(task: Task) -> tuple[tuple[str, ...], ...]:
    """The names that a file may have for each of the task's fields."""
    return (SENTENCE1, SENTENCE2) if task.fields == PAIR else (TEXT,)


_RENAME = "rename a column"


def _texts(place: str, row: dict, columns: Sequence[Sequence[str]], way_out: str = _RENAME) -> list[str]:
    return [_field(place, row, names, lambda field: text_of(place, row[field], field), way_out) for names in columns]


def _field(place: str, row: dict, fields: Sequence[str], read: Callable[[str], Any], way_out: str = _RENAME) -> Any:
    """What ``read`` makes of the field that is there; where there are several, they must agree."""
    there = [field for field in fields if field in row]
    if not there:
        other = f"it may also be named {', '.join(fields[1:])}; {way_out}" if fields[1:] else way_out
        raise UserError(f"{place}: no field '{fields[0]}' (fields there: {listed(row)}); {other}.")
    values = [read(field) for field in there]
    for field, value in zip(there, values, strict=True):
        if value != values[0]:
            raise UserError(f"{place}: fields '{there[0]}' and '{field}' disagree ({shown(values[0])} and "
                            f"{shown(value)}); keep one of them.")
    return values[0]


def listed(names: Iterable[Any]) -> str:
    """Names that stand in a file, as an error lists them: cut where they are long.

    >>> listed(["text", "label"])
    'text, label'
    """
    text = printable(", ".join(map(str, names)))
    return text if len(text) <= 200 else f"{text[:200]}..."


def text_of(place: str, value: Any, field: str) -> str:
    """A field's value without white space around it; a :class:`UserError` where it is no text."""
    if not isinstance(value, str):
        raise UserError(f"{place}: field '{field}' is {shown(value)}; it must be text.")
    return value.strip()


def _label(place: str, value: Any, task: Task, names: tuple[str, ...]) -> str | None:
    text = str(value).strip()
    if text in ("-1", "-"):
        return None
    position = re.fullmatch(r"([0-9]{1,9})(\.0)?", text)  # ASCII alone: '\u0661' is a digit too
    if position and text not in task.labels:
        known = names or task.labels
        text = known[int(position[1])] if int(position[1]) < len(known) else text
    matches = [label for label in task.labels if label.lower() == text.lower()]
    if not matches:
        raise UserError(f"{place}: label {shown(value)} is not a class of {task.name}; the classes are "
                        f"{', '.join(task.labels)} (or their positions from 0): rename it there.")
    return matches[0]


def _not_empty(examples: list[Example], place: str, split: str, task: Task, needed: Collection[str]) -> list[Example]:
    if not examples and split in needed:
        raise UserError(f"{place}: no labelled pair of {task.name} in the {split} split; "
                        f"give a file with {', '.join(task.fields)} and label.")
    return examples


_QUOTED = re.compile(r'"(?:[^"]|"")*"')
"""A whole value in quotes, as programs write it that quote; text may be so too (2 % of MRPC's pairs)."""


def _separated(path: pathlib.Path, quotes: bool) -> Iterator[tuple[int, dict]]:
    """(line number, fields) of comma-separated values with quotes, or of tab-separated ones without (GLUE's habit)."""
    lines = (text for _, text in text_lines(path))
    tabs = ".tsv" in path.suffixes
    reader = csv.reader(lines, delimiter="\t" if tabs else ",", quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
                        strict=True)
    header: list[str] | None = None
    rows, quoted = 0, []  # the lines of rows with a value in quotes
    try:
        for values in reader:
            if header is None:
                header = values
                twice = next((name for name in header if name and header.count(name) > 1), None)
                if twice is not None:
                    raise UserError(f"{path}:1: the header names {shown(twice)} twice; rename or drop a column.")
            elif values:
                if len(values) != len(header):
                    raise UserError(f"{path}:{reader.line_num}: {len(values)} values, but the header names "
                                    f"{len(header)}; mend the line.")
                in_quotes = [value for value in values if tabs and _QUOTED.fullmatch(value)]
                if not quotes and any('""' in value[1:-1] for value in in_quotes):
                    raise UserError(f"{path}:{reader.line_num}: a value is in quotes and has doubled ones inside, but "
                                    ".tsv files are read without quoting; save the file as .csv, or drop the quotes.")
                rows += 1
                if in_quotes:
                    quoted.append(reader.line_num)
                yield reader.line_num, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}; mend the line (a stray quote, perhaps).") from None
    if 2 * len(quoted) > rows > 1:
        raise UserError(f"{path}:{quoted[0]}: {len(quoted)} of {rows} rows have a value in quotes, but .tsv files are "
                        "read without quoting; save the file as .csv, or drop the quotes.")
    if quoted:
        log.warning("%s:%d: %d of %d rows have a value in quotes, which belong to the text in a .tsv file; save it as "
                    ".csv if they do not.", path, quoted[0], len(quoted), rows)


def _parquet_rows(path: pathlib.Path, columns: Collection[str], labels: tuple[str, ...]
                  ) -> tuple[Iterator[tuple[str, dict]], tuple[str, ...]]:
    """(file, row number, fields), and the class names that ``datasets`` keeps beside integer labels."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        rows = table.select([name for name in table.column_names if name in columns or not columns]).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # ValueError: text that is not UTF-8
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a parquet file that can be read ({reason}).") from None
    names = _class_names(path, (table.schema.metadata or {}).get(b"huggingface"), labels)
    return ((f"{path}, row {number}", row) for number, row in enumerate(rows, 1)), names


def _class_names(path: pathlib.Path, notes: bytes | None, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The class names in the notes of ``datasets``; none where the label is no class there."""
    try:
        features = parse_json(notes.decode())["info"]["features"] if notes else {}
        names = next((features[field]["names"] for field in labels if "names" in features.get(field, {})), [])
        ok = isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    except (ValueError, TypeError, LookupError, AttributeError):
        ok = False
    if not ok:
        raise UserError(f"{path}: its metadata 'huggingface' cannot be read, which says what integer labels stand for; "
                        "write the file again, or without that metadata.")
    return tuple(names)


def _hub_name(task_name: str, root: str, field: str) -> tuple[str, str | None, str | None]:
    """(name, config, revision) of 'hub:NAME[/CONFIG][@REVISION]'; NAME is ORGANISATION/NAME or one word."""
    text = root.removeprefix("hub:") or HUB.get(task_name, "")
    if not text:
        raise UserError(f"{field} = 'hub:' knows no name for {task_name}; write 'hub:NAME' or 'hub:NAME/CONFIG'.")
    text, _, revision = text.partition("@")
    parts = text.split("/")
    # One word as in 'glue/mrpc' is the hub's old style; today's names have an organisation in front.
    size = 1 if len(parts) == 1 or parts[0] in ("glue", "snli", "sick", "multi_nli") else 2
    name, config = "/".join(parts[:size]), "/".join(parts[size:]) or None
    if config is None and name.rpartition("/")[2] == "glue":
        config = task_name.lower()
    return name, config, revision or None


def hub_splits(task_name: str, root: str, field: str = "data.root", instead: str = "") -> tuple[str, dict[str, Any]]:
    """A data set of the hub: its place for messages, and its splits by the names of ``SPLITS``.

    Args:
      task_name: stands for its usual name where ``root`` is 'hub:'.
      root: 'hub:NAME[/CONFIG][@REVISION]'.
      field: of the configuration that says so, for messages.
      instead: what else it may name; by default a folder with the task's files.

    Raises:
      UserError: the hub does not give it.
    """
    import datasets

    name, config, revision = _hub_name(task_name, root, field)
    try:
        loaded = datasets.load_dataset(name, config, revision=revision)
    except Exception as error:  # the hub client raises many kinds, all of them about name or network
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{field} = '{root}': the hub did not give {name} ({reason}); check the name and the network, "
                        f"or name {instead or f'a folder that holds {task_name}/*.jsonl'} there.") from None
    return f"hub:{name}{'/' + config if config else ''}", named_splits(loaded)


def named_splits(loaded: Mapping[str, Any]) -> dict[str, Any]:
    """The splits of a data set by the names of ``SPLITS``."""
    found = ((split, next((alias for alias in aliases if alias in loaded), None)) for split, aliases in SPLITS.items())
    return {split: loaded[alias] for split, alias in found if alias}


def _load_hub(task: Task, root: str, needed: Collection[str]) -> Pools:
    name, loaded = hub_splits(task.name, root)
    splits: dict[str, list[Example]] = {}
    for split in SPLITS:
        place, found = f"{name} {split}", split in loaded
        splits[split] = _not_empty(_hub_examples(loaded[split], place, task) if found else [], place, split, task,
                                   needed)
    return Pools(**splits, source=root if root != "hub:" else "hub:" + HUB[task.name])


def _hub_examples(rows: Any, place: str, task: Task) -> list[Example]:
    field = next((name for name in LABEL if name in rows.column_names), LABEL[0])
    names = tuple(getattr(rows.features.get(field), "names", None) or ())
    numbered = ((f"{place}, row {number}", row) for number, row in enumerate(rows, 1))
    return [example for _, example in _located(numbered, task, names)]
