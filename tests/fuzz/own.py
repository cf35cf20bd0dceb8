"""Tasks of one's own: spreadsheets as people and programs spoil them, and declarations that do not fit them."""

import contextlib
import csv
import functools
import gzip
import io
import json
import pathlib
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet
from hypothesis import strategies as st

from dawgen_jax import miniworld
from dawgen_jax.backbones import registry
from dawgen_jax.cli import check as check_task
from dawgen_jax.config import Config, DataConfig, OwnTask, SynthesisConfig
from dawgen_jax.data.own import read_own
from dawgen_jax.data.pools import read_texts
from dawgen_jax.io.store import artefact
from dawgen_jax.pipeline.checks import examine
from dawgen_jax.pipeline.inputs import labelled_examples, read_task
from tests.fuzz.runner import Property, put
from tests.fuzz.strategies import DAMAGE as ANY_DAMAGE
from tests.fuzz.strategies import ODD_TEXT, VALUES, Damage

DAMAGE = st.just(Damage("none", 0.0, 0)) | ANY_DAMAGE
MEGABYTE = "a man " * 180_000
TEXTS = st.sampled_from([
    "a man sleeps .", "", " ", "-", "a, b", 'say "no"', '"', '"a"', '"a ""b"" c"', "a\tb", "one\ntwo", "one\r\ntwo",
    "a\rb", "a\0b", "naïve", "日本", "\u202eb", "👩\u200d🔬", "\ufeffa", "=1+1", "<script>alert(1)</script>",
    "\\input{x}", "{text} <mask>", "<extra_id_0>", "</s>", "\x1b[2J", "../../x", "\u2028", MEGABYTE])
LABELS = st.sampled_from(["good", "bad", "Good", " bad", "0", "1", "1.0", "-1", "-", "", "nan", "true", "١", "good\0",
                          "9" * 5000, "x" * 300, "../x", "\x1b[31m", "<b>"])
HEADERS = st.sampled_from([
    *[("text", "label"), ("premise", "hypothesis", "label"), ("label", "id", "review")] * 6, ("review", "stars"),
    ("label", "label"), ("text", "text", "label"), ("", "label"), ("text",), ("text", "label", ""),
    ("a", "b", "c", "label"), ("text", "gold_label", "label"), ("\x1b[31m", "label"), ("text ", "label"),
    ("TEXT", "Label"), ()])
ENCODINGS = st.sampled_from([*["utf-8"] * 8, "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252",
                             "mac_roman", "shift_jis", "utf-7"])
KINDS = st.sampled_from(["csv", "csv", "tsv", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz", "parquet"])


class Style(NamedTuple):
    """How a table of values is written."""

    delimiter: str
    quoting: int
    end: str
    encoding: str


STYLES = st.builds(Style, st.sampled_from([*[""] * 8, ";", "|"]),
                   st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]),
                   st.sampled_from([*["\n"] * 4, "\r\n", "\r\n", "\r"]), ENCODINGS)


def _separated(table: list[tuple], style: Style, usual: str) -> str:
    if style.quoting == csv.QUOTE_NONE:  # as they are, whatever they hold
        mark = style.delimiter or usual
        return "".join(mark.join(map(str, row)) + style.end for row in table)
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=style.delimiter or usual, quoting=style.quoting, lineterminator=style.end)
    writer.writerows(table)
    return out.getvalue()


def _parquet(header: tuple, rows: list[tuple]) -> bytes:
    sink = io.BytesIO()
    columns = [pyarrow.array([str(value).encode(errors="replace").decode() for value in column], pyarrow.string())
               for column in zip(*rows, strict=True)] if rows else []
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, names=list(header)[:len(columns)]), sink)
    return sink.getvalue()


@st.composite
def tables(draw) -> tuple[str, bytes]:
    """(name, content) of a file of labelled texts: 10 rows in two classes, up to three cells of them spoilt."""
    header, kind, style = draw(HEADERS), draw(KINDS), draw(STYLES)
    names = [name.strip().lower() for name in header]
    rows = [[label if "label" in name or name == "stars" else f"a man {name} {number} {label}" for name in names]
            for number in range(draw(st.sampled_from([0, 1, *[5] * 8]))) for label in ("good", "bad")]
    for _ in range(draw(st.integers(0, 3)) if rows and header else 0):
        place, column = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, len(header) - 1))
        rows[place][column] = draw(LABELS if "label" in names[column] else TEXTS)
    if rows and draw(st.integers(0, 5)) == 0:
        rows[draw(st.integers(0, len(rows) - 1))].append("more")
    if kind == "parquet":
        short = [tuple(row[:len(header)]) for row in rows]
        return "own.parquet", draw(DAMAGE)(_parquet(header, short))
    if kind.startswith("jsonl"):
        objects = [dict(zip(header, row, strict=False)) for row in rows]
        if objects and draw(st.booleans()):
            objects[-1] |= {draw(st.sampled_from(["text", "label", "other"])): draw(VALUES)}
        text = "".join(json.dumps(one) + style.end for one in objects)
    else:
        text = _separated([header, *rows], style, "," if kind.startswith("csv") else "\t")
    content = draw(DAMAGE)(text.encode(style.encoding, errors="replace"))
    return f"own.{kind}", draw(DAMAGE)(gzip.compress(content, mtime=0)) if kind.endswith("gz") else content


NAMES = st.sampled_from(["text", "label", "good", "bad", "review", "premise", "a"]) | ODD_TEXT
MANY = st.lists(NAMES, max_size=3).map(tuple)
FIELDS = {
    "name": NAMES, "test": NAMES.filter(lambda name: len(name) < 400), "columns": MANY, "label": NAMES,
    "labels": MANY | st.just(("good", "bad")),
    "template": st.sampled_from(["{text} <mask>", "{text}", "<mask>", "{review} it is <mask> .", "{} {0} <mask>", "{",
                                 "{sentence1} <mask> {sentence2}", "{text} <mask> {text}", "a " * 200 + "{text}"]),
    "label_words": MANY | st.just(("so", "maybe")), "metric": NAMES, "positive": NAMES,
    "phrases": st.lists(st.tuples(NAMES, NAMES), max_size=2).map(tuple), "repetition_penalty": st.floats(),
}
DECLARED = st.one_of(
    st.just({}), *[values.map(lambda value, field=field: {field: value}) for field, values in FIELDS.items()],
    st.dictionaries(st.sampled_from(sorted(FIELDS)), VALUES, max_size=1))
"""A field of a declaration, or none."""


@functools.cache
def _tokenizer():
    return registry.read_format(miniworld.BACKBONES / "mini-t5")


def _table(given: tuple[tuple[str, bytes], dict[str, Any], int]) -> None:
    file, declared, k = given
    path = str(put(*file))
    own = OwnTask(data=path, **declared)
    found = read_own(own, k)
    task, pools = found.task, found.pools
    assert len(task.labels) > 1 and found.k > 0 and not set(pools.train) & set(pools.test)
    for example in pools.train + pools.test:
        assert example.sentence2 and example.label in task.labels
        "".join(example).encode()
    for label in task.labels:
        assert sum(example.label == label for example in pools.train) >= 2 * found.k
    assert set(labelled_examples(path, task, found.columns, own.label)) >= set(pools.train + pools.test)
    assert len(read_texts(path, task, found.columns)) >= len(pools.train)
    folder = artefact(pathlib.Path("out"), "cells", f"{task.name} {task.labels[0]}", "0")
    assert folder.resolve().parent == pathlib.Path("out/cells").resolve()


def _checked(given: tuple[tuple[str, bytes], dict[str, Any]]) -> None:
    """What ``check_task`` does but for the backbone's scores."""
    file, declared = given
    own = OwnTask(data=str(put(*file)), **declared)
    config = Config(tasks=(own.name,), own=own, data=DataConfig(k=0, corpus="pool"), seeds=(13, 21),
                    synthesis=SynthesisConfig(temperature=1.0))
    data = read_task(own.name, config, generates=True)
    found, told = examine(data, config), io.StringIO()
    with contextlib.redirect_stdout(told):
        check_task.show(data, found, config, _tokenizer())
    assert not {"\x1b", "\r", "\0"} & set(told.getvalue())
    assert all(sentence.endswith(".") for sentence in (*found.problems, *found.warnings))


PROPERTIES = {
    "own tasks": Property(st.tuples(tables(), DECLARED, st.sampled_from([0, 0, 0, 1, 2, 16])), _table, 450),
    "checked tasks": Property(st.tuples(tables(), DECLARED), _checked, 60),
}
