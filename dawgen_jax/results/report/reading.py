"""The rows and folders of a run directory that the report shows (:mod:`.page` lists the files)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dawgen_jax.io.metadata import read_meta
from dawgen_jax.results.arms import arm_names
from dawgen_jax.results.rows import Row, SyntheticRow, read_cell, read_rows

__all__ = ["Artefact", "Cell", "cells", "names_of", "optional_rows", "synthetic_sets", "writers"]

Artefact = tuple[SyntheticRow, Path]
"""The row of a synthetic set, and the folder of the set or of the generator that wrote it."""
Cell = tuple[Row, Path]
"""The first row of a cell, and the folder of the cell."""


def names_of(sets: Iterable[Artefact]) -> Callable[[Artefact], str]:
    """A function that names a set's generator: 'DawGen by mini-t5', with any settings in which equal names differ."""
    names = arm_names(row for row, _ in sets)
    return lambda artefact: f"{names[artefact[0].arm_key]} by {artefact[0].backbone}"


def _folders(run: Path, kind: str) -> list[Path]:
    """Finished artefacts; a name that starts with a dot is unfinished."""
    return sorted(folder for folder in (run / kind).glob("[!.]*") if folder.is_dir())


def optional_rows(path: Path, kind: type[Row] | type[SyntheticRow]) -> list:
    """The rows of a file; empty if the file is missing."""
    return read_rows(path, kind) if path.exists() else []


def cells(run: Path, rows: Sequence[Row]) -> list[Cell]:
    """The cells of results.jsonl."""
    current = {row.config_hash for row in rows}
    found = ((read_cell(folder / "result.json")[0], folder) for folder in _folders(run, "cells")
             if (folder / "result.json").exists())
    return sorted((cell for cell in found if cell[0].config_hash in current), key=lambda cell: cell[0].order)


def synthetic_sets(run: Path) -> list[Artefact]:
    """The synthetic sets of synthetic.jsonl."""
    current = {row.key: row for row in optional_rows(run / "synthetic.jsonl", SyntheticRow)}
    found = {row.key: (row, folder) for folder in _folders(run, "synthetic")
             for row in optional_rows(folder / "quality.jsonl", SyntheticRow) if row == current.get(row.key)}
    return sorted(found.values(), key=lambda artefact: artefact[0].order)


def writers(run: Path, sets: Sequence[Artefact]) -> list[Artefact]:
    """The generators that wrote the sets."""
    folders = {folder.name: folder for folder in _folders(run, "generators")}
    named = ((row, read_meta(folder).generator_artefact) for row, folder in sets)
    return [(row, folders[name]) for row, name in named if name in folders]
