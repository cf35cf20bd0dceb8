"""What the programs share: config files, one command-line parser, errors of one sentence, the compilation cache."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
import pathlib
import re
import runpy
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import tyro

from dawgen_jax.config import Config, UserError, fields_of
from dawgen_jax.io.files import storage_fault
from dawgen_jax.io.terminal import printable

__all__ = ["guard", "load_config", "parse", "parse_with", "start"]

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_STOPPED = "stopped; the same command goes on from what is finished or checkpointed."
_GRACE = 10.0
"""Seconds from a signal to the end; schedulers wait for 30 before they kill."""

_DATA = re.compile("^--data(?=$|=)")
"""The short name of --own.data, the one file that most users have."""

AnyConfig = TypeVar("AnyConfig")
Extra = TypeVar("Extra")


def load_config(path: str, kind: type[AnyConfig] = Config) -> AnyConfig:
    """The config that ``get_config()`` of a Python file returns.

    Args:
      path: of the file. Config files may import each other: ``from configs import mini``.
      kind: of config that it must be.

    Raises:
      UserError: no such file, it raises an error, or it has no get_config that returns a config of that kind.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        if file.is_dir():
            raise UserError(f"{path}: is a folder; name a config file in it.")
        known = ", ".join(sorted(str(other) for other in pathlib.Path("configs").glob("*.py")))
        raise UserError(f"{path}: no such config file; there are: {known or 'none in configs/'}.")
    root = str(file.resolve().parent.parent)  # of configs/, whatever the working directory
    sys.path.insert(0, root)
    try:
        get_config = runpy.run_path(path).get("get_config")
        if not callable(get_config):
            raise UserError("has no get_config(); define one that returns a dawgen_jax.config.Config.")
        config = get_config()
    except UserError as error:
        raise type(error)(f"{path}: {error}") from None
    except SyntaxError as error:
        raise UserError(f"{error.filename or path}:{error.lineno or 1}: {error.msg}; mend the config file.") from None
    except Exception as error:  # of the user's own code
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        place, told = f"{path}:{lines[-1]}" if lines else path, " ".join(str(error).split())
        wrong_field = isinstance(error, TypeError)
        advice = "compare the fields in dawgen_jax/config.py" if wrong_field else "mend the config file"
        raise UserError(f"{place}: {type(error).__name__}: {told}; {advice}.") from None
    finally:
        sys.path.remove(root)
    if not isinstance(config, kind):
        raise UserError(f"{path}: get_config() returned {type(config).__name__}, not a "
                        f"{kind.__module__}.{kind.__name__}.")
    return config


def parse(argv: Sequence[str], description: str) -> tuple[Config, pathlib.Path]:
    """``CONFIG.py [--out DIR] [--field.sub value ...]`` -> (config, run directory)."""
    config, out, _ = parse_with(argv, description, None)
    return config, out


def parse_with(argv: Sequence[str], description: str, extra: Extra, kind: type[AnyConfig] = Config
               ) -> tuple[AnyConfig, pathlib.Path, Extra]:
    """``CONFIG.py [--out DIR] [--field.sub value ...] [--more value ...]`` -> (config, run directory, extra).

    The directory is DIR, else runs/NAME with the config's name, or its file's where it has none.

    Args:
      argv: the words behind the program.
      description: of the program.
      extra: a dataclass with the program's own options at their defaults, or None.
      kind: of config.

    Raises:
      UserError: an unknown field (the nearest name is given) or a value out of range.
    """
    argv = list(argv)
    if not argv or argv[0].startswith("-"):
        if not {"-h", "--help"} & set(argv):
            raise UserError("give a config file first: CONFIG.py [--out DIR] [--field.sub value ...]; for instance "
                            "configs/mini.py.")
        config, rest, description = kind(), ["--help"], f"{description} Give a config file first."
    else:
        config, rest = load_config(argv[0], kind), [_DATA.sub("--own.data", word) for word in argv[1:]]
    known = [*fields_of(config), *(fields_of(extra) if extra else {}), "out", "help"]
    for word in rest:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name not in known:
            near = difflib.get_close_matches(name, known, 1, 0)[0]
            raise UserError(f"--{name}: no such field; the nearest is --{near} (--help lists all).")
    parts = {"out": (Annotated[pathlib.Path | None, tyro.conf.arg(help="The run directory (runs/NAME).")], None),
             "config": (Annotated[kind, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff], config)}
    if extra:
        parts["extra"] = (Annotated[type(extra), tyro.conf.arg(name="")], extra)
    program = dataclasses.make_dataclass("Program", [
        (name, annotation, dataclasses.field(default=default)) for name, (annotation, default) in parts.items()],
        frozen=True)
    if rest[-1:] == ["--out"]:
        raise UserError("--out: give the run directory after it.")
    parsed: Any = tyro.cli(program, args=rest, description=description, config=(tyro.conf.FlagCreatePairsOff,))
    name = getattr(config, "name", "") or pathlib.Path(argv[0]).stem
    out = parsed.out or pathlib.Path("runs") / (getattr(parsed.config, "name", "") or name)
    return parsed.config, out, getattr(parsed, "extra", None)


class _Plain(logging.Formatter):
    """Log lines that carry no control characters from paths or data."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, its control characters shown as escapes."""
        return printable(super().format(record), lines=True)


def start() -> None:
    """Process-wide settings of a program: plain log lines and the persistent compilation cache."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)  # libraries set one as well
    logging.getLogger("dawgen_jax").setLevel(logging.INFO)
    import jax  # the processes that write pre-training text import the programs too, and need no JAX

    if not jax.config.jax_compilation_cache_dir:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "dawgen_jax", "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def _catch_signals() -> list[int]:
    """Let SIGTERM and Ctrl-C end the program, in whatever code they meet it.

    The first of them raises SystemExit; the others are ignored then. Where that does not end the program in
    ``_GRACE`` seconds, since it compiles or has caught the exception, a thread does: what is on disk is whole at any
    moment.

    Returns:
      a list that will hold the signal.
    """
    received: list[int] = []

    def stop(number: int, frame: object) -> None:
        del frame
        for each in _STOPPING:
            signal.signal(each, signal.SIG_IGN)
        received.append(number)
        sys.exit(128 + number)

    def watch() -> None:
        number = ours.recv(1)[0]  # written by the interpreter as the signal arrives, before any Python code runs
        time.sleep(_GRACE)
        print(_STOPPED, file=sys.stderr, flush=True)
        os._exit(128 + number)

    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    threading.Thread(target=watch, daemon=True).start()
    for each in _STOPPING:
        signal.signal(each, stop)
    signal.set_wakeup_fd(theirs.detach(), warn_on_full_buffer=False)
    return received


def guard(main: Callable[[list[str]], None]) -> None:
    """Run a program whose every foreseen end is one sentence on standard error, without a traceback.

    A user's mistake, or a path that cannot be used, ends with status 2, SIGTERM with 143 and Ctrl-C with 130.
    """
    received = _catch_signals()
    try:
        start()
        main(sys.argv[1:])
    except BaseException as error:
        if received:  # whatever became of its exception on the way
            print(_STOPPED, file=sys.stderr)
            sys.exit(128 + received[0])
        if isinstance(error, OSError) and error.filename:
            error = UserError(f"{error.filename}: {error.strerror}; mend that, or name another path.")
        elif isinstance(error, Exception) and (fault := storage_fault(error)):
            error = UserError(f"{fault}: make room, or name another path, and the same command goes on.")
        if not isinstance(error, UserError):
            raise
        print(f"error: {printable(error)}", file=sys.stderr)
        sys.exit(2)
