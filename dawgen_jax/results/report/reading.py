"""The rows and folders of a run directory that the report shows (the list of files is in :mod:`.page`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dawgen_jax.io.metadata import read_meta
from dawgen_jax.results.arms import arm_names
from dawgen_jax.results.rows import Row, SyntheticRow, read_cell, read_rows

__all__ = ["Cell", "Made", "cells", "names_of", "optional_rows", "synthetic_sets", "writers"]

Made = tuple[SyntheticRow, Path]
"""The row of a synthetic set, and its folder or the folder of the generator that wrote it."""
Cell = tuple[Row, Path]
"""The first row of a cell, and its folder."""


def names_of(sets: Iterable[Made]) -> Callable[[Made], str]:
    """A function that names a set's generator: 'DawGen by mini-t5', with the settings in which namesakes differ."""
    names = arm_names(row for row, _ in sets)
    return lambda made: f"{names[made[0].arm_key]} by {made[0].backbone}"


def _folders(run: Path, kind: str) -> list[Path]:
    """Finished artefacts; a name that starts with a dot is unfinished."""
    return sorted(folder for folder in (run / kind).glob("[!.]*") if folder.is_dir())


def optional_rows(path: Path, kind: type[Row] | type[SyntheticRow]) -> list:
    """The rows of a file; none if it is missing."""
    return read_rows(path, kind) if path.exists() else []


def cells(run: Path, rows: Sequence[Row]) -> list[Cell]:
    """The cells of results.jsonl."""
    current = {row.config_hash for row in rows}
    found = ((read_cell(folder / "result.json")[0], folder) for folder in _folders(run, "cells")
             if (folder / "result.json").exists())
    return sorted((cell for cell in found if cell[0].config_hash in current), key=lambda cell: cell[0].order)


def synthetic_sets(run: Path) -> list[Made]:
    """The synthetic sets of synthetic.jsonl."""
    current = {row.key: row for row in optional_rows(run / "synthetic.jsonl", SyntheticRow)}
    found = {row.key: (row, folder) for folder in _folders(run, "synthetic")
             for row in optional_rows(folder / "quality.jsonl", SyntheticRow) if row == current.get(row.key)}
    return sorted(found.values(), key=lambda made: made[0].order)


def writers(run: Path, sets: Sequence[Made]) -> list[Made]:
    """The generators that wrote the sets."""
    folders = {folder.name: folder for folder in _folders(run, "generators")}
    named = ((row, read_meta(folder).generator_artefact) for row, folder in sets)
    return [(row, folders[name]) for row, name in named if name in folders]
