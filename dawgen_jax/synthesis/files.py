"""Files of a synthetic set: shards while it is generated, then JSON lines, parquet, counts and a dataset card.

A shard holds all samples, accepted or rejected, of a range of first sentences, so that a restarted run reads finished
shards instead of generating them again, and selects the same set. If teams of processes generate a shard together, each
writes a part, and the parts are then joined into the file that a single process would have written. Every file is
written under a temporary name and renamed, so an existing file is complete. Equal samples give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

from dawgen_jax.config.validation import Count, Items, shown, validated
from dawgen_jax.data.pools import Example, texts_of
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.io import cards
from dawgen_jax.io.files import read_json, write_file, write_json
from dawgen_jax.io.lines import json_lines
from dawgen_jax.io.terminal import printable
from dawgen_jax.synthesis.filtering import LabelCount, Sample, Selection
from dawgen_jax.tasks import Task
from dawgen_jax.tasks.schema import PAIR, TEXT

__all__ = ["content_digest", "join_parts", "part_path", "read_counts", "read_samples", "read_set", "shard_path",
           "write_samples", "write_set"]


def shard_path(folder: str | os.PathLike, number: int) -> pathlib.Path:
    """The file of shard ``number``; it exists only if the shard is finished."""
    return pathlib.Path(folder) / f"shard-{number:05d}.jsonl"


def part_path(folder: str | os.PathLike, number: int, team: int) -> pathlib.Path:
    """The file of a team's part of shard ``number``."""
    return shard_path(folder, number).with_suffix(f".part{team}.jsonl")


def write_samples(path: pathlib.Path, samples: Iterable[Sample]) -> None:
    """Write a shard, or a team's part of one; a part from an interrupted run is overwritten."""
    write_file(path, _json_text(samples))


def join_parts(folder: str | os.PathLike, number: int, teams: int, task: Task) -> None:
    """Join the parts of all teams into a finished shard, sorted by (index, label), and remove them."""
    parts = [part_path(folder, number, team) for team in range(teams)]
    samples = [sample for part in parts for sample in read_samples(part)]
    samples.sort(key=lambda one: (one.index, task.labels.index(one.example.label)))
    write_samples(shard_path(folder, number), samples)
    for part in parts:
        part.unlink()


def write_set(
    folder: str | os.PathLike, task: Task, selection: Selection, facts: Mapping[str, object] | None = None, *,
    quality: Mapping[str, object] | None = None, languages: Sequence[str] = (),
) -> str:
    """Write train.jsonl, train.parquet, counts.json and README.md, a folder that ``datasets.load_dataset`` reads.

    Args:
      folder: an existing folder.
      task: names the labels; parquet stores a label's position and the names (a ``ClassLabel``).
      selection: kept samples and counts.
      facts: how the set was generated (backbone, generator, seed, decoding, versions, ...), for the card.
      quality: measures of the set by name, for the card.
      languages: language codes of the set; empty if unknown.

    Returns:
      The digest of the samples; see :func:`content_digest`.
    """
    folder = pathlib.Path(folder)
    write_file(folder / "train.jsonl", _json_text(selection.samples))
    write_file(folder / "train.parquet", _parquet(task, selection.samples))
    counts = {label: count._asdict() for label, count in selection.counts.items()}
    write_json(folder / "counts.json", counts)
    write_file(folder / "README.md", _card(task, selection, facts or {}, quality or {}, languages))
    return content_digest(selection.samples)


def read_set(folder: str | os.PathLike) -> list[Sample]:
    """The samples of a written set.

    Raises:
      UserError: train.jsonl is missing or broken.
    """
    return read_samples(pathlib.Path(folder) / "train.jsonl")


def read_counts(folder: str | os.PathLike) -> dict[str, LabelCount]:
    """The counts of a written set by label.

    Raises:
      UserError: counts.json is missing or broken.
    """
    return read_json(pathlib.Path(folder) / "counts.json", dict[str, LabelCount])


def content_digest(samples: Iterable[Sample]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of the samples' JSON lines, for the keys of later stages."""
    return hashlib.sha256(_json_text(samples)).hexdigest()[:12]


def _json_text(samples: Iterable[Sample]) -> bytes:
    lines = []
    for sample in samples:
        row = {**_texts(sample.example), "label": sample.example.label, "index": sample.index, "cut": sample.cut}
        if sample.scores:
            if not all(map(math.isfinite, sample.scores)):  # readers would reject the line
                raise UserError(f"sample {sample.index} of label {shown(sample.example.label)}: its scores "
                                f"{shown(sample.scores)} are not all finite; check the backbone's weights (python -m "
                                "train.check_backbone) and the soft prompts, or set synthesis.score to False.")
            row["scores"] = sample.scores
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(lines).encode("utf-8", errors="replace")  # UTF-8 cannot encode a lone surrogate


def _texts(example: Example) -> dict[str, str]:
    """Texts by field name; in a set, the first sentence is non-empty for pairs and absent for single texts."""
    if example.sentence1:
        return {"sentence1": example.sentence1, "sentence2": example.sentence2}
    return {"text": example.sentence2}


@validated
class SampleLine:
    """A line of train.jsonl: a pair of sentences, or a text."""

    label: str
    index: Count
    cut: bool = False
    scores: Items[float] = ()
    text: str | None = None
    sentence1: str | None = None
    sentence2: str | None = None

    def __post_init__(self):
        if [self.text is None, self.sentence1 is None, self.sentence2 is None] not in ([True, False, False],
                                                                                       [False, True, True]):
            raise ConfigError("SampleLine: must have sentence1 and sentence2, or text.")


def read_samples(path: pathlib.Path) -> list[Sample]:
    """The samples of a file, in its order.

    Raises:
      UserError: the file is missing or broken.
    """
    lines = json_lines(path, SampleLine, advice="remove the file, and it is made again")
    return [Sample(Example(line.sentence1 or "", line.text if line.sentence2 is None else line.sentence2, line.label),
                   line.index, line.cut, line.scores) for _, line in lines]


def _parquet(task: Task, samples: Sequence[Sample]) -> bytes:
    import pyarrow.parquet
    from datasets import ClassLabel, Features, List, Value

    columns = {
        **dict(zip(task.fields, texts_of(task, [sample.example for sample in samples]), strict=True)),
        "label": [task.labels.index(sample.example.label) for sample in samples],
        "index": [sample.index for sample in samples],
        "cut": [sample.cut for sample in samples],
    }
    features = {**dict.fromkeys(task.fields, Value("string")), "label": ClassLabel(names=list(task.labels)),
                "index": Value("int64"), "cut": Value("bool")}
    if any(sample.scores for sample in samples):
        columns["scores"], features["scores"] = [list(sample.scores) for sample in samples], List(Value("float32"))
    table = pyarrow.table(columns, schema=Features(features).arrow_schema)
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


_HOW = {
    PAIR: "sentence pairs. Sentence 2 and the label were written by a language model with a tuned soft prompt for each "
          "label; nobody has checked them. Sentence 1 comes from a corpus, under that corpus's licence.",
    TEXT: "texts. Text and label were written by a language model with a tuned soft prompt for each label; nobody has "
          "checked them.",
}
_INDEX = {PAIR: "of sentence 1 in the permuted corpus", TEXT: "of the sample"}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def _card(task: Task, selection: Selection, facts: Mapping[str, object], quality: Mapping[str, object],
          languages: Sequence[str]) -> str:
    size = len(selection.samples)
    head = {
        "pretty_name": printable(f"Synthetic {task.name}"),
        **({"language": list(languages)} if languages else {}),
        "license": "unknown",
        "task_categories": ["text-classification"],
        "annotations_creators": ["machine-generated"],
        "language_creators": ["found", "machine-generated"],
        "size_categories": [next((name for bound, name in _SIZES if size < bound), "1M<n<10M")],
        "source_datasets": [f"extended|other-{re.sub('[^A-Za-z0-9._-]+', '-', task.name)}"],
        "tags": ["synthetic", "machine-generated", "dawgen"],
        # Stated explicitly, since the hub's rules would count train.jsonl as more data of the same split.
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}],
    }
    counts = cards.table(
        ("label", "wanted", "made", "accepted", "kept", "of these cut at the budget", "rejected"),
        [(label, count.wanted, count.made, count.accepted, count.kept, count.cut,
          "; ".join(f"{number} {reason}" for reason, number in count.rejected.items()) or "none")
         for label, count in selection.counts.items()])
    parts = [
        f"# Synthetic {cards.escaped(task.name)}\n",
        f"{size} {_HOW[task.fields]}\n",
        counts,
        f"Columns: {', '.join(f'`{field}`' for field in task.fields)}, `label`, `index` ({_INDEX[task.fields]}), `cut` "
        "(no end of sequence within the budget) and, where asked for, `scores` (log-probability under each label's "
        "prompt). `train.jsonl` holds the same rows as `train.parquet`.\n",
    ]
    if quality:
        figures = [(name, f"{value:.4g}" if isinstance(value, float) else value) for name, value in quality.items()]
        parts += ["## Quality\n", cards.table(("measure", "value"), figures)]
    if facts:
        parts += ["## How it was made\n", cards.facts_block(facts)]
    return cards.front_matter(head) + "\n" + "\n".join(parts)
