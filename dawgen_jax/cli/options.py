"""Configuration files and command lines: ``CONFIG [--option value ...] [--field.sub value ...]``.

``--help`` lists a command's options; ``--help-all`` adds every field of the configuration with its value.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import tyro

from dawgen_jax.cli.process import EXITS
from dawgen_jax.config import Config, load_config, shipped_configs
from dawgen_jax.errors import UserError, first_line
from dawgen_jax.io import world

__all__ = ["Common", "Configured", "Parsed", "apply", "parse", "parse_config"]

AnyConfig = TypeVar("AnyConfig")
AnyOptions = TypeVar("AnyOptions")


@dataclasses.dataclass(frozen=True)
class Common:
    """Options of all commands that compute."""

    quiet: bool = False
    """Print results, warnings and errors only."""
    verbose: bool = False
    """Show norms of the parameters next to the progress."""
    device: Literal["", "cpu", "gpu", "tpu"] = ""
    """Compute on this kind of device; empty selects the best available."""


@dataclasses.dataclass(frozen=True)
class Configured(Common):
    """Options of all commands that take a configuration."""

    out: pathlib.Path | None = None
    """The run directory (default runs/NAME)."""
    backbone: str = ""
    """The backbone of generator and classifier: a folder, a name, a .gguf file or hub:ORG/NAME."""
    data: str = ""
    """Labelled examples of a custom task: a file, a folder or hub:NAME (the same as --own.data)."""
    columns: tuple[str, ...] = ()
    """Columns of the text, or of the two texts of a pair (--own.columns)."""
    label: str = ""
    """Column of the label (--own.label)."""
    seed: int | None = None
    """Run only this seed."""


_SHOWN = {
    "tasks": (tuple[str, ...], "Names of tasks."),
    "arms": (tuple[str, ...], "'[GENERATOR: ]METHOD[ @full][ #VARIANT]', for instance 'DawGen: (Real, Syn) + GS'."),
    "seeds": (tuple[int, ...], "Each seed has its own few-shot split, generator and prompt."),
    "devices": (int, "Number of devices to compute on; 0 takes all."),
}
"""Fields of the configuration that the short help also lists."""


class Parsed(NamedTuple):
    """A command line: the configuration, the run directory and the command's options."""

    config: Any
    out: pathlib.Path
    options: Any


def apply(common: Common) -> None:
    """Apply the options of all commands; call it before anything asks JAX for a device.

    Raises:
      UserError: the device does not exist.
    """
    import jax

    if (common.quiet or common.verbose) and world.leads():  # the other processes print less anyway
        logging.getLogger("dawgen_jax").setLevel(logging.WARNING if common.quiet else logging.DEBUG)
    if common.device:
        names = {"cpu": "cpu", "gpu": "cuda,cpu", "tpu": "tpu,cpu"}
        jax.config.update("jax_platforms", names[common.device])
    try:
        found = jax.devices()[0].platform
    except (RuntimeError, AssertionError) as error:  # the plugin is missing or does not start
        found, reason = "", first_line(error)
        if not common.device:
            raise UserError(f"JAX_PLATFORMS: JAX cannot start the platform that the environment names ({reason}); "
                            "install its support (pip install 'dawgen-jax[cuda]' or 'dawgen-jax[tpu]'), or unset the "
                            "variable.") from None
    if common.device and found != common.device:
        raise UserError(f"--device {common.device}: JAX finds no such device; install its support (pip install "
                        "'dawgen-jax[cuda]' or 'dawgen-jax[tpu]'), or leave the option out.")


def parse(argv: Sequence[str], kind: type[AnyOptions], description: str | None) -> AnyOptions:
    """The options of a command without a configuration; exits if help is requested or an option is wrong."""
    words = ["--help" if word == "--help-all" else word for word in argv]
    return tyro.cli(kind, prog=sys.argv[0], args=words, description=f"{description or ''}\n\n{EXITS}",
                    config=(tyro.conf.FlagCreatePairsOff,))


def parse_config(argv: Sequence[str], description: str | None, options: type[AnyOptions] = Configured,
                 kind: type[AnyConfig] = Config) -> Parsed:
    """Parse ``CONFIG [--option value ...] [--field.sub value ...]`` and apply the common options.

    Args:
      argv: the words after the command.
      description: description of the command.
      options: a dataclass derived from :class:`Configured` (or :class:`Common`) with the command's options.
      kind: class of the configuration.

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
        parse(["--help"], short, f"{description or ''}\n\n--help-all lists every field of the configuration. The "
              "defaults shown are those of CONFIG if it is given.")
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
    """The configuration with the short options copied into its fields."""
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
