"""Configuration files: Python with ``get_config()``, shipped ones by name."""

from __future__ import annotations

import pathlib
import runpy
import traceback
from typing import TypeVar

from dawgen_jax.config.run import Config
from dawgen_jax.errors import UserError

__all__ = ["load_config", "shipped_configs"]

_PACKAGE = pathlib.Path(__file__).parents[1]
CONFIGS = next(folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir())
"""The shipped configurations: in the package of a wheel, next to it in a clone."""

AnyConfig = TypeVar("AnyConfig")


def shipped_configs() -> list[str]:
    """Names of the shipped configurations: 'mini' for configs/mini.py."""
    return sorted(path.stem for path in CONFIGS.glob("[a-z]*.py"))


def load_config(path: str, kind: type[AnyConfig] = Config) -> AnyConfig:
    """The configuration that ``get_config()`` of a Python file returns.

    Args:
      path: a file, or the name of a shipped configuration ('mini'). A configuration may start from another one:
        ``load_config('mini')``.
      kind: the type that it must have.

    Raises:
      UserError: the file does not exist, is no Python file or raises an error, or get_config is missing or returns
        another type.
    """
    file = CONFIGS / f"{path}.py" if path in shipped_configs() else pathlib.Path(path)
    if not file.is_file():
        if file.is_dir():
            raise UserError(f"{path}: is a folder, not a configuration; name a configuration first, for instance mini.")
        raise UserError(f"{path}: no such configuration file; shipped are {', '.join(shipped_configs())}.")
    if file.suffix != ".py":
        raise UserError(f"{path}: a configuration is a Python file (.py). If this file has labelled examples, give it "
                        f"as data: own_task --data {path}.")
    try:
        get_config = runpy.run_path(str(file)).get("get_config")
        if not callable(get_config):
            raise UserError("has no get_config(); define one that returns a dawgen_jax.config.Config.")
        config = get_config()
    except UserError as error:
        raise type(error)(f"{path}: {error}") from None
    except SyntaxError as error:
        raise UserError(f"{error.filename or path}:{error.lineno or 1}: {error.msg}; correct the file.") from None
    except Exception as error:  # raised by the user's own code
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        place, message = f"{path}:{lines[-1]}" if lines else path, " ".join(str(error).split())
        advice = "compare the fields in dawgen_jax/config" if isinstance(error, TypeError) else "correct the file"
        raise UserError(f"{place}: {type(error).__name__}: {message}; {advice}.") from None
    if not isinstance(config, kind):
        raise UserError(f"{path}: get_config() returned {type(config).__name__}, not "
                        f"{kind.__module__}.{kind.__name__}.")
    return config
