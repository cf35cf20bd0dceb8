"""Reading of JSON and weights with errors that name the file, and atomic writing of files.

A file is written under a name unique to the process in the same folder, then renamed: readers see the old file or the
new one, and two processes that write the same file never mix their contents.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes  # noqa: F401 (NumPy has no bfloat16 before; every reader of safetensors imports this module)
from safetensors import SafetensorError, safe_open

from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.io.strict_json import json_text, parse_json

__all__ = ["STAGE_AGAIN", "aside", "open_tensors", "read_json", "refilling", "replacing", "storage_fault", "write_file",
           "write_json"]

STAGE_AGAIN = "remove its folder, and its stage runs again"
"""The next step if a file of an artefact is broken."""
_FAULTS = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)))


def aside(path: pathlib.Path, kind: str = "partial") -> pathlib.Path:
    """A temporary name in the folder of ``path`` that no other process uses and that listings ignore."""
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.{kind}")


def storage_fault(error: BaseException | None) -> str:
    """The file system's message ('No space left on device') if it caused an error, otherwise ''.

    Libraries wrap such errors in other exceptions.
    """
    while error is not None:
        if found := next((fault for fault in _FAULTS if fault in str(error)), ""):
            return found
        error = error.__cause__ or error.__context__
    return ""


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to write to, which replaces ``path`` if the block ends without an error, and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = aside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def refilling(folder: pathlib.Path, last: str, old: Sequence[str] = ()) -> Iterator[pathlib.Path]:
    """A folder to write files into, which take the place of those of ``folder`` if the block ends without an error.

    A reader never finds files of two writings: ``last`` is removed first and moved into place last, and is written
    into the yielded folder like the others. Before the exchange begins, ``folder`` is as it was.

    Args:
      folder: made if missing; other files in it stay.
      last: the file without which no reader accepts the folder.
      old: names and patterns of files that are removed, because readers would take them for a part of the new ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fresh = aside(folder / last)  # inside, so that the files are moved within one file system
    fresh.mkdir()
    try:
        yield fresh
        (folder / last).unlink(missing_ok=True)
        for path in [path for pattern in old for path in folder.glob(pattern)]:
            path.unlink()
        for path in sorted(fresh.iterdir(), key=lambda path: path.name == last):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def write_file(path: pathlib.Path, content: str | bytes) -> None:
    """Replace a file atomically by ``content``; a lone surrogate, which UTF-8 cannot encode, becomes '?'."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode("utf-8", errors="replace") if isinstance(content, str) else content)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Replace a file atomically by the JSON of ``value``; see :func:`~.strict_json.json_text`."""
    write_file(path, json_text(value, indent=1) + "\n")


def read_json(path: pathlib.Path, kind: Any = dict[str, Any], *, missing_ok: bool = False,
              advice: str = STAGE_AGAIN) -> Any:
    """The value of a JSON file.

    Args:
      path: path of the file.
      kind: type of its value; see :func:`~.strict_json.parse_json`.
      missing_ok: return None if the file does not exist.
      advice: the next step, for the error.

    Raises:
      UserError: the file cannot be read, or its value does not fit ``kind``.
    """
    try:
        if missing_ok and not path.exists():
            return None
        return parse_json(path.read_text(encoding="utf-8"), kind)
    except ConfigError as error:
        raise UserError(f"{path}: {str(error).removesuffix('.')}; {advice}.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {advice}.") from None


def open_tensors(path: pathlib.Path) -> Any:
    """Open a safetensors file of a checkpoint, mapped into memory; as a context manager it is closed afterwards.

    Raises:
      UserError: the file is missing or incomplete.
    """
    try:
        return safe_open(path, "np")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a complete safetensors file ({error}); copy the checkpoint again.") from None
