"""Reading JSON with errors that name file and line, and writing files whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dawgen_jax.config import UserError

__all__ = ["parse", "read_json", "read_lines", "read_text", "write_aside"]


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
      UserError: it is missing or no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; finish a run there first, or name its folder.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}).") from None


def parse(text: str, where: str) -> Any:
    """The value of a JSON text.

    Raises:
      UserError: naming ``where`` it stands.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON ({error.msg}); remove or repair it and start again.") from None


def read_json(path: Path) -> Any:
    """The value of a JSON file, or None where there is no such file."""
    return parse(read_text(path), str(path)) if path.exists() else None


def read_lines(path: Path) -> list[tuple[str, Any]]:
    """(FILE:LINE, value) of each line of a .jsonl file; none where there is no such file.

    A last line without line break was cut off as its writer was stopped: it is left out where it is no JSON.
    """
    if not path.exists():
        return []
    *lines, last = read_text(path).split("\n")  # not splitlines(): sentences may hold other line separators
    parsed = [(f"{path}:{number}", parse(line, f"{path}:{number}")) for number, line in enumerate(lines, 1)
              if line.strip()]
    try:
        return [*parsed, (f"{path}:{len(lines) + 1}", json.loads(last))]
    except json.JSONDecodeError:
        return parsed


def write_aside(path: Path, text: str) -> None:
    """Replaces a file at once by one with this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
