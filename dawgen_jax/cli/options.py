"""Configuration files and command lines: ``CONFIG [--option value ...] [--field.sub value ...]``.

``--help`` lists a command's own options; ``--help-all`` adds every field of the configuration with its value.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import runpy
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import tyro

from dawgen_jax.cli.process import EXITS
from dawgen_jax.config import Config
from dawgen_jax.errors import UserError
from dawgen_jax.io import world

__all__ = ["Common", "Configured", "Parsed", "apply", "load_config", "parse", "parse_config", "shipped_configs"]

_PACKAGE = pathlib.Path(__file__).parents[1]
CONFIGS = next(folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir())
"""The shipped configurations: in the package of a wheel, beside it in a clone."""

AnyConfig = TypeVar("AnyConfig")
AnyOptions = TypeVar("AnyOptions")


@dataclasses.dataclass(frozen=True)
class Common:
    """Options of all commands that compute."""

    quiet: bool = False
    """Print results, warnings and errors only."""
    device: Literal["", "cpu", "gpu", "tpu"] = ""
    """Compute on this kind of device; empty takes the best that is there."""


@dataclasses.dataclass(frozen=True)
class Configured(Common):
    """Options of all commands that take a configuration."""

    out: pathlib.Path | None = None
    """The run directory (default runs/NAME)."""
    backbone: str = ""
    """The backbone of generator and classifier: a folder, a name, a .gguf file or hub:ORG/NAME."""
    data: str = ""
    """Labelled examples of your own task: a file, a folder or hub:NAME (the same as --own.data)."""
    columns: tuple[str, ...] = ()
    """Columns of the text, or of the two texts of a pair (--own.columns)."""
    label: str = ""
    """Column of the label (--own.label)."""
    seed: int | None = None
    """Run this seed only."""


_SHOWN = {
    "tasks": (tuple[str, ...], "Names of tasks."),
    "arms": (tuple[str, ...], "'[GENERATOR: ]METHOD[ @full][ #VARIANT]', for instance 'DawGen: (Real, Syn) + GS'."),
    "seeds": (tuple[int, ...], "Each seed draws its own few-shot split, generator and prompt."),
    "devices": (int, "Devices of the mesh; 0 takes all."),
}
"""Fields of the configuration that the short help lists too."""


class Parsed(NamedTuple):
    """A command line: the configuration, the run directory and the command's own options."""

    config: Any
    out: pathlib.Path
    options: Any


def apply(common: Common) -> None:
    """Apply the options of all commands; call it before anything asks JAX for a device.

    Raises:
      UserError: there is no such device.
    """
    import jax

    if common.quiet and world.leads():  # the other processes are quieter anyway
        logging.getLogger("dawgen_jax").setLevel(logging.WARNING)
    if common.device:
        names = {"cpu": "cpu", "gpu": "cuda,cpu", "tpu": "tpu,cpu"}
        jax.config.update("jax_platforms", names[common.device])
    try:
        found = jax.devices()[0].platform
    except (RuntimeError, AssertionError) as error:  # the plugin is missing or does not start
        found, reason = "", (str(error).splitlines() or [type(error).__name__])[0]
        if not common.device:
            raise UserError(f"JAX_PLATFORMS: JAX cannot start the platform that the environment names ({reason}); "
                            "install its support (pip install 'dawgen-jax[cuda]' or 'dawgen-jax[tpu]'), or unset the "
                            "variable.") from None
    if common.device and found != common.device:
        raise UserError(f"--device {common.device}: JAX finds no such device; install its support (pip install "
                        "'dawgen-jax[cuda]' or 'dawgen-jax[tpu]'), or leave the option out.")


def parse(argv: Sequence[str], kind: type[AnyOptions], description: str | None) -> AnyOptions:
    """The options of a command without a configuration; exits if help is asked for or an option is wrong."""
    words = ["--help" if word == "--help-all" else word for word in argv]
    return tyro.cli(kind, prog=sys.argv[0], args=words, description=f"{description or ''}\n\n{EXITS}",
                    config=(tyro.conf.FlagCreatePairsOff,))


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
      UserError: there is no such file, it raises an error, or get_config is missing or returns another type.
    """
    file = CONFIGS / f"{path}.py" if path in shipped_configs() else pathlib.Path(path)
    if not file.is_file():
        if file.is_dir():
            raise UserError(f"{path}: is a folder, not a configuration; name a configuration first, for instance mini.")
        raise UserError(f"{path}: no such configuration file; shipped are {', '.join(shipped_configs())}.")
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


def parse_config(argv: Sequence[str], description: str | None, options: type[AnyOptions] = Configured,
                 kind: type[AnyConfig] = Config) -> Parsed:
    """Parse ``CONFIG [--option value ...] [--field.sub value ...]`` and apply the common options.

    Args:
      argv: the words behind the command.
      description: of the command.
      options: a dataclass derived from :class:`Configured` (or :class:`Common`) with the command's own options.
      kind: of configuration.

    Raises:
      UserError: no configuration is named, or it cannot be loaded.
    """
    argv = list(argv)
    named = argv[0] if argv and not argv[0].startswith("-") else ""
    config = load_config(named, kind) if named else kind()
    if {"-h", "--help"} & set(argv):
        shown = [(name, Annotated[annotation, tyro.conf.arg(help=text)],
                  dataclasses.field(default=getattr(config, name)))
                 for name, (annotation, text) in _SHOWN.items() if hasattr(config, name)]
        short = dataclasses.make_dataclass("Short", [
            ("config", Annotated[str, tyro.conf.Positional, tyro.conf.arg(
                metavar="CONFIG", help=f"A file, or a shipped one: {', '.join(shipped_configs())}.")]),
            ("options", Annotated[options, tyro.conf.arg(name="")], dataclasses.field(default=options())), *shown])
        parse(["--help"], short, f"{description or ''}\n\n--help-all lists every field of the configuration.")
    if not named and "--help-all" not in argv:
        raise UserError("name a configuration first: CONFIG [--out DIR] [--field.sub value ...]; for instance mini.")
    program = dataclasses.make_dataclass("Program", [
        ("options", Annotated[options, tyro.conf.arg(name="")], dataclasses.field(default=options())),
        ("config", Annotated[kind, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff],
         dataclasses.field(default=config))])
    parsed: Any = parse(argv[1:] if named else argv, program, description)
    apply(parsed.options)
    config = _overridden(parsed.config, parsed.options)
    name = getattr(config, "name", "") or pathlib.Path(named).stem
    return Parsed(config, getattr(parsed.options, "out", None) or pathlib.Path("runs") / name, parsed.options)


def _overridden(config: Any, options: Any) -> Any:
    """The configuration with the short options put into its fields."""
    if not isinstance(options, Configured):
        return config
    if options.backbone:
        parts = {part: dataclasses.replace(getattr(config, part), backbone=dataclasses.replace(
            getattr(config, part).backbone, path=options.backbone)) for part in ("generator", "classifier")}
        config = dataclasses.replace(config, **parts)
    own = {name: value for name in ("data", "columns", "label") if (value := getattr(options, name))}
    if own:
        config = dataclasses.replace(config, own=dataclasses.replace(config.own, **own))
    return config if options.seed is None else dataclasses.replace(config, seeds=(options.seed,))
