"""Files of a synthetic set: shards as it is made, then JSON lines, parquet, counts and a dataset card.

A shard holds all samples of a range of first sentences, rejected ones too, so that a restart reads finished shards
instead of generating again and selects the same set. Every file is written aside and renamed: one that exists is
whole. The same samples give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from dawgen_jax.config import UserError, shown
from dawgen_jax.data.pools import Example
from dawgen_jax.io.files import read_json, write_file
from dawgen_jax.io.lines import json_lines
from dawgen_jax.io.strict_json import is_number
from dawgen_jax.io.terminal import printable
from dawgen_jax.synthesis.filtering import LabelCount, Sample, Selection
from dawgen_jax.tasks import Task

__all__ = ["content_digest", "read_counts", "read_set", "read_shard", "shard_path", "write_set", "write_shard"]


def shard_path(folder: str | os.PathLike, number: int) -> pathlib.Path:
    """The file of shard ``number``; it exists exactly if the shard is finished."""
    return pathlib.Path(folder) / f"shard-{number:05d}.jsonl"


def write_shard(folder: str | os.PathLike, number: int, samples: Iterable[Sample]) -> None:
    """Writes a finished shard."""
    write_file(shard_path(folder, number), _json_text(samples))


def read_shard(folder: str | os.PathLike, number: int) -> list[Sample]:
    """The samples of a finished shard, in the order in which they were written.

    Raises:
      UserError: the shard is missing or broken.
    """
    return _read(shard_path(folder, number))


def write_set(
    folder: str | os.PathLike, task: Task, selection: Selection, facts: Mapping[str, object] | None = None
) -> str:
    """Writes train.jsonl, train.parquet, counts.json and README.md.

    Args:
      folder: an existing folder.
      task: names the labels; in parquet a label is its position with the names beside it (a ``ClassLabel``).
      selection: kept samples and counts.
      facts: what the card says of how the set was made (backbone, generator, seed, decoding, versions, ...).

    Returns:
      The digest of the samples, as :func:`content_digest` gives it.
    """
    folder = pathlib.Path(folder)
    write_file(folder / "train.jsonl", _json_text(selection.samples))
    write_file(folder / "train.parquet", _parquet(task, selection.samples))
    counts = {label: count._asdict() for label, count in selection.counts.items()}
    write_file(folder / "counts.json", _bytes(json.dumps(counts, indent=1, ensure_ascii=False) + "\n"))
    write_file(folder / "README.md", _bytes(_card(task, selection, facts or {})))
    return content_digest(selection.samples)


def read_set(folder: str | os.PathLike) -> list[Sample]:
    """The samples of a written set.

    Raises:
      UserError: train.jsonl is missing or broken.
    """
    return _read(pathlib.Path(folder) / "train.jsonl")


def read_counts(folder: str | os.PathLike) -> dict[str, LabelCount]:
    """The counts of a written set by label.

    Raises:
      UserError: counts.json is missing or broken.
    """
    path = pathlib.Path(folder) / "counts.json"
    counts = read_json(path)
    for label, count in counts.items():
        if not isinstance(count, dict) or count.keys() != set(LabelCount._fields) or not (
                isinstance(count["rejected"], dict) and all(map(_is_count, count["rejected"].values()))
                and all(_is_count(value) for name, value in count.items() if name != "rejected")):
            raise UserError(f"{path}: holds no counts of label {shown(label)}; remove its folder, and the set is made "
                            "again.")
    return {label: LabelCount(**count) for label, count in counts.items()}


def content_digest(samples: Iterable[Sample]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of the samples' JSON lines, for the keys of stages that read them."""
    return hashlib.sha256(_json_text(samples)).hexdigest()[:12]


def _json_text(samples: Iterable[Sample]) -> bytes:
    lines = []
    for sample in samples:
        row = {**sample.example._asdict(), "index": sample.index, "cut": sample.cut}
        if sample.scores:
            row["scores"] = sample.scores
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return _bytes("".join(lines))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")  # a lone surrogate has no UTF-8


def _read(path: pathlib.Path) -> list[Sample]:
    samples = []
    for line, row in json_lines(path):
        row = {"cut": False, "scores": []} | row
        wrong = [name for name, ok in _SAMPLE.items() if name not in row or not ok(row[name])] + [*row.keys() - _SAMPLE]
        if wrong:
            told = f"{wrong[0]} = {shown(row[wrong[0]])}" if wrong[0] in row else f"no {wrong[0]}"
            raise UserError(f"{path}:{line}: not a synthetic sample ({told}); remove the file, and it is made again.")
        example = Example(row["sentence1"], row["sentence2"], row["label"])
        samples.append(Sample(example, row["index"], row["cut"], tuple(row["scores"])))
    return samples


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


_SAMPLE = {"sentence1": _is_text, "sentence2": _is_text, "label": _is_text, "index": _is_count,
           "cut": lambda value: isinstance(value, bool),
           "scores": lambda value: isinstance(value, list) and all(map(is_number, value))}
"""The fields of a sample's line, and what they may hold."""


def _parquet(task: Task, samples: Sequence[Sample]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    position = {label: i for i, label in enumerate(task.labels)}
    columns: dict[str, tuple[pyarrow.DataType, dict, list]] = {
        "sentence1": (pyarrow.string(), _value("string"), [sample.example.sentence1 for sample in samples]),
        "sentence2": (pyarrow.string(), _value("string"), [sample.example.sentence2 for sample in samples]),
        "label": (pyarrow.int64(), {"names": list(task.labels), "_type": "ClassLabel"},
                  [position[sample.example.label] for sample in samples]),
        "index": (pyarrow.int64(), _value("int64"), [sample.index for sample in samples]),
        "cut": (pyarrow.bool_(), _value("bool"), [sample.cut for sample in samples]),
    }
    if any(sample.scores for sample in samples):
        columns["scores"] = (pyarrow.list_(pyarrow.float32()), {"feature": _value("float32"), "_type": "List"},
                             [list(sample.scores) for sample in samples])
    features = {name: feature for name, (_, feature, _) in columns.items()}
    schema = pyarrow.schema([(name, kind) for name, (kind, _, _) in columns.items()],
                            metadata={"huggingface": json.dumps({"info": {"features": features}})})
    table = pyarrow.table({name: values for name, (_, _, values) in columns.items()}, schema=schema)
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _value(dtype: str) -> dict:
    return {"dtype": dtype, "_type": "Value"}


def _cell(text: str) -> str:
    """Text in a cell of a Markdown table: a bar or a line break would end it."""
    return printable(text).replace("|", "\\|")


def _card(task: Task, selection: Selection, facts: Mapping[str, object]) -> str:
    counts = selection.counts
    rows = [
        f"| {_cell(label)} | {count.wanted} | {count.made} | {count.accepted} | {count.kept} | {count.cut} | "
        + _cell("; ".join(f"{number} {reason}" for reason, number in count.rejected.items()) or "none") + " |"
        for label, count in counts.items()
    ]
    size = len(selection.samples)
    category = next(name for bound, name in (
        (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (float("inf"), "100K<n<1M")) if size < bound)
    lines = [
        "---",
        "language: en",
        "task_categories: [text-classification]",
        "annotations_creators: [machine-generated]",
        "language_creators: [machine-generated]",
        f"size_categories: [{category}]",
        "tags: [synthetic, dawgen]",
        f"pretty_name: {json.dumps('Synthetic ' + task.name)}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: train.parquet",
        "---",
        "",
        f"# Synthetic {printable(task.name)}",
        "",
        f"{size} sentence pairs. Sentence 2 and the label were written by a language model with a tuned soft prompt "
        "for each label; nobody has checked them. Sentence 1 comes from a corpus, under that corpus's licence.",
        "",
        "| label | wanted | made | accepted | kept | of these cut at the budget | rejected |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Columns: `sentence1`, `sentence2`, `label`, `index` (of sentence 1 in the permuted corpus), `cut` (no end of "
        "sequence within the budget) and, where asked for, `scores` (log-probability under each label's prompt).",
    ]
    if facts:
        lines += ["", "## How it was made", "", "```json", json.dumps(dict(facts), indent=1, default=str), "```"]
    return "\n".join(lines) + "\n"
