"""Classify the texts of a file with a tuned classifier.

    dawgen predict CLASSIFIER FILE [--out OUT.jsonl] [--columns premise hypothesis] [--backbone DIR]

CLASSIFIER is the folder of a saved classifier, or of a cell (RUN/cells/...). FILE is a .csv, .tsv, .jsonl or .parquet
file with one example per row. The output has one JSON line per row, in order, with the texts, the predicted label and
the probability of every label.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from dawgen_jax.api import Classifier
from dawgen_jax.cli.options import Common, apply, parse
from dawgen_jax.data.pools import read_texts
from dawgen_jax.io.files import write_file
from dawgen_jax.io.terminal import printable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Options of the command."""

    classifier: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CLASSIFIER")]
    """The folder of a saved classifier, or of a cell of a run directory."""
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Texts, one example per row."""
    out: Path | None = None
    """Write the lines to this file, atomically; by default to standard output."""
    columns: tuple[str, ...] = ()
    """Columns of the text, or of the two texts of a pair in order; by default the usual names."""
    backbone: str = ""
    """The backbone's directory, if it has moved since the classifier was tuned."""


def lines(arguments: Arguments) -> str:
    """JSON lines of all predictions.

    Raises:
      UserError: the classifier, its backbone or the file cannot be used.
    """
    classifier = Classifier.load(arguments.classifier, arguments.backbone or None)
    task = classifier.task
    texts, names = read_texts(arguments.file, task, arguments.columns), arguments.columns or task.fields
    found = classifier.predict(texts)
    return "".join(
        json.dumps({**dict(zip(names, text, strict=True)), "label": label,
                    "probabilities": dict(zip(task.labels, map(float, probabilities), strict=True))},
                   ensure_ascii=False) + "\n"
        for text, label, probabilities in zip(texts, *found, strict=True))


def main(argv: Sequence[str]) -> None:
    """Parse the command line, classify, and write."""
    arguments = parse(argv, Arguments, __doc__)
    apply(arguments)
    text = lines(arguments)
    if arguments.out is None:
        sys.stdout.buffer.write(text.encode("utf-8", errors="replace"))
        return
    write_file(arguments.out, text)
    if not arguments.quiet:
        print(f"{text.count(chr(10))} predictions: {printable(arguments.out)}")
