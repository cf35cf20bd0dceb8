"""One reader of rows for files (.csv, .tsv, .jsonl, .parquet), folders, and data sets of the Hugging Face hub.

:func:`records` and :func:`splits` return every row as a dictionary together with its location, for messages;
:mod:`dawgen_jax.data.pools` interprets the columns.
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
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dawgen_jax.config import shown
from dawgen_jax.errors import UserError, first_line
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
"""A whole value in quotes, as spreadsheets write it; 2 % of MRPC's pairs also look like this."""


class Records(NamedTuple):
    """The rows of a file or of one split of a data set.

    Attributes:
      origin: name of the file, or of the data set and its split, for messages.
      rows: (location, fields) of each row; an iterator that can be used once.
      classes: the class names of a column's integers, if the file stores them.
    """

    origin: str
    rows: Iterator[tuple[str, dict[str, Any]]]
    classes: Mapping[str, tuple[str, ...]]


def normalized(text: str) -> str:
    r"""Text in the form in which texts are compared: NFC, without case, with single spaces.

    >>> normalized(" Cafe\u0301  NOIR") == normalized("caf\xe9 noir")
    True
    """
    # Case folding can undo the composition, so the text is composed again.
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(folded.split())


def listed(names: Iterable[Any]) -> str:
    """Names from a file, for an error: a list shortened to 200 characters."""
    text = printable(", ".join(map(str, names)))
    return text if len(text) <= 200 else f"{text[:200]}..."


def records(path: str | pathlib.Path, *, quotes: bool = False) -> Records:
    """The rows of a file.

    Args:
      path: a .jsonl, .csv or .tsv file, optionally followed by .gz, or a .parquet file.
      quotes: accept values of a .tsv file such as '"a ""b"" c"' unchanged. GLUE's QQP has some; in other files they
        come from a spreadsheet, and raise an error.

    Raises:
      UserError: the file is missing or of unknown type, or a row is broken (raised on reading); names file and line.
    """
    path = pathlib.Path(path)
    kind = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if kind not in SUFFIXES:
        raise UserError(f"{path}: unknown type of file; known are {', '.join(SUFFIXES)}.")
    if kind == ".parquet":
        return _parquet(path)
    numbered = json_lines(path) if kind.startswith(".jsonl") else _separated(path, quotes)
    return Records(str(path), ((f"{path}:{line}", row) for line, row in numbered), {})


def splits(source: str, field: str, name: str, needed: Collection[str] = ("train",), *, usual: str = "",
           quotes: bool = False) -> dict[str, Records]:
    """The splits of a folder or of a data set of the hub, by the names in ``SPLITS``.

    Args:
      source: a folder with {train,validation,test}.{jsonl,csv,tsv,parquet} or with a Hugging Face data set; or
        'hub:NAME[/CONFIG][@REVISION]'.
      field: the config field that holds ``source``, for messages.
      name: name of the task, and of the config in a data set named 'glue'.
      needed: splits that must exist.
      usual: data set for 'hub:' without a name.
      quotes: see :func:`records`.

    Raises:
      UserError: the data set is unknown, or a split is missing or has two files.
    """
    folder, found = pathlib.Path(source), {}
    for split, aliases in SPLITS.items():
        files = [path for alias in aliases for suffix in SUFFIXES if (path := folder / (alias + suffix)).is_file()]
        if files[1:]:
            raise UserError(f"{folder}: {' and '.join(path.name for path in files)} are both the {split} split; keep "
                            "one.")
        if files:
            found[split] = records(files[0], quotes=quotes)
    if not found:
        found = _loaded(*(_hub(source, field, name, usual) if source.startswith("hub:") else _folder(folder, field)))
    if missing := [split for split in needed if split not in found]:
        raise UserError(f"{field} = '{source}': no {missing[0]} split (but: {', '.join(found) or 'none'}); add "
                        f"{missing[0]}.jsonl (or .csv, .tsv, .parquet).")
    return found


def _loaded(origin: str, loaded: Mapping[str, Any]) -> dict[str, Records]:
    """The rows of a data set of ``datasets``."""
    found = {}
    for split, aliases in SPLITS.items():
        if alias := next((alias for alias in aliases if alias in loaded), ""):
            location, rows = f"{origin} {split}", loaded[alias]
            classes = {column: tuple(getattr(kind, "names", None) or ()) for column, kind in rows.features.items()}
            found[split] = Records(location, ((f"{location}, row {i}", row) for i, row in enumerate(rows, 1)), classes)
    if unused := set(loaded).difference(*SPLITS.values()):
        log.info("%s: splits that are not used: %s.", origin, listed(sorted(unused)))
    return found


def _hub(source: str, field: str, task_name: str, usual: str) -> tuple[str, Mapping[str, Any]]:
    """Load a data set of the hub: its name for messages, and its splits."""
    import datasets

    text, _, revision = (source.removeprefix("hub:") or usual).partition("@")
    if not text:
        raise UserError(f"{field} = 'hub:' has no default for {task_name}; write 'hub:NAME' or 'hub:NAME/CONFIG'.")
    parts = text.split("/")
    # A single word, as in 'glue/mrpc', is the hub's old style; current names start with an organisation.
    size = 1 if len(parts) == 1 or parts[0] in ("glue", "snli", "sick", "multi_nli") else 2
    name, config = "/".join(parts[:size]), "/".join(parts[size:])
    config = config or (task_name.lower() if parts[size - 1] == "glue" else "")
    try:
        loaded = datasets.load_dataset(name, config or None, revision=revision or None)
    except Exception as error:  # the hub's client raises many types, all caused by the name or the network
        raise UserError(f"{field} = '{source}': the hub did not give {name} ({first_line(error)}); check the name "
                        "and the network, or name a local file or folder there.") from None
    return f"hub:{name}{'/' + config if config else ''}", loaded


def _folder(path: pathlib.Path, field: str) -> tuple[str, Mapping[str, Any]]:
    """Load a data set in a folder, in the layout of ``save_to_disk`` or of the hub."""
    import datasets

    datasets.disable_progress_bars()  # loading takes seconds, and --quiet does not affect them
    with tempfile.TemporaryDirectory() as scratch:
        folder, cache = os.path.abspath(path), None
        if re.search(r"[^\w./ -]", str(path.resolve())):
            # `datasets` reads paths as patterns: '[16-shot]' matches nothing, 'a*b' also matches other folders. A
            # temporary folder of links has a plain name; its cache is temporary too, so rows are kept in memory.
            folder, cache = shutil.copytree(folder, f"{scratch}/data", copy_function=os.symlink), f"{scratch}/cache"
        try:
            if {"dataset_dict.json", "state.json"} & set(os.listdir(folder)):
                loaded = datasets.load_from_disk(folder, keep_in_memory=bool(cache))
            else:
                loaded = datasets.load_dataset(folder, cache_dir=cache, keep_in_memory=bool(cache))
        except Exception as error:  # many types, all caused by the files
            raise UserError(f"{field} = '{path}': neither train.csv (or .tsv, .jsonl, .parquet) nor a data set that "
                            f"can be read is there ({first_line(error)}).") from None
    return str(path), loaded if isinstance(loaded, Mapping) else {"train": loaded}


def _separated(path: pathlib.Path, quotes: bool) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, fields) of comma-separated values with quotes, or of tab-separated values without (as in GLUE)."""
    csv.field_size_limit(2**31 - 1)  # texts can exceed the default of 131,072 characters
    tabs = ".tsv" in path.suffixes
    reader = csv.reader((text for _, text in text_lines(path)), delimiter="\t" if tabs else ",", strict=True,
                        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL)
    rows, quoted, way_out = 0, [], "but .tsv files are read without quoting; save the file as .csv, or drop the quotes"
    try:
        header = next(reader, [])
        if twice := next((name for name in header if name and header.count(name) > 1), ""):
            raise UserError(f"{path}:1: the header names {shown(twice)} twice; rename or drop a column.")
        for values in filter(None, reader):
            location = f"{path}:{reader.line_num}"
            if len(values) != len(header):
                raise UserError(f"{location}: {len(values)} values, but the header names {len(header)}; fix the line.")
            in_quotes = [value for value in values if tabs and _QUOTED.fullmatch(value)]
            if not quotes and any('""' in value[1:-1] for value in in_quotes):
                raise UserError(f"{location}: a value is in quotes and has doubled quotes inside, {way_out}.")
            rows += 1
            quoted += [location] * bool(in_quotes)
            yield reader.line_num, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}; fix the line (a stray quote, perhaps).") from None
    if 2 * len(quoted) > rows > 1:
        raise UserError(f"{quoted[0]}: {len(quoted)} of {rows} rows have a value in quotes, {way_out}.")
    if quoted:
        log.warning("%s: %d of %d rows have a value in quotes, which belong to the text in a .tsv file; save it as "
                    ".csv if they do not.", quoted[0], len(quoted), rows)


def _parquet(path: pathlib.Path) -> Records:
    """Rows of a parquet file, and the class names that ``datasets`` stores in its metadata."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path).read()
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # ValueError: text not in UTF-8
        raise UserError(f"{path}: not a parquet file that can be read ({first_line(error)}).") from None
    classes = _classes(path, (table.schema.metadata or {}).get(b"huggingface"))
    return Records(str(path), ((f"{path}, row {i}", row) for i, row in enumerate(rows, 1)), classes)


def _classes(path: pathlib.Path, metadata: bytes | None) -> dict[str, tuple[str, ...]]:
    try:
        features = parse_json(metadata.decode())["info"]["features"] if metadata else {}
        classes = {column: kind["names"] for column, kind in features.items() if "names" in kind}
        if all(isinstance(names, list) and len({*map(str.strip, names)}) == len(names) for names in classes.values()):
            return {column: tuple(names) for column, names in classes.items()}
    except (ValueError, TypeError, LookupError, AttributeError):
        pass
    raise UserError(f"{path}: cannot read the names of integer labels in its metadata 'huggingface'; write the file "
                    "again, or without that metadata.")
