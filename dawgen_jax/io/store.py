"""Artefacts of a run directory: named folders that appear whole or not at all, each made by one process at a time.

``RUN/KIND/NAME-HASH/`` is finished; ``RUN/KIND/.NAME-HASH.partial/`` is unfinished work that a restart goes on with.
The hash covers what the stage read, so that a change of an unrelated field reuses the artefact. Where several processes
run one program, the leader's hand is the only one that touches the directory (parts of a shard apart, which are joined
by it), and the others see what it sees.

Several processes may work in one run directory. A process that makes an artefact holds its *claim*, a lock on the file
``KIND/.claims/NAME-HASH`` that the operating system drops when the process ends in whatever way: no claim is stale. Who
finds an artefact claimed waits and then finds it finished, or, where its maker died, goes on with its work.
(The lock is ``fcntl``'s: it needs a file system that keeps such locks between the machines that share it, as NFSv4 and
Lustre do.)
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import pathlib
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dawgen_jax.config import digest
from dawgen_jax.errors import UserError
from dawgen_jax.io import world
from dawgen_jax.io.files import aside

__all__ = ["artefact", "claim", "discard", "exists", "finish", "partial", "unfinished_group"]

log = logging.getLogger(__name__)

_SILENT = 3.0
"""Seconds after which a process says that it waits for a claim."""
_LONGEST = 150
"""Characters of an artefact's name: file systems take 255, hash and marks included."""


def artefact(root: pathlib.Path, kind: str, name: str, key: str) -> pathlib.Path:
    """The folder of an artefact; it exists exactly if the artefact is finished. Of a long name the start is shown."""
    shown = re.sub("[^A-Za-z0-9._+-]+", "_", name).strip("_")
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}-{digest(name)}"
    return root / kind / f"{shown}-{key}"


@contextlib.contextmanager
def claim(folder: pathlib.Path) -> Iterator[None]:
    """Hold the claim on an artefact inside the block, which is entered once its holder, if there is one, lets go.

    Args:
      folder: of the artefact.

    Raises:
      UserError: the file system keeps no locks.
    """
    path = folder.parent / ".claims" / folder.name  # never removed: a waiting process may have it open
    with contextlib.ExitStack() as held:
        def lock() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(path.open("a"))
            late = threading.Timer(_SILENT, log.warning, ("%s: waiting for another process that works on it.", folder))
            late.daemon = True
            late.start()
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                raise UserError(f"{path}: cannot be locked ({error.strerror}); give a run directory on a file system "
                                "that keeps locks.") from error
            finally:
                late.cancel()

        world.led(lock)
        yield


def exists(path: pathlib.Path) -> bool:
    """Whether a finished artefact, or a file, is there: what the leader sees."""
    return world.led(path.exists)


def partial(folder: pathlib.Path) -> pathlib.Path:
    """The folder of an artefact's unfinished work; made where it does not exist.

    Raises:
      UserError: a symbolic link has its name, through which the work would be written elsewhere.
    """
    unfinished = folder.with_name(f".{folder.name}.partial")

    def make() -> None:
        if unfinished.is_symlink():
            raise UserError(f"{unfinished}: is a symbolic link, and unfinished work is kept in the run directory "
                            "alone; remove the link.")
        unfinished.mkdir(parents=True, exist_ok=True)

    world.led(make)
    return unfinished


def unfinished_group(root: pathlib.Path, kind: str, name: str, wanted: Sequence[Any], folder_of: Callable[[Any], Any],
                     key_of: Callable[[Any], str]) -> list[Any]:
    """What is to be made together: all of ``wanted`` if that was begun already, else those that are not finished.

    Args:
      root: the run directory.
      kind: of the artefacts.
      name: of the group.
      wanted: what is made in one program, where nothing is finished.
      folder_of: one -> the folder of its artefact.
      key_of: one -> its key.
    """
    missing = [one for one in wanted if not exists(folder_of(one))]
    begun = artefact(root, kind, name, digest([key_of(one) for one in wanted]))
    whole = missing and exists(begun.with_name(f".{begun.name}.partial"))
    return list(wanted) if whole else missing


def discard(folder: pathlib.Path) -> None:
    """Remove an artefact's unfinished work, where there is any."""
    world.led(lambda: shutil.rmtree(folder.with_name(f".{folder.name}.partial"), ignore_errors=True))


def finish(folder: pathlib.Path, fill: Callable[[pathlib.Path], None]) -> None:
    """Publish an artefact: ``fill`` writes into a fresh folder, which is then renamed.

    A finished artefact is never overwritten: where it exists already, nothing happens.
    """
    world.led(functools.partial(_finish, folder, fill))


def _finish(folder: pathlib.Path, fill: Callable[[pathlib.Path], None]) -> None:
    if folder.exists():
        return
    fresh = aside(folder, "filling")
    fresh.mkdir(parents=True)
    try:
        fill(fresh)
        try:
            os.rename(fresh, folder)
        except OSError:
            if not folder.exists():  # else another process has published the same meanwhile
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
