"""What the report reads of a run directory (its files: :mod:`dawgen_jax.results.report.page`), and small pieces of HTML
that several sections share."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dawgen_jax.io.metadata import read_meta
from dawgen_jax.results.arms import arm_names
from dawgen_jax.results.rows import Row, SyntheticRow, read_cell, read_rows

__all__ = ["Cell", "Made", "cells", "grouped", "listed", "missing", "names_of", "optional_rows", "synthetic_sets",
           "writers"]

Made = tuple[SyntheticRow, Path]
"""The row of a synthetic set, and its folder or that of the generator that wrote it."""
Cell = tuple[Row, Path]
"""The first row of a cell, and its folder."""
AnyItem = TypeVar("AnyItem")
_CHARACTERS = 240


def grouped(items: Iterable[AnyItem], key: Callable[[AnyItem], Any]) -> list[tuple[Any, list[AnyItem]]]:
    """Items of one key together, keys in the order of their first item."""
    groups: dict[Any, list[AnyItem]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def names_of(sets: Iterable[Made]) -> Callable[[Made], str]:
    """What names a set's generator among these: 'DawGen by mini-t5', and settings in which those of one name differ."""
    names = arm_names(row for row, _ in sets)
    return lambda made: f"{names[made[0].arm_key]} by {made[0].backbone}"


def missing(sentence: str) -> str:
    """The sentence that takes the place of a piece that is not there."""
    return f'<p class="missing">{html.escape(sentence)}</p>'


def listed(number: int, sentences: Iterable[str], tags: Iterable[str], flags: Iterable[str]) -> str:
    """An example as an item of an ordered list: its sentences, cut where they are long, and what is said of it."""
    lines = [text if len(text) <= _CHARACTERS else text[:_CHARACTERS] + " …" for text in sentences]
    spans = "".join(f"<span>{html.escape(text)}</span>" for text in lines)
    marks = "".join(f'<em class="{kind}">{html.escape(text)}</em>'
                    for kind, texts in (("tag", tags), ("tag flag", flags)) for text in texts)
    return f'<li value="{number}">{spans}{marks}</li>'


def _folders(run: Path, kind: str) -> list[Path]:
    """Finished artefacts; a name that starts with a dot is unfinished."""
    return sorted(folder for folder in (run / kind).glob("[!.]*") if folder.is_dir())


def optional_rows(path: Path, kind: type[Row] | type[SyntheticRow]) -> list:
    """The rows of a file, none where it is missing."""
    return read_rows(path, kind) if path.exists() else []


def cells(run: Path, rows: Sequence[Row]) -> list[Cell]:
    """The cells that results.jsonl shows; one of an earlier configuration is no part of the results."""
    current = {row.config_hash for row in rows}
    found = ((read_cell(folder / "result.json")[0], folder) for folder in _folders(run, "cells")
             if (folder / "result.json").exists())
    return sorted((cell for cell in found if cell[0].config_hash in current), key=lambda cell: cell[0].order)


def synthetic_sets(run: Path) -> list[Made]:
    """The synthetic sets that synthetic.jsonl measures."""
    current = {row.key: row for row in optional_rows(run / "synthetic.jsonl", SyntheticRow)}
    found = {row.key: (row, folder) for folder in _folders(run, "synthetic")
             for row in optional_rows(folder / "quality.jsonl", SyntheticRow) if row == current.get(row.key)}
    return sorted(found.values(), key=lambda made: made[0].order)


def writers(run: Path, sets: Sequence[Made]) -> list[Made]:
    """The generators that wrote the sets."""
    folders = {folder.name: folder for folder in _folders(run, "generators")}
    named = ((row, read_meta(folder).generator_artefact) for row, folder in sets)
    return [(row, folders[name]) for row, name in named if name in folders]
