"""What differs between two configurations, or between one and the paper's, field by field, with each default's origin.

    python -m train.diff configs/mini.py [configs/other.py]

With one file its values are compared with the defaults, which are the paper's where the paper (its poster, or the code
of its baselines) states them and ours where nothing does.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from dawgen_jax.config import Config, fields_of
from dawgen_jax.errors import UserError
from dawgen_jax.io.terminal import plain
from dawgen_jax.origins import origin
from train import cli


def differences(first: Config, second: Config) -> list[tuple[str, object, object, str]]:
    """(field, value in the first, value in the second, origin of the default) of every field that differs."""
    left, right = fields_of(first), fields_of(second)
    return [(field, left[field], right[field], origin(field)) for field in left
            if field != "name" and left[field] != right[field]]


def main(argv: list[str]) -> None:
    """Print a table."""
    cli.help_of(argv, __doc__)
    if not 1 <= len(argv) <= 2 or any(word.startswith("-") for word in argv):
        raise UserError("Usage: python -m train.diff CONFIG.py [OTHER.py]; without OTHER.py the defaults are taken.")
    configs = [cli.load_config(path) for path in argv] + [Config()] * (2 - len(argv))
    table = Table()
    for column in ("field", *argv, *["the default"] * (2 - len(argv)), "origin of the default"):
        table.add_column(plain(column), overflow="fold", no_wrap=column == "field")  # no name is cut
    for row in differences(*configs):
        table.add_row(*map(plain, row))
    Console().print(table)


if __name__ == "__main__":
    cli.guard(main)
