"""What the programs share: config files, one command-line parser, errors of one sentence, the compilation cache.

Exit status of every program:

    0    done; or told by SIGTERM to stop in a training loop, whose progress is saved: the same command goes on
         (another status with --stopped-status, for clusters that start again only what failed)
    1    a fault of the program itself; the traceback says where
    2    a mistake in what was given, or a part of a grid failed while the rest went on; one sentence says which
    130  stopped by Ctrl-C
    141  nobody reads what is printed any more (``| head``)
    143  stopped by SIGTERM; the same command goes on from what is finished or checkpointed
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import io
import logging
import os
import pathlib
import re
import runpy
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

import tyro

from dawgen_jax.config import Config, fields_of, shown
from dawgen_jax.errors import UserError
from dawgen_jax.io import world
from dawgen_jax.io.files import storage_fault
from dawgen_jax.io.terminal import printable
from dawgen_jax.io.world import Processes

__all__ = ["Common", "apply", "guard", "help_of", "load_config", "parse", "parse_options", "parse_with",
           "shipped_configs", "start", "take_processes"]

EXITS = ("Exit status: 0 done; 1 a fault of the program (with a traceback); 2 a mistake in what was given, or a part "
         "that failed (one sentence says which); 130 stopped by Ctrl-C, 143 by SIGTERM (0, or --stopped-status, in "
         "a training loop, whose progress is saved), 141 by | head.\n\n"
         "One of several processes that run it together is told --coordinator HOST:PORT, --num-processes N, "
         "--process-id I and --local-device-ids 0,1, where its launcher does not say so; they wait for "
         "each other for --initialization-timeout 300 seconds.")
CONFIGS = pathlib.Path(__file__).parents[1] / "configs"

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_STOPPED = "stopped; the same command goes on from what is finished or checkpointed."
_UNREAD = 128 + signal.SIGPIPE
_GRACE, _PATIENCE = 10.0, 120.0
"""Seconds from a signal to the end, of a program and of a training loop that was told to save its progress: a step may
take longer than the 30 s that schedulers wait by themselves before they kill."""

_OWN = re.compile("^--(?=(data|columns|label)($|=))")
"""In front of short names of own.data, own.columns and own.label: what most users must say of their file."""

AnyConfig = TypeVar("AnyConfig")
Extra = TypeVar("Extra")
Options = TypeVar("Options")


@dataclasses.dataclass(frozen=True)
class Common:
    """Options of all programs that compute."""

    quiet: bool = False
    """No plan and no progress: results, warnings and errors alone."""
    device: Literal["", "cpu", "gpu", "tpu"] = ""
    """Compute on this kind of device; empty takes the best that is there."""


@dataclasses.dataclass(frozen=True)
class Seeded(Common):
    """Options of the programs that run a configuration's seeds."""

    seed: int | None = None
    """This seed alone, in place of the configuration's seeds."""


def apply(common: Common) -> None:
    """Do as the options of all programs say; to be called before anything asks JAX for a device.

    Raises:
      UserError: there is no such device.
    """
    if common.quiet and world.leads():  # the others are quieter
        logging.getLogger("dawgen_jax").setLevel(logging.WARNING)
    if common.device:
        import jax

        names = {"cpu": "cpu", "gpu": "cuda,cpu", "tpu": "tpu,cpu"}
        jax.config.update("jax_platforms", names[common.device])
        try:
            found = jax.devices()[0].platform
        except RuntimeError:  # the plugin is not installed, or does not start
            found = ""
        if found != common.device:
            raise UserError(f"--device {common.device}: JAX finds none here; install its support (pip install "
                            "'dawgen-jax[cuda]' or 'dawgen-jax[tpu]'), or leave the option out.")


def help_of(argv: Sequence[str], text: str | None) -> None:
    """Print ``text`` and end, where ``argv`` asks for help: for programs that take words and no options."""
    if {"-h", "--help"} & set(argv):
        print(f"{text}\n{EXITS}")
        sys.exit(0)


def parse_options(argv: Sequence[str], kind: type[Options], description: str | None, first: str = "") -> Options:
    """The options of a program as a dataclass of that kind; ends where help is asked for.

    Args:
      argv: the words behind the program, and behind ``first``.
      kind: of dataclass.
      description: of the program.
      first: what help names in front of the options.

    Raises:
      UserError: a word is unknown or missing, or a value does not fit its option.
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(kind, prog=f"{sys.argv[0]} {first}".strip(), args=argv,
                            description=f"{description}\n\n{EXITS}", config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as ended:
        if ended.code != 2:
            raise
        raise UserError(_sentence(told.getvalue())) from None


def _sentence(box: str) -> str:
    """What the parser of options says in a box of many lines, without what --help says as well."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", box)
    lines = "\n".join(line[2:].rstrip(" │") for line in plain.splitlines()[1:-1])
    listed = re.sub(r"(?<!:)\n {4}(?=\S)", ", ", re.sub(r"\n {8}.*", "", lines))  # options, each with its help below it
    sections = [" ".join(section.split()) for section in re.split(r"(?:^|\n)[─-]{9,}\n", listed)]
    told = [each for each in sections if each and not each.startswith(("Argument helptext", "For full helptext"))]
    said = "; ".join(told).removeprefix("Error parsing ").replace(". Expected", ", expected").rstrip(".")
    return f"{said if len(said) <= 400 else said[:400] + '...'} (--help lists all)."


def shipped_configs() -> list[str]:
    """Names of the configs that come with the programs: 'mini' of configs/mini.py."""
    return sorted(path.stem for path in CONFIGS.glob("[a-z]*.py"))


def load_config(path: str, kind: type[AnyConfig] = Config) -> AnyConfig:
    """The config that ``get_config()`` of a Python file returns.

    Args:
      path: of the file, or the name of one that is shipped ('mini'). Config files may import each other:
        ``from configs import mini``.
      kind: of config that it must be.

    Raises:
      UserError: no such file, it raises an error, or it has no get_config that returns a config of that kind.
    """
    file = CONFIGS / f"{path}.py" if path in shipped_configs() else pathlib.Path(path)
    if not file.is_file():
        if file.is_dir():
            raise UserError(f"{path}: is a folder, not a config; give one first, for instance mini, and folders behind "
                            "it (--help says with which options).")
        raise UserError(f"{path}: no such config file, and the shipped ones are {', '.join(shipped_configs())}.")
    root = str(file.resolve().parent.parent)  # of configs/, whatever the working directory
    sys.path.insert(0, root)
    try:
        get_config = runpy.run_path(str(file)).get("get_config")
        if not callable(get_config):
            raise UserError("has no get_config(); define one that returns a dawgen_jax.config.Config.")
        config = get_config()
    except UserError as error:
        raise type(error)(f"{path}: {error}") from None
    except SyntaxError as error:
        raise UserError(f"{error.filename or path}:{error.lineno or 1}: {error.msg}; mend the config file.") from None
    except Exception as error:  # of the user's own code
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        place, told = f"{path}:{lines[-1]}" if lines else path, " ".join(str(error).split())
        raise UserError(f"{place}: {type(error).__name__}: {told}; mend the config file.") from None
    finally:
        sys.path.remove(root)
    if not isinstance(config, kind):
        raise UserError(f"{path}: get_config() returned {type(config).__name__}, not a "
                        f"{kind.__module__}.{kind.__name__}.")
    return config


def parse(argv: Sequence[str], description: str | None) -> tuple[Config, pathlib.Path]:
    """``CONFIG.py [--out DIR] [--field.sub value ...]`` -> (config, run directory)."""
    config, out, _ = parse_with(argv, description, None)
    return config, out


def parse_with(argv: Sequence[str], description: str | None, extra: Extra, kind: type[AnyConfig] = Config
               ) -> tuple[AnyConfig, pathlib.Path, Extra]:
    """``CONFIG.py [--out DIR] [--field.sub value ...] [--more value ...]`` -> (config, run directory, extra).

    The directory is DIR, else runs/NAME with the config's name, or its file's where it has none. The options of all
    programs (:class:`Common`, ``--seed``) are read and applied.

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
                            "configs/mini.py, or the name of a shipped one: mini.")
        config, rest = kind(), ["--help"]
    else:
        config, rest = load_config(argv[0], kind), [_OWN.sub("--own.", word) for word in argv[1:]]
    common = Seeded() if hasattr(config, "seeds") else Common()
    known = [*fields_of(config), *(fields_of(extra) if extra else {}), *fields_of(common), "out", "help"]
    for word in rest:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name not in known:
            near = difflib.get_close_matches(name, known, 1, 0)[0]
            raise UserError(f"--{name}: no such field; the nearest is --{near} (--help lists all).")
    parts: dict[str, tuple[Any, Any]] = {
        "out": (Annotated[pathlib.Path | None, tyro.conf.arg(help="The run directory (runs/NAME).")], None),
        "config": (Annotated[kind, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff], config)}
    for name, options in (("common", common), ("extra", extra)):
        if options:
            own = type(options)
            parts[name] = (Annotated[own, tyro.conf.arg(name="")], options)
    program = dataclasses.make_dataclass("Program", [
        (name, annotation, dataclasses.field(default=default)) for name, (annotation, default) in parts.items()],
        frozen=True)
    if rest[-1:] == ["--out"]:
        raise UserError("--out: give the run directory after it.")
    parsed: Any = parse_options(rest, program, description, "CONFIG")
    apply(parsed.common)
    config = parsed.config
    if getattr(parsed.common, "seed", None) is not None:
        config = dataclasses.replace(config, seeds=(parsed.common.seed,))
    out = parsed.out or pathlib.Path("runs") / (getattr(config, "name", "") or pathlib.Path(argv[0]).stem)
    return config, out, getattr(parsed, "extra", None)


class _Plain(logging.Formatter):
    """Log lines that carry no control characters from paths or data."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, its control characters shown as escapes."""
        return printable(super().format(record), lines=True)


def _whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """What reads a whole number of a range from the command line."""
    def read(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= int(text) <= most:
                return int(text)
        raise argparse.ArgumentTypeError(f"{shown(text)} is no whole number from {least} to {most}")

    return read


def take_processes(argv: Sequence[str]) -> tuple[Processes, list[str]]:
    """What a command says of the other processes of its program, and its other words.

    ``--coordinator HOST:PORT --num-processes N --process-id I --local-device-ids 0,1,2,3`` may stand anywhere in front
    of ``--``; what is left out, JAX finds itself on Cloud TPU, GKE, Slurm, Open MPI and Kubernetes.

    Raises:
      UserError: a value is none.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    ids = {"type": lambda text: tuple(map(_whole(0), text.split(","))), "default": ()}
    for name, options in (("coordinator", {}), ("num-processes", {"type": _whole(1)}),
                          ("process-id", {"type": _whole(0)}), ("local-device-ids", ids),
                          ("initialization-timeout", {"type": _whole(1), "default": 300}),
                          ("stopped-status", {"type": _whole(0, 255), "default": 0})):
        parser.add_argument(f"--{name}", **options)
    end = argv.index("--") if "--" in argv else len(argv)
    try:
        told, rest = parser.parse_known_args(list(argv[:end]))
    except argparse.ArgumentError as error:
        raise UserError(f"{error.argument_name}: {error.message}; give one, for instance --coordinator 10.0.0.1:8476 "
                        "--num-processes 4 --process-id 0.") from None
    return Processes(told.coordinator, told.num_processes, told.process_id, told.local_device_ids,
                     told.initialization_timeout, told.stopped_status), [*rest, *argv[end:]]


def start(argv: Sequence[str] | None = None) -> list[str]:
    """Process-wide settings of a program: its processes, plain log lines and the persistent compilation cache.

    Args:
      argv: the words behind the program; None joins no other processes.

    Returns:
      the words that are left: those of :func:`take_processes` are gone.

    Raises:
      UserError: what is said of the other processes is out of range or does not fit together. (Where they are not
        there in time, :func:`~dawgen_jax.io.world.initialize` ends the program with a sentence and status 2.)
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)  # libraries set one as well
    logging.getLogger("dawgen_jax").setLevel(logging.INFO)
    for name in ("absl", "asyncio"):  # of checkpoints they repeat, with tracebacks, what is raised as well
        logging.getLogger(name).setLevel(logging.CRITICAL)
    import jax  # the processes that write pre-training text import the programs too, and need no JAX

    if not jax.config.jax_compilation_cache_dir:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "dawgen_jax", "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    if argv is None:
        return []
    processes, rest = take_processes(argv)
    world.initialize(processes)
    if not world.leads():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for good)
        logging.getLogger("dawgen_jax").setLevel(logging.ERROR)
    elif world.count() > 1:
        print(world.topology(), file=sys.stderr, flush=True)
    return rest


def _catch_signals() -> list[int]:
    """Let SIGTERM and Ctrl-C end the program, in whatever code they meet it.

    The first of them raises SystemExit; the others are ignored then. (SIGTERM in a training loop waits until the loop
    has saved its progress. Where several processes run the program JAX takes it, and tells all of them.) Where that
    does not end the program in ``_GRACE`` seconds, since it compiles or has caught the exception, or the loop in
    ``_PATIENCE``, a thread does: what is on disk is whole at any moment.

    Returns:
      a list that will hold the signal.
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

    def watch() -> None:
        while (number := ours.recv(1)[0]) not in _STOPPING:  # written as a signal arrives, before any Python code runs
            pass
        saves = number == signal.SIGTERM and world.listens()
        time.sleep(_PATIENCE if saves else _GRACE)
        print(_STOPPED, file=sys.stderr, flush=True)
        os._exit(128 + number)

    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    threading.Thread(target=watch, daemon=True).start()
    for each in _STOPPING:
        signal.signal(each, stop)
    signal.set_wakeup_fd(theirs.detach(), warn_on_full_buffer=False)
    return received


def _unread(error: BaseException | None) -> bool:
    """Whether nobody reads standard output any more; what is still to be written to it is then dropped."""
    try:
        sys.stdout.flush()
        gone = select.poll()
        gone.register(1, 0)
        broken = isinstance(error, BrokenPipeError) and bool(gone.poll(0))
    except BrokenPipeError:
        broken = True
    if broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return broken or (error is not None and isinstance(error.__context__, BrokenPipeError))  # Rich has seen to it


def guard(main: Callable[[list[str]], None], prepare: Callable[[list[str]], list[str]] = start) -> None:
    """Run a program whose every foreseen end is one sentence on standard error, without a traceback.

    A user's mistake, or a path that cannot be used, ends with status 2, SIGTERM with 143 (0 where all progress was
    saved for it) and Ctrl-C with 130; with 141 where the output goes to a program that has ended (``| head``). Where
    several processes run the program, one that does not end well ends the others.

    Args:
      main: the program; it is given the words of the command line that are left.
      prepare: words -> those that are left, once process-wide settings are made.
    """
    received = _catch_signals()
    module = sys.modules["__main__"].__spec__
    if module:  # help and usage show what was typed, not a path
        sys.argv[0] = f"python -m {module.name}"
    try:
        main(prepare(sys.argv[1:]))
        if _unread(None):
            sys.exit(_UNREAD)
    except BaseException as error:
        status = _status(error, received)
        if status and world.count() > 1 and not isinstance(error, world.Stopped):  # the others would be waited for
            if status == 1:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(status)
        if status == 1:
            raise
        sys.exit(status)


def _status(error: BaseException, received: Sequence[int]) -> int:
    """The exit status after an error, which is told where it was foreseen; 1 where it was not."""
    if isinstance(error, world.Stopped):
        if world.leads():
            print(_STOPPED, file=sys.stderr)
        return int(error.code or 0)
    if received:  # whatever became of its exception on the way
        print(_STOPPED, file=sys.stderr)
        return 128 + received[0]
    if isinstance(error, OSError) and error.filename:
        error = UserError(f"{error.filename}: {error.strerror}; mend that, or name another path.")
    elif isinstance(error, Exception) and (fault := storage_fault(error)):
        error = UserError(f"{fault}: make room, or name another path, and the same command goes on.")
    unread = _unread(error)
    if isinstance(error, UserError):
        print(f"error: {printable(error)}", file=sys.stderr)
        return 2
    if unread and isinstance(error, BrokenPipeError | SystemExit):
        return _UNREAD
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 1
