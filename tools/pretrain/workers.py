"""Processes that write text for another process, and their termination. They import this module and need no JAX."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process

__all__ = ["ctrl_c_blocked", "pool"]


def pool(workers: int) -> ProcessPoolExecutor:
    """A pool of fresh processes that end with this process, however it ends."""
    return ProcessPoolExecutor(workers, get_context("spawn"), _follow_parent)


def _follow_parent() -> None:
    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """Processes started in this block ignore Ctrl-C, which a terminal sends to all; their parent ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
