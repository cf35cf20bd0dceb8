"""Cache of downloaded and converted backbones; a folder exists only if it is complete.

The cache is DAWGEN_CACHE, or dawgen_jax under XDG_CACHE_HOME (~/.cache by default).
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
from collections.abc import Callable

from dawgen_jax.errors import UserError

__all__ = ["build", "folder"]


def folder(name: str) -> pathlib.Path:
    """The folder of a cached backbone, which exists only if it is complete."""
    root = os.environ.get("DAWGEN_CACHE")
    base = pathlib.Path(root) if root else pathlib.Path(
        os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "dawgen_jax"
    return base / "backbones" / name


def build(name: str, fill: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """The folder of a cached backbone, filled if it does not exist.

    One process fills it while others wait. The remains of an interrupted run are removed.

    Args:
      name: name of the folder.
      fill: writes into an empty folder, which is then renamed.

    Raises:
      UserError: the cache cannot be written.
    """
    done = folder(name)
    if done.is_dir():
        return done
    unfinished = done.with_name(f".{name}.partial")
    try:
        done.parent.mkdir(parents=True, exist_ok=True)
        lock = done.with_name(f".{name}.lock").open("a")
    except OSError as error:
        raise UserError(f"{done.parent}: cannot be written ({error.strerror}); set DAWGEN_CACHE to another folder."
                        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the operating system releases it even if the process is killed
        if done.is_dir():
            return done
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unfinished.mkdir()
            fill(unfinished)
            unfinished.rename(done)
        except OSError as error:
            raise UserError(f"{unfinished}: cannot be written ({error.strerror}); free some space, or set DAWGEN_CACHE "
                            "to another folder.") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return done
