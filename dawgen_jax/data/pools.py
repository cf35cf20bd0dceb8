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
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from dawgen_jax.config import UserError, shown
from dawgen_jax.io.lines import json_lines, text_lines
from dawgen_jax.io.strict_json import parse_json
from dawgen_jax.io.terminal import printable
from dawgen_jax.tasks import Task

__all__ = ["Example", "Pools", "load_pools", "read_examples"]

log = logging.getLogger(__name__)
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
    """A labelled pair; ``label`` is a class name."""

    sentence1: str
    sentence2: str
    label: str


class Pools(NamedTuple):
    """The splits of one task; a split that the source lacks is empty, train and the task's test split never are."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    source: str

    def scored(self, task: Task) -> list[Example]:
        """The split that results are reported on: ``task.test_split``."""
        return getattr(self, task.test_split)


def load_pools(task: Task, root: str) -> Pools:
    """Reads the splits of ``task``.

    Args:
      task: its name is the folder's name below ``root``.
      root: a folder; or 'hub:NAME', 'hub:NAME/CONFIG', 'hub:NAME/CONFIG@REVISION' for a name of Hugging Face
        ``datasets``; 'hub:' alone is the usual name of each of the paper's tasks.

    Raises:
      UserError: a split, field or label is missing or unknown, or a line is broken.
    """
    if root.startswith("hub:"):
        return _load_hub(task, root)
    if not root:
        raise UserError(f"data.root is empty, and {task.name} is no task of the embedded mini world: set data.root to "
                        f"a folder that holds {task.name}/train.jsonl, or to 'hub:'.")
    folder = pathlib.Path(root) / task.name
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder; data.root must hold {task.name}/train.jsonl (or .csv, .tsv, "
                        f".parquet) and {task.name}/{task.test_split}.jsonl.")
    splits = {split: _read_split_file(folder, split, names, task) for split, names in SPLITS.items()}
    return Pools(**splits, source=root)


def _read_split_file(folder: pathlib.Path, split: str, names: tuple[str, ...], task: Task) -> list[Example]:
    found = [path for name in names for suffix in SUFFIXES if (path := folder / (name + suffix)).is_file()]
    if len(found) > 1:
        raise UserError(f"{folder}: {' and '.join(path.name for path in found)} are both the {split} split; keep one.")
    if not found:
        if split in ("train", task.test_split):
            raise UserError(f"{folder}: no {split} split; add {split}.jsonl (or .csv, .tsv, .parquet).")
        return []
    return _not_empty(read_examples(found[0], task), str(found[0]), split, task)


def read_examples(path: str | pathlib.Path, task: Task) -> list[Example]:
    """Reads one file of labelled pairs.

    Args:
      path: a .jsonl, .csv, .tsv (the first two and this also .gz) or .parquet file.
      task: whose labels the file must hold.

    Raises:
      UserError: the file is missing or of another kind, or a line is broken; the message names file and line.
    """
    path = pathlib.Path(path)
    kind = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if kind not in SUFFIXES:
        raise UserError(f"{path}: unknown kind of file; known are {', '.join(SUFFIXES)}.")
    if kind == ".parquet":
        rows, names = _parquet_rows(path)
    else:
        numbered = json_lines(path) if kind.startswith(".jsonl") else _separated(path)
        rows, names = ((f"{path}:{line}", row) for line, row in numbered), ()
    return _examples(rows, task, names)


def _examples(rows: Iterator[tuple[str, dict]], task: Task, names: tuple[str, ...] = ()) -> list[Example]:
    """The labelled ones of ``rows`` (place, fields); ``names`` are what integer labels stand for in the source."""
    examples = []
    for place, row in rows:
        label = _field(place, row, LABEL, lambda field, place=place, row=row: _label(place, row[field], task, names))
        if label is not None:
            sentences = [_field(place, row, fields, lambda field, place=place, row=row: _text(place, row[field], field))
                         for fields in (SENTENCE1, SENTENCE2)]
            examples.append(Example(*sentences, label))
    return examples


def _field(place: str, row: dict, fields: tuple[str, ...], read: Callable[[str], Any]) -> Any:
    """What ``read`` makes of the field that is there; where there are several, they must agree."""
    there = [field for field in fields if field in row]
    if not there:
        known = printable(", ".join(map(str, row)))[:200]
        raise UserError(f"{place}: no field '{fields[0]}' (fields there: {known}); it may also be named "
                        f"{', '.join(fields[1:])}.")
    values = [read(field) for field in there]
    for field, value in zip(there, values, strict=True):
        if value != values[0]:
            raise UserError(f"{place}: fields '{there[0]}' and '{field}' disagree ({shown(values[0])} and "
                            f"{shown(value)}); keep one of them.")
    return values[0]


def _text(place: str, value: Any, field: str) -> str:
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


def _not_empty(examples: list[Example], place: str, split: str, task: Task) -> list[Example]:
    if not examples and split in ("train", task.test_split):
        raise UserError(f"{place}: no labelled pair of {task.name} in the {split} split; "
                        "give a file with sentence1, sentence2 and label.")
    return examples


_QUOTED = re.compile(r'"(?:[^"]|"")*"')
"""A whole value in quotes, as programs write it that quote."""


def _separated(path: pathlib.Path) -> Iterator[tuple[int, dict]]:
    """(line number, fields) of comma-separated values with quotes, or of tab-separated ones without (GLUE's habit)."""
    lines = (text for _, text in text_lines(path))
    tabs = ".tsv" in path.suffixes
    reader = csv.reader(lines, delimiter="\t" if tabs else ",", quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
                        strict=True)
    header: list[str] | None = None
    quoted = rows = 0
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
                rows, quoted = rows + 1, quoted + (tabs and any(map(_QUOTED.fullmatch, values)))
                yield reader.line_num, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}; mend the line (a stray quote, perhaps).") from None
    if quoted == rows > 1:
        raise UserError(f"{path}: every row has values in quotes, which .tsv files are read without; drop the quotes, "
                        "or save the file as .csv.")
    if quoted:
        log.warning("%s: %d of %d rows have a value in quotes, which belong to the text in a .tsv file; save it as "
                    ".csv if they do not.", path, quoted, rows)


def _parquet_rows(path: pathlib.Path) -> tuple[Iterator[tuple[str, dict]], tuple[str, ...]]:
    """(file, row number, fields), and the class names that ``datasets`` keeps beside integer labels."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        rows = table.select([name for name in table.column_names if name in SENTENCE1 + SENTENCE2 + LABEL]).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # ValueError: text that is not UTF-8
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a parquet file that can be read ({reason}).") from None
    names = _class_names(path, (table.schema.metadata or {}).get(b"huggingface"))
    return ((f"{path}, row {number}", row) for number, row in enumerate(rows, 1)), names


def _class_names(path: pathlib.Path, notes: bytes | None) -> tuple[str, ...]:
    """The class names in the notes of ``datasets``; none where the label is no class there."""
    try:
        features = parse_json(notes.decode())["info"]["features"] if notes else {}
        names = next((features[field]["names"] for field in LABEL if "names" in features.get(field, {})), [])
        ok = isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    except (ValueError, TypeError, LookupError, AttributeError):
        ok = False
    if not ok:
        raise UserError(f"{path}: its metadata 'huggingface' cannot be read, which says what integer labels stand for; "
                        "write the file again, or without that metadata.")
    return tuple(names)


def _hub_name(task: Task, root: str) -> tuple[str, str | None, str | None]:
    """(name, config, revision) of 'hub:NAME[/CONFIG][@REVISION]'; NAME is ORGANISATION/NAME or one word."""
    text = root.removeprefix("hub:") or HUB.get(task.name, "")
    if not text:
        raise UserError(f"data.root = 'hub:' knows no name for {task.name}; write 'hub:NAME' or 'hub:NAME/CONFIG'.")
    text, _, revision = text.partition("@")
    parts = text.split("/")
    # One word as in 'glue/mrpc' is the hub's old style; today's names have an organisation in front.
    size = 1 if len(parts) == 1 or parts[0] in ("glue", "snli", "sick", "multi_nli") else 2
    name, config = "/".join(parts[:size]), "/".join(parts[size:]) or None
    if config is None and name.rpartition("/")[2] == "glue":
        config = task.name.lower()
    return name, config, revision or None


def _load_hub(task: Task, root: str) -> Pools:
    import datasets

    name, config, revision = _hub_name(task, root)
    try:
        loaded = datasets.load_dataset(name, config, revision=revision)
    except Exception as error:  # the hub client raises many kinds, all of them about name or network
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"data.root = '{root}': the hub did not give {name} ({reason}); check the name and the network"
                        f", or put {task.name}/*.jsonl in a folder and name that in data.root.") from None
    splits: dict[str, list[Example]] = {}
    for split, aliases in SPLITS.items():
        found = next((alias for alias in aliases if alias in loaded), None)
        rows = loaded[found] if found else None
        place = f"hub:{name}{'/' + config if config else ''} {found or split}"
        splits[split] = _not_empty(_hub_examples(rows, place, task) if found else [], place, split, task)
    return Pools(**splits, source=root if root != "hub:" else "hub:" + HUB[task.name])


def _hub_examples(rows: Any, place: str, task: Task) -> list[Example]:
    field = next((name for name in LABEL if name in rows.column_names), LABEL[0])
    names = tuple(getattr(rows.features.get(field), "names", None) or ())
    return _examples(((f"{place}, row {number}", row) for number, row in enumerate(rows, 1)), task, names)
