"""metrics.jsonl: a line of figures an update (or every few), appended while training and cut back on a restart."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator

from dawgen_jax.config.validation import must
from dawgen_jax.io import world
from dawgen_jax.io.files import STAGE_AGAIN, write_file
from dawgen_jax.io.lines import json_lines
from dawgen_jax.io.strict_json import is_number, json_text
from dawgen_jax.io.trackers import TrackedRun

__all__ = ["MetricsLog", "read_metrics", "text"]


_LINE = Annotated[dict[str, Any], AfterValidator(must("have a number as 'step'",
                                                     lambda line: is_number(line.get("step"))))]


class MetricsLog:
    """Lines of one run, or of K seeds that run as one program: then each figure is a list over seeds."""

    def __init__(self, path: pathlib.Path, shown: TrackedRun | None = None):
        """``path``: of the file, which always has every line; ``shown``: the same run in trackers."""
        self._path, self._shown = path, shown

    def record(self, lines: Sequence[dict]) -> None:
        """Append lines, where this process leads."""
        if not world.leads():
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text(lines))
        if self._shown:
            self._shown.record(lines)

    def close(self, **results: list[float]) -> None:
        """End the run in trackers, with results that lines of training do not have."""
        if self._shown:
            last = max((line["step"] for line in self.lines()), default=0)
            self._shown.record([{"step": last, **results}] if results else [])
            self._shown.close()

    def forget(self, step: int) -> None:
        """Drop the lines after ``step``, which were recorded after the checkpoint that a restart resumes from."""
        if world.leads():
            write_file(self._path, text([line for line in self.lines() if line["step"] <= step] if step else []))

    def of_seed(self, position: int) -> list[dict]:
        """The lines of one seed, each figure a number."""
        return [{key: value[position] if isinstance(value, list) else value for key, value in line.items()}
                for line in self.lines()]

    def lines(self) -> list[dict]:
        """All lines; one that was cut off as the process was killed is left out."""
        return read_metrics(self._path, torn_ok=True)


def read_metrics(path: pathlib.Path, *, torn_ok: bool = False) -> list[dict]:
    """The lines of a metrics.jsonl; empty without a file.

    Args:
      path: of the file.
      torn_ok: skip a torn last line instead of raising.

    Raises:
      UserError: a line is broken, or has no step.
    """
    lines = json_lines(path, _LINE, torn_ok=torn_ok, advice=STAGE_AGAIN) if path.exists() else ()
    return [line for _, line in lines]


def text(lines: Iterable[dict]) -> str:
    """JSON lines."""
    return "".join(json_text(line) + "\n" for line in lines)
