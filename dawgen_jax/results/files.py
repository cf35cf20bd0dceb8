"""Reading a JSON file with an error that names it, and writing files whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dawgen_jax.config import UserError

__all__ = ["read_json", "write_aside"]


def read_json(path: Path) -> Any:
    """The value of a JSON file, or None where there is no such file.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove its folder, and its stage runs again.") from None


def write_aside(path: Path, text: str) -> None:
    """Replaces a file at once by one with this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
