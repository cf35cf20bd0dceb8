"""Differences between two configurations, or between one and the defaults, by field, with the origin of each default.

    dawgen diff mini [configs/other.py]

With a single file, its values are compared with the defaults. These come from the paper, its poster or the code of its
baselines if one of them states the value, and from this project otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from dawgen_jax.cli.options import parse
from dawgen_jax.config import PAPER, ClassifierConfig, Config, fields_of, load_config
from dawgen_jax.errors import UserError
from dawgen_jax.io.terminal import plain
from dawgen_jax.origins import origin


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Options of the command."""

    configs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """One or two configurations: files, or names of shipped ones."""


def differences(first: Config, second: Config) -> list[tuple[str, object, object, str]]:
    """(field, value in the first, value in the second, origin of the default) of every field with different values."""
    left, right = fields_of(first), fields_of(second)
    return [(field, left[field], right[field], origin(field)) for field in left
            if field != "name" and left[field] != right[field]]


def main(argv: Sequence[str]) -> None:
    """Print a table."""
    names = parse(argv, Arguments, __doc__).configs
    if len(names) not in (1, 2):
        raise UserError("name one or two configurations; one is compared with the defaults.")
    configs = [*map(load_config, names), Config(classifier=ClassifierConfig(**PAPER))][:2]
    table = Table()
    for column in ("field", *names, *["the default"] * (2 - len(names)), "origin of the default"):
        table.add_column(plain(column), overflow="fold", no_wrap=column == "field")  # never break field names
    for row in differences(*configs):
        table.add_row(*(plain(", ".join(map(str, value)) if isinstance(value, tuple) else value) for value in row))
    Console().print(table)
