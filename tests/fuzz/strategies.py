"""What the properties are run on: values of wrong types and odd texts, and files that are damaged byte by byte."""

import gzip
import io
import json
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pyarrow
import pyarrow.parquet
from hypothesis import strategies as st
from safetensors.numpy import save

ODD_TEXT = st.sampled_from([
    "", " ", "-1", "-", "0", "1", "1.0", "\u0661", "\uff11", "true", "false", "False", "null", "nan", "inf", "1e400",
    "1" * 5000, "x" * 300, "../x", "/", ".", "a\nb", "a\rb", "a\0b", "\x1b[31m", "\ud800", "\u202e", "|", "\"a\"",
    "entailment", "not_entailment", "Entailment ", "full", "accuracy"])
"""Texts that something takes for something else."""
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 5), st.floats(), ODD_TEXT, st.text(max_size=8),
                    st.sampled_from([2**31, 2**32, 2**64, 10**400, -(10**400), 1e308, -0.0]))
VALUES = st.recursive(SCALARS, lambda part: st.lists(part, max_size=3) | st.dictionaries(
    st.text(max_size=3) | ODD_TEXT, part, max_size=3), max_leaves=4)
"""JSON values of any type."""


class Damage(NamedTuple):
    """One change of a file: ``kind`` at ``place`` (a share of its length) with ``byte``."""

    kind: str
    place: float
    byte: int

    def __call__(self, content: bytes) -> bytes:
        at = int(self.place * len(content))
        return {"none": content, "cut": content[:at], "set": content[:at] + bytes([self.byte]) + content[at + 1:],
                "add": content[:at] + bytes([self.byte]) + content[at:], "drop": content[:at] + content[at + 1:],
                "zeros": content[:at] + bytes(len(content) - at), "twice": content + content[at:]}[self.kind]


DAMAGE = st.builds(Damage, st.sampled_from([*["none"] * 6, "cut", "set", "add", "drop", "zeros", "twice"]),
                   st.floats(0, 1), st.integers(0, 255))


def changed(values: dict, extra: tuple[str, ...] = ()):
    """An object with up to two of its fields set to anything, or left out."""
    fields = st.dictionaries(st.sampled_from([*values, *extra]), st.just("drop") | VALUES, max_size=2)
    return fields.map(lambda new: {name: value for name, value in (values | new).items() if value != "drop"})


def lines(rows) -> bytes:
    """JSON lines; Python's NaN and infinity as it writes them, half surrogates as escapes."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _separated(rows, tab: bool) -> bytes:
    mark, names = "\t" if tab else ",", list(dict.fromkeys(name for row in rows for name in row))
    quote = "{}" if tab else '"{}"'
    table = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    return "".join(mark.join(quote.format(value) for value in line) + "\n" for line in table).encode(errors="replace")


def _parquet(rows, notes) -> bytes:
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        values = [ascii(value) if isinstance(value, list | dict) else value for value in values]
        try:
            columns[name] = pyarrow.array(values)
        except (pyarrow.ArrowException, OverflowError, ValueError, TypeError):
            columns[name] = pyarrow.array([ascii(value) for value in values])
    table = pyarrow.table(columns)
    if notes is not None:
        table = table.replace_schema_metadata({b"huggingface": notes})
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue()


PAIR = {"sentence1": "a man sleeps", "sentence2": "a man is awake", "label": "not_entailment"}
_NAMES = ("premise", "hypothesis", "gold_label", "is_duplicate", "index")
_NOTES = st.one_of(
    st.none(), st.binary(max_size=6), VALUES.map(lambda value: json.dumps(value).encode()),
    VALUES.map(lambda names: json.dumps({"info": {"features": {"label": {"names": names}}}}).encode()))


@st.composite
def data_files(draw) -> tuple[str, bytes]:
    """(name, content) of a file of pairs."""
    rows = draw(st.lists(changed(PAIR, _NAMES), max_size=3))
    kind = draw(st.sampled_from(["jsonl", "csv", "tsv", "parquet", "jsonl.gz", "csv.gz", "tsv.gz"]))
    if kind == "parquet":
        content = _parquet(rows, draw(_NOTES))
    else:
        content = lines(rows) if kind.startswith("jsonl") else _separated(rows, kind.startswith("tsv"))
        content = draw(DAMAGE)(content)
    content = gzip.compress(content, mtime=0) if kind.endswith("gz") else content
    return f"train.{kind}", draw(DAMAGE)(content)


TEXT_FILES = st.tuples(st.sampled_from(["a.txt", "a.txt.gz"]), st.binary(max_size=60) | st.text(max_size=60).map(
    str.encode), DAMAGE).map(lambda made: (made[0], made[2](
        gzip.compress(made[1], mtime=0) if made[0].endswith("gz") else made[1])))
"""(name, content) of a text file."""


@st.composite
def tensors(draw, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor of any storage type, perhaps of another shape, perhaps with a value that is not finite."""
    shape = draw(st.sampled_from([*[shape] * 8, shape[::-1], shape[:1], (0,), (1, *shape)]))
    kind = draw(st.sampled_from([np.float32] * 15 + [np.float16, np.float64, np.int64, np.bool_, ml_dtypes.bfloat16,
                                                    ml_dtypes.float8_e4m3fn]))
    array = np.ones(shape, kind)
    if array.size and np.issubdtype(kind, np.floating):
        array.flat[0] = draw(st.sampled_from([*[1.0] * 6, np.nan, np.inf, -np.inf]))
    return array


@st.composite
def prompt_files(draw) -> bytes:
    """A file of soft prompts, 3 rows of width 4 where nothing is wrong."""
    names = draw(st.sampled_from([("prompt",), ("prompt",), ("prompt", "infix"), ("other",), ()]))
    return draw(DAMAGE)(save({name: draw(tensors((3, 4))) for name in names}))
