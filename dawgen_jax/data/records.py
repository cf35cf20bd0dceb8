"""One reader for labelled and unlabelled rows: files (.csv, .tsv, .jsonl, .parquet), folders, and data sets of the hub.

:func:`records` and :func:`splits` give every row as a dictionary, with the place that messages name; what the columns
mean is decided by :mod:`dawgen_jax.data.pools`.
"""

from __future__ import annotations

import csv
import logging
import os
import pathlib
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dawgen_jax.config import shown
from dawgen_jax.errors import UserError
from dawgen_jax.io.lines import json_lines, text_lines
from dawgen_jax.io.strict_json import parse_json
from dawgen_jax.io.terminal import printable

__all__ = ["SPLITS", "Records", "listed", "normalized", "records", "splits"]

log = logging.getLogger(__name__)
SPLITS = {
    "train": ("train",),
    "validation": ("validation", "validation_matched", "dev", "dev_matched"),
    "test": ("test",),
}
SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
"""A whole value in quotes, as spreadsheets write it; 2 % of MRPC's pairs look like that too."""


class Records(NamedTuple):
    """The rows of a file or of one split of a data set.

    Attributes:
      origin: the file, or the data set and its split, as messages name it.
      rows: (place, fields) of each row, read on demand and only once.
      classes: the names that the integers of a column stand for, where the file stores them.
    """

    origin: str
    rows: Iterator[tuple[str, dict[str, Any]]]
    classes: Mapping[str, tuple[str, ...]]


def normalized(text: str) -> str:
    r"""Text as it is compared: NFC, without case, and with single spaces.

    >>> normalized(" Cafe\u0301  NOIR") == normalized("caf\xe9 noir")
    True
    """
    # Case folding can undo the composition, so that it is composed again.
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(folded.split())


def listed(names: Iterable[Any]) -> str:
    """Names from a file, as an error lists them: shortened to 200 characters.

    >>> listed(["text", "label"])
    'text, label'
    """
    text = printable(", ".join(map(str, names)))
    return text if len(text) <= 200 else f"{text[:200]}..."


def records(path: str | pathlib.Path, *, quotes: bool = False) -> Records:
    """The rows of a file.

    Args:
      path: a .jsonl, .csv or .tsv file, perhaps with .gz after it, or a .parquet file.
      quotes: a .tsv file may hold values such as '"a ""b"" c"', which are read as they stand. GLUE's QQP has some; in
        other files they come from a spreadsheet and are refused.

    Raises:
      UserError: the file is missing or of another kind, or a row is broken; the message names file and line. Except
        for the kind and for .parquet files, raised when the rows are read.
    """
    path = pathlib.Path(path)
    kind = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if kind not in SUFFIXES:
        raise UserError(f"{path}: unknown kind of file; known are {', '.join(SUFFIXES)}.")
    if kind == ".parquet":
        return _parquet(path)
    numbered = json_lines(path) if kind.startswith(".jsonl") else _separated(path, quotes)
    return Records(str(path), ((f"{path}:{line}", row) for line, row in numbered), {})


def splits(source: str, field: str, name: str, *, usual: str = "", quotes: bool = False) -> dict[str, Records]:
    """The splits of a folder or of a data set of the hub, by the names of ``SPLITS``.

    Args:
      source: a folder with {train,validation,test}.{jsonl,csv,tsv,parquet} or with a Hugging Face data set; or
        'hub:NAME[/CONFIG][@REVISION]'.
      field: the config field that holds ``source``, for messages.
      name: the task's name; the config of a data set named 'glue'.
      usual: what 'hub:' alone stands for.
      quotes: as for :func:`records`.

    Raises:
      UserError: there is no such data set, or a split has two files.
    """
    if source.startswith("hub:"):
        return _named(*_hub(source, field, name, usual))
    folder = pathlib.Path(source)
    files = {split: [path for alias in aliases for suffix in SUFFIXES if (path := folder / (alias + suffix)).is_file()]
             for split, aliases in SPLITS.items()}
    for split, found in files.items():
        if len(found) > 1:
            raise UserError(f"{folder}: {' and '.join(path.name for path in found)} are both the {split} split; keep "
                            "one.")
    found = {split: records(*paths, quotes=quotes) for split, paths in files.items() if paths}
    return found or _named(str(folder), _folder(folder, field))


def _named(origin: str, loaded: Mapping[str, Any]) -> dict[str, Records]:
    """The splits of a data set of ``datasets``."""
    found = {}
    for split, aliases in SPLITS.items():
        if alias := next((alias for alias in aliases if alias in loaded), None):
            place, rows = f"{origin} {split}", loaded[alias]
            numbered = ((f"{place}, row {number}", row) for number, row in enumerate(rows, 1))
            classes = {column: tuple(names) for column, kind in rows.features.items()
                       if (names := getattr(kind, "names", None))}
            found[split] = Records(place, numbered, classes)
    if unused := set(loaded) - {alias for aliases in SPLITS.values() for alias in aliases}:
        log.info("%s: the splits %s are not used.", origin, ", ".join(sorted(unused)))
    return found


def _hub(source: str, field: str, task_name: str, usual: str) -> tuple[str, Mapping[str, Any]]:
    """A data set of the hub: its name for messages, and its splits."""
    import datasets

    text = source.removeprefix("hub:") or usual
    if not text:
        raise UserError(f"{field} = 'hub:' knows no name for {task_name}; write 'hub:NAME' or 'hub:NAME/CONFIG'.")
    text, _, revision = text.partition("@")
    parts = text.split("/")
    # A single word as in 'glue/mrpc' is the hub's old style; today's names start with an organisation.
    size = 1 if len(parts) == 1 or parts[0] in ("glue", "snli", "sick", "multi_nli") else 2
    name, config = "/".join(parts[:size]), "/".join(parts[size:]) or None
    if config is None and name.rpartition("/")[2] == "glue":
        config = task_name.lower()
    try:
        loaded = datasets.load_dataset(name, config, revision=revision or None)
    except Exception as error:  # the hub's client raises many kinds, all about the name or the network
        raise UserError(f"{field} = '{source}': the hub did not give {name} ({_reason(error)}); check the name and the "
                        "network, or name a local file or folder there.") from None
    return f"hub:{name}{'/' + config if config else ''}", loaded


def _folder(path: pathlib.Path, field: str) -> Mapping[str, Any]:
    """The splits of a Hugging Face data set in a folder, as ``save_to_disk`` or the hub lays it out."""
    import datasets

    datasets.disable_progress_bars()  # they last seconds, and --quiet does not reach them
    with tempfile.TemporaryDirectory() as scratch:
        options, folder = {}, os.path.abspath(path)
        if re.search(r"[^\w./ -]", str(path.resolve())):
            # `datasets` reads its own paths as patterns: '[16-shot]' matches nothing, 'a*b' other folders as well. A
            # copy made of links has a plain name; its cache goes with it, so the rows are kept in memory.
            folder = shutil.copytree(folder, os.path.join(scratch, "data"), copy_function=_link)
            options = {"keep_in_memory": True}
        try:
            if {"dataset_dict.json", "state.json"} & set(os.listdir(folder)):
                loaded = datasets.load_from_disk(folder, **options)
            else:
                cache = os.path.join(scratch, "cache") if options else None
                loaded = datasets.load_dataset(folder, cache_dir=cache, **options)
        except Exception as error:  # of many kinds, all about the files
            raise UserError(f"{field} = '{path}': neither train.csv (or .tsv, .jsonl, .parquet) nor a data set that can "
                            f"be read is there ({_reason(error)}).") from None
    return loaded if isinstance(loaded, Mapping) else {"train": loaded}


def _link(source: str, target: str) -> None:
    os.symlink(os.path.abspath(source), target)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _separated(path: pathlib.Path, quotes: bool) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, fields) of comma-separated values with quotes, or of tab-separated values without (as in GLUE)."""
    csv.field_size_limit(2**31 - 1)  # texts are longer than the default of 131,072 characters
    tabs = ".tsv" in path.suffixes
    reader = csv.reader((text for _, text in text_lines(path)), delimiter="\t" if tabs else ",",
                        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL, strict=True)
    rows, quoted = 0, []  # the lines of rows with a value in quotes
    try:
        header = next(reader, [])
        if twice := next((name for name in header if name and header.count(name) > 1), ""):
            raise UserError(f"{path}:1: the header names {shown(twice)} twice; rename or drop a column.")
        for values in filter(None, reader):
            line = reader.line_num
            if len(values) != len(header):
                raise UserError(f"{path}:{line}: {len(values)} values, but the header names {len(header)}; mend the "
                                "line.")
            in_quotes = [value for value in values if tabs and _QUOTED.fullmatch(value)]
            if not quotes and any('""' in value[1:-1] for value in in_quotes):
                raise UserError(f"{path}:{line}: a value is in quotes and has doubled quotes inside, but .tsv files "
                                "are read without quoting; save the file as .csv, or drop the quotes.")
            rows += 1
            quoted += [line] * bool(in_quotes)
            yield line, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}; mend the line (a stray quote, perhaps).") from None
    if 2 * len(quoted) > rows > 1:
        raise UserError(f"{path}:{quoted[0]}: {len(quoted)} of {rows} rows have a value in quotes, but .tsv files are "
                        "read without quoting; save the file as .csv, or drop the quotes.")
    if quoted:
        log.warning("%s:%d: %d of %d rows have a value in quotes, which belong to the text in a .tsv file; save it as "
                    ".csv if they do not.", path, quoted[0], len(quoted), rows)


def _parquet(path: pathlib.Path) -> Records:
    """Rows of a parquet file, and the class names that ``datasets`` stores in its metadata."""
    import pyarrow
    import pyarrow.parquet

    def unreadable(error: Exception) -> UserError:
        return UserError(f"{path}: not a parquet file that can be read ({_reason(error)}).")

    broken = (pyarrow.ArrowException, OSError, ValueError, OverflowError)  # ValueError: text that is not UTF-8
    try:
        file = pyarrow.parquet.ParquetFile(path)
        metadata = (file.schema_arrow.metadata or {}).get(b"huggingface")
    except broken as error:
        raise unreadable(error) from None

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        number = 0
        try:
            for batch in file.iter_batches(1000):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
        except broken as error:
            raise unreadable(error) from None

    return Records(str(path), rows(), _classes(path, metadata))


def _classes(path: pathlib.Path, metadata: bytes | None) -> dict[str, tuple[str, ...]]:
    try:
        features = parse_json(metadata.decode())["info"]["features"] if metadata else {}
        classes = {column: kind["names"] for column, kind in features.items() if "names" in kind}
        ok = all(isinstance(names, list) and all(isinstance(name, str) for name in names)
                 and len(set(names)) == len(names) for names in classes.values())
    except (ValueError, TypeError, LookupError, AttributeError):
        classes, ok = {}, False
    if not ok:
        raise UserError(f"{path}: its metadata 'huggingface' cannot be read, which says what integer labels stand for; "
                        "write the file again, or without that metadata.")
    return {column: tuple(names) for column, names in classes.items()}
