"""Lines of text files and of JSON-lines files with their numbers, which errors name."""

from __future__ import annotations

import codecs
import gzip
import logging
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.io.strict_json import parse_json

__all__ = ["json_lines", "text_lines"]

_log = logging.getLogger(__name__)


def text_lines(path: str | pathlib.Path, *, torn_ok: bool = False) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of a UTF-8 file, decompressed if its name ends in .gz.

    Args:
      path: path of the file.
      torn_ok: drop an incomplete character at the end of a last line without a newline, instead of raising.

    Raises:
      UserError: the file is missing or truncated, or a line is not UTF-8.
    """
    path = pathlib.Path(path)
    number = 0
    try:
        if path.suffix == ".gz" and not path.stat().st_size:  # Python reads it as the archive of an empty file
            raise EOFError("it is empty")
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                decoder = codecs.getincrementaldecoder("utf-8-sig" if number == 1 else "utf-8")()
                yield number, decoder.decode(line, final=not torn_ok or line.endswith(b"\n"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name a file in it.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}: not UTF-8 ({error.reason}); save the file as UTF-8.") from None
    except (EOFError, OSError, ValueError, zlib.error) as error:  # ValueError: a name with a null character
        raise UserError(f"{path}:{number + 1}: cannot be read ({error}); fetch the file again.") from None


def json_lines(path: str | pathlib.Path, kind: Any = dict[str, Any], *, torn_ok: bool = False,
               advice: str = "fix or drop the line") -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) of a JSON-lines file; blank lines are skipped.

    Args:
      path: path of the file.
      kind: type of a line's value; see :func:`~.strict_json.parse_json`.
      torn_ok: skip a torn last line (no newline at its end, and not JSON) with a logged warning, instead of raising.
      advice: the next step, for the error.

    Raises:
      UserError: see :func:`text_lines`; or a line is not JSON or does not fit ``kind``.
    """
    for number, text in text_lines(path, torn_ok=torn_ok):
        if text.strip():
            try:
                row = parse_json(text, kind)
            except ConfigError as error:
                raise UserError(f"{path}:{number}: {str(error).removesuffix('.')}; {advice}.") from None
            except ValueError as error:
                if torn_ok and not text.endswith("\n"):
                    _log.warning("%s:%d: the last line is torn and is skipped.", path, number)
                    return
                raise UserError(f"{path}:{number}: not JSON ({error}); {advice}.") from None
            yield number, row
