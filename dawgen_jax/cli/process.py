"""Process-level behaviour of all commands: exit statuses, signals, logging, the compilation cache, several processes.

    0    done; or stopped by SIGTERM in a training loop after saving progress (--stopped-status sets another status)
    1    internal error, with a traceback
    2    invalid input, or a part of a run failed; a message names it
    130  stopped by Ctrl-C
    141  the output is no longer read (``| head``)
    143  stopped by SIGTERM outside of a training loop; the same command resumes

Python runs signal handlers between bytecode instructions, so a signal during a compilation takes effect when the
compilation ends.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from dawgen_jax.errors import UserError
from dawgen_jax.io import world
from dawgen_jax.io.files import storage_fault
from dawgen_jax.io.terminal import printable
from dawgen_jax.io.world import Processes

__all__ = ["EXITS", "guard", "start", "take_processes"]

EXITS = ("Exit status: 0 done; 2 a mistake in what was given, or a part that failed; 130 and 143 stopped by Ctrl-C and "
         "SIGTERM (the same command resumes); 1 a fault of the program.")
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_STOPPED = "stopped; the same command resumes from what is finished or checkpointed."
_UNREAD = 128 + signal.SIGPIPE


class _Plain(logging.Formatter):
    """Log lines without control characters, which paths and data may contain."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, with control characters escaped."""
        return printable(super().format(record), lines=True)


def _integer(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """A parser of integers in a range."""
    def read(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= int(text) <= most:
                return int(text)
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not an integer from {least} to {most}")

    return read


def take_processes(argv: Sequence[str]) -> tuple[Processes, list[str]]:
    """Separate the options about processes from the other words of a command.

    ``--coordinator HOST:PORT --num-processes N --process-id I --local-device-ids 0,1,2,3``; JAX finds omitted values on
    Cloud TPU, GKE, Slurm, Open MPI 4 and Kubernetes.

    Raises:
      UserError: a value is out of range.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    ids = {"type": lambda text: tuple(map(_integer(0), text.split(","))), "default": ()}
    for name, options in (("coordinator", {}), ("num-processes", {"type": _integer(1)}),
                          ("process-id", {"type": _integer(0)}), ("local-device-ids", ids),
                          ("initialization-timeout", {"type": _integer(1), "default": 300}),
                          ("stopped-status", {"type": _integer(0, 255), "default": 0})):
        parser.add_argument(f"--{name}", **options)
    try:
        given, rest = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise UserError(f"{error.argument_name}: {error.message}; for instance --coordinator 10.0.0.1:8476 "
                        "--num-processes 4 --process-id 0.") from None
    return Processes(given.coordinator, given.num_processes, given.process_id, given.local_device_ids,
                     given.initialization_timeout, given.stopped_status), rest


def start(argv: Sequence[str] | None = None) -> list[str]:
    """Set up logging, the compilation cache and, if there are several, the processes of the program.

    Args:
      argv: the words of the command; None does not connect to other processes.

    Returns:
      The words without the options of :func:`take_processes`.

    Raises:
      UserError: the options about processes are out of range or contradictory.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)  # libraries also install handlers
    logging.getLogger("dawgen_jax").setLevel(logging.INFO)
    for name in ("absl", "asyncio"):  # orbax logs errors with a traceback before raising them
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if argv is not None and {"-h", "--help", "--help-all"} & set(argv):
        return list(argv)  # help does not need JAX
    import jax

    if not jax.config.jax_compilation_cache_dir:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "dawgen_jax", "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    if argv is None:
        return []
    processes, rest = take_processes(argv)
    world.initialize(processes)
    if not world.leads():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for the rest of the process)
        logging.getLogger("dawgen_jax").setLevel(logging.ERROR)
    elif world.count() > 1:
        print(world.topology(), file=sys.stderr, flush=True)
    return rest


def _catch_signals() -> list[int]:
    """Make SIGTERM and Ctrl-C end the program by SystemExit; further signals are then ignored.

    SIGTERM in a training loop sets a flag that the loop reads, so that it saves its progress first.

    Returns:
      A list to which the signal is appended.
    """
    received: list[int] = []

    def stop(number: int, frame: object) -> None:
        del frame
        for each in _STOPPING:
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGTERM and world.tell_to_stop():
            return
        received.append(number)
        sys.exit(128 + number)

    for each in _STOPPING:
        signal.signal(each, stop)
    return received


def _unread(error: BaseException | None) -> bool:
    """Whether the reader of standard output has gone; buffered output is then dropped."""
    try:
        sys.stdout.flush()
        gone = select.poll()
        gone.register(1, 0)
        broken = isinstance(error, BrokenPipeError) and bool(gone.poll(0))
    except BrokenPipeError:
        broken = True
    if broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return broken or (error is not None and isinstance(error.__context__, BrokenPipeError))  # Rich raises SystemExit


def guard(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    """Run a program; an expected error ends it with a message on standard error and the exit statuses above.

    If several processes run the program, a failure of one ends the others.

    Args:
      main: the program.
      argv: words of the command line.
    """
    received = _catch_signals()
    try:
        main(argv)
        if _unread(None):
            sys.exit(_UNREAD)
    except BaseException as error:
        status = _status(error, received)
        if status and world.count() > 1 and not isinstance(error, world.Stopped):  # otherwise the others would wait
            if status == 1:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(status)
        if status == 1:
            raise
        sys.exit(status)


def _status(error: BaseException, received: Sequence[int]) -> int:
    """The exit status of an error; prints the message of an expected error, and returns 1 for others."""
    if isinstance(error, world.Stopped):
        if world.leads():
            print(_STOPPED, file=sys.stderr)
        return int(error.code or 0)
    if received:  # even if a library turned the SystemExit into another exception
        print(_STOPPED, file=sys.stderr)
        return 128 + received[0]
    if isinstance(error, OSError) and error.filename:
        error = UserError(f"{error.filename}: {error.strerror}; correct that, or name another path.")
    elif isinstance(error, Exception) and (fault := storage_fault(error)):
        error = UserError(f"{fault}: free some space, or name another path; the same command resumes.")
    unread = _unread(error)
    if isinstance(error, UserError):
        print(f"error: {printable(error)}", file=sys.stderr)
        return 2
    if unread and isinstance(error, BrokenPipeError | SystemExit):
        return _UNREAD
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 1
