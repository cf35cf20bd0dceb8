"""What the programs share: config files, overrides, errors of one sentence, the compilation cache."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
import pathlib
import runpy
import sys
from collections.abc import Callable, Sequence

import jax
import tyro

from dawgen_jax.config import Config, ConfigError, UserError

__all__ = ["guard", "load_config", "parse", "start"]


def load_config(path: str) -> Config:
    """The config that ``get_config()`` of a Python file returns.

    Raises:
      UserError: no such file, or it has no get_config that returns a Config.
    """
    if not pathlib.Path(path).is_file():
        known = ", ".join(sorted(str(file) for file in pathlib.Path("configs").glob("*.py")))
        raise UserError(f"{path}: no such config file; there are: {known or 'none in configs/'}.")
    try:
        config = runpy.run_path(path)["get_config"]()
    except ConfigError:
        raise
    except KeyError:
        raise UserError(f"{path}: has no get_config(); define one that returns a dawgen_jax.config.Config.") from None
    except TypeError as error:
        raise UserError(f"{path}: {error}; compare the fields in dawgen_jax/config.py.") from None
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: {error.msg}; mend the config file.") from None
    if not isinstance(config, Config):
        raise UserError(f"{path}: get_config() returned {type(config).__name__}, not a dawgen_jax.config.Config.")
    return config


def parse(argv: Sequence[str], description: str) -> tuple[Config, pathlib.Path]:
    """``CONFIG.py [--out DIR] [--field.sub value ...]`` -> (config, run directory).

    The directory is DIR, else runs/NAME with the config's name, or its file's where it has none.

    Raises:
      UserError: an unknown field (the nearest name is given) or a value out of range.
    """
    argv = list(argv)
    if not argv or argv[0].startswith("-"):
        if {"-h", "--help"} & set(argv):
            tyro.cli(Config, args=["--help"], default=Config(), description=f"{description} Give a config file first.")
        raise UserError("give a config file first: CONFIG.py [--out DIR] [--field.sub value ...]; for instance "
                        "configs/mini.py.")
    config, rest, out = load_config(argv[0]), argv[1:], None
    for position, word in enumerate(rest):
        if word == "--out" or word.startswith("--out="):
            inline = word.partition("=")[2]
            if not inline and position + 1 == len(rest):
                raise UserError("--out: give the run directory after it.")
            out = pathlib.Path(inline or rest[position + 1])
            del rest[position:position + (1 if inline else 2)]
            break
    known = _fields(config)
    for word in rest:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name not in known and name != "help":
            near = difflib.get_close_matches(name, known, 1, 0)[0]
            raise UserError(f"--{name}: no such field; the nearest is --{near} (--help lists all).")
    config = tyro.cli(Config, args=rest, default=config, description=description,
                      config=(tyro.conf.FlagConversionOff,))
    return config, out or pathlib.Path("runs") / (config.name or pathlib.Path(argv[0]).stem)


def _fields(config, prefix: str = "") -> list[str]:
    names = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        nested = dataclasses.is_dataclass(value)
        names += _fields(value, f"{prefix}{field.name}.") if nested else [prefix + field.name]
    return names


def start() -> None:
    """Process-wide settings of a program: plain log lines and the persistent compilation cache."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("dawgen_jax").setLevel(logging.INFO)
    if not jax.config.jax_compilation_cache_dir:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "dawgen_jax", "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def guard(main: Callable[[list[str]], None]) -> None:
    """Run a program: a user's mistake is one sentence on standard error and exit status 2, without a traceback."""
    start()
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
