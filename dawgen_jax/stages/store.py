"""Artefacts of a run directory: named folders that appear whole or not at all.

``RUN/KIND/NAME-HASH/`` is finished; ``RUN/KIND/.NAME-HASH.partial/`` is unfinished work that a restart goes on with.
The hash covers what the stage read, so that a change of an unrelated field reuses the artefact.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable
from typing import Any

from dawgen_jax.config import UserError

__all__ = ["MetricsLog", "artefact", "discard", "finish", "partial", "read_json", "write_json"]


def artefact(root: pathlib.Path, kind: str, name: str, key: str) -> pathlib.Path:
    """The folder of an artefact; it exists exactly if the artefact is finished."""
    return root / kind / f"{re.sub('[^A-Za-z0-9._+-]+', '_', name).strip('_')}-{key}"


def partial(folder: pathlib.Path) -> pathlib.Path:
    """The folder of an artefact's unfinished work; made where it does not exist."""
    aside = folder.with_name(f".{folder.name}.partial")
    aside.mkdir(parents=True, exist_ok=True)
    return aside


def discard(folder: pathlib.Path) -> None:
    """Remove an artefact's unfinished work, where there is any."""
    shutil.rmtree(folder.with_name(f".{folder.name}.partial"), ignore_errors=True)


def finish(folder: pathlib.Path, fill: Callable[[pathlib.Path], None]) -> None:
    """Publish an artefact: ``fill`` writes into a fresh folder, which is then renamed.

    A finished artefact is never overwritten: where it exists already, nothing happens.
    """
    if folder.exists():
        return
    aside = folder.with_name(f".{folder.name}.filling")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    fill(aside)
    os.replace(aside, folder)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write JSON, aside first and then renamed."""
    aside = path.with_name(path.name + ".partial")
    aside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(aside, path)


def read_json(path: pathlib.Path) -> Any:
    """Read JSON.

    Raises:
      UserError: the file is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove its folder, and its stage runs again.") from None


class MetricsLog:
    """metrics.jsonl of K seeds that run as one program: a line an update, a list over seeds for each figure."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def record(self, lines: Iterable[dict]) -> None:
        """Append lines."""
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def forget(self, step: int) -> None:
        """Drop the lines after ``step`` (they were recorded after the checkpoint that a restart goes on from)."""
        lines = [line for line in self._read() if line["step"] <= step] if step else []
        aside = self._path.with_name(self._path.name + ".partial")
        aside.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        os.replace(aside, self._path)

    def of_seed(self, position: int) -> list[dict]:
        """The lines of one seed, each figure a number."""
        return [{key: value[position] if isinstance(value, list) else value for key, value in line.items()}
                for line in self._read()]

    def _read(self) -> list[dict]:
        if not self._path.exists():
            return []
        lines = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:  # the last line, cut off as the process was killed
                break
        return lines

