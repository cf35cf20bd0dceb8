"""Artefacts of a run directory: named folders that appear whole or not at all, each made by one process at a time.

``RUN/KIND/NAME-HASH/`` is finished; ``RUN/KIND/.NAME-HASH.partial/`` is unfinished work, which a restart resumes. The
hash covers the stage's revision and everything that the stage read, so that a change of an unrelated field reuses the
artefact. If several processes run one program, only the leader touches the directory (except for parts of a shard,
which it joins), and the others see what it sees.

Several programs may work in one run directory. A program holds a lock on the file ``KIND/.claims/NAME`` while it makes
artefacts; the operating system releases it when the process ends, however it ends, so that no lock is stale. A second
program blocks until the lock is released, then reuses the result or resumes the work. (The lock is ``fcntl``'s: it
needs a file system that keeps such locks between the machines that share it, as NFSv4 and Lustre do.)
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
from collections.abc import Callable, Iterable, Iterator, Sequence

from dawgen_jax.config import digest
from dawgen_jax.errors import UserError
from dawgen_jax.io import world
from dawgen_jax.io.files import aside

__all__ = ["Fill", "artefact", "build", "claim", "exists", "finish"]

log = logging.getLogger(__name__)

_SILENT = 3.0
"""Seconds after which a process says that it waits for a lock."""
_LONGEST = 150
"""Characters of an artefact's name: file systems take 255, hash and marks included."""

Fill = Callable[[pathlib.Path], None]
"""Writes the files of an artefact into a folder."""


def artefact(root: pathlib.Path, kind: str, name: str, key: str) -> pathlib.Path:
    """The folder of an artefact, which exists exactly if the artefact is finished; a long name is cut."""
    shown = re.sub("[^A-Za-z0-9._+-]+", "_", name).strip("_")
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}-{digest(name)}"
    return root / kind / f"{shown}-{key}"


def build(folders: Sequence[pathlib.Path], make: Callable[[list[int], pathlib.Path], Iterable[Fill]], *,
          group: pathlib.Path | None = None) -> None:
    """Make the artefacts that are missing in one program, or resume where a program was interrupted.

    Args:
      folders: of the artefacts, all of one kind.
      make: (positions of those to make, a folder for unfinished work) -> what fills the folder of each, in order.
      group: names the lock; by default it is the first artefact's.

    Raises:
      UserError: the file system keeps no locks, or a symbolic link has the name of the unfinished work.
    """
    group = group or folders[0]

    def work_of(those: Sequence[pathlib.Path]) -> pathlib.Path:
        return group.with_name(f".{group.name}-{digest([one.name for one in those])}.partial")

    with claim(group):
        missing = world.led(lambda: [place for place, one in enumerate(folders) if not one.exists()])
        if missing and exists(work_of(folders)):
            missing = list(range(len(folders)))  # killed while it published: its checkpoint has the state of all
        if missing:
            work = work_of([folders[place] for place in missing])
            world.led(functools.partial(_open, work))
            for place, fill in zip(missing, make(missing, work), strict=True):
                finish(folders[place], fill)
            world.led(functools.partial(shutil.rmtree, work, ignore_errors=True))
        world.led(functools.partial(shutil.rmtree, work_of(folders), ignore_errors=True))  # killed before this line


def _open(work: pathlib.Path) -> None:
    if work.is_symlink():
        raise UserError(f"{work}: is a symbolic link, but unfinished work is kept inside the run directory; remove the "
                        "link.")
    work.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def claim(folder: pathlib.Path) -> Iterator[None]:
    """Hold the lock of a folder inside the block, which is entered when no other process holds it.

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


def finish(folder: pathlib.Path, fill: Fill) -> None:
    """Publish an artefact: ``fill`` writes into a fresh folder, which is then renamed.

    A finished artefact is never overwritten: if it exists already, nothing happens.
    """
    world.led(functools.partial(_finish, folder, fill))


def _finish(folder: pathlib.Path, fill: Fill) -> None:
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
