"""Lines of text files and rows of JSON-lines files, each with its number, so that errors can name it."""

from __future__ import annotations

import gzip
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from dawgen_jax.config import UserError

__all__ = ["json_lines", "text_lines"]


def text_lines(path: str | pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields (line number, text) of a UTF-8 file, uncompressed on the way if its name ends in .gz.

    Raises:
      UserError: the file is missing, cut off, or a line is not UTF-8.
    """
    path = pathlib.Path(path)
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}: not UTF-8 ({error.reason}); save the file as UTF-8.") from None
    except (EOFError, OSError) as error:
        raise UserError(f"{path}:{number + 1}: cannot be read ({error}); fetch the file again.") from None


def json_lines(path: str | pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number, object) of a JSON-lines file; blank lines are skipped.

    Raises:
      UserError: as :func:`text_lines`, or a line is not a JSON object.
    """
    for number, text in text_lines(path):
        if text.strip():
            try:
                row = json.loads(text)
            except ValueError as error:
                raise UserError(f"{path}:{number}: not JSON ({error}); mend or drop the line.") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}:{number}: not a JSON object with named fields; mend or drop the line.")
            yield number, row
