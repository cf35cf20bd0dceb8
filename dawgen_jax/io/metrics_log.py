"""metrics.jsonl: a line of figures an update (or every few), appended while training and cut back on a restart."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable

from dawgen_jax.io.files import write_file
from dawgen_jax.io.lines import json_lines

__all__ = ["MetricsLog"]


class MetricsLog:
    """Lines of one run, or of K seeds that run as one program: then each figure is a list over seeds."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def record(self, lines: Iterable[dict]) -> None:
        """Append lines."""
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def forget(self, step: int) -> None:
        """Drop the lines after ``step`` (they were recorded after the checkpoint that a restart goes on from)."""
        write_file(self._path, text([line for line in self.lines() if line["step"] <= step] if step else []))

    def of_seed(self, position: int) -> list[dict]:
        """The lines of one seed, each figure a number."""
        return [{key: value[position] if isinstance(value, list) else value for key, value in line.items()}
                for line in self.lines()]

    def lines(self) -> list[dict]:
        """All lines; one that was cut off as the process was killed is left out."""
        return [line for _, line in json_lines(self._path, torn_ok=True)] if self._path.exists() else []


def text(lines: Iterable[dict]) -> str:
    """JSON lines."""
    return "".join(json.dumps(line) + "\n" for line in lines)
