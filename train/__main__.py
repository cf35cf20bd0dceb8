"""One command for all programs: ``dawgen PROGRAM ...`` or ``python -m train PROGRAM ...``.

    dawgen run mini                      the whole method in miniature, offline
    dawgen tables runs/mini              its tables again
    dawgen predict runs/mini/cells/CELL pairs.csv
    dawgen PROGRAM --help                what a program takes

A config is a file, or the name of one that is shipped.
"""

import ast
import difflib
import importlib
import pathlib
import sys

from dawgen_jax import __version__
from dawgen_jax.errors import UserError
from train import cli

__all__ = ["command", "programs"]


def programs() -> dict[str, str]:
    """What each program does, by name: the first line of its module, none of which is imported for it."""
    found = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("[a-z]*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in module.body):
            about = (ast.get_docstring(module) or "").partition("\n")[0]
            found[path.stem.replace("_", "-")] = about.partition(": ``")[0]
    return found


def overview() -> str:
    """The programs and the shipped configs, for ``--help``."""
    lines = [f"  {name:16}{about}" for name, about in programs().items()]
    return "\n".join([__doc__ or "", "Programs:", *lines, "", f"Shipped configs: {', '.join(cli.shipped_configs())}.",
                      cli.EXITS])


def dispatch(argv: list[str]) -> None:
    """Run the program that the first word names with the others.

    Raises:
      UserError: there is no such program.
    """
    name, *rest = argv or [""]
    if name in ("", "-h", "--help"):
        print(overview())
        sys.exit(0 if name else 2)
    if name == "--version":
        print(__version__)
        return
    known = programs()
    if (shown := name.replace("_", "-")) not in known:
        near = difflib.get_close_matches(shown, known, 1, 0.0)[0]
        raise UserError(f"'{name}': no such program; the nearest is {near} (dawgen --help lists all).")
    sys.argv = [f"dawgen {name}", *rest]
    importlib.import_module(f"train.{shown.replace('-', '_')}").main(cli.start(rest))


def command() -> None:
    """The console command: JAX is loaded where a program is run, and not for ``--help``."""
    cli.guard(dispatch, prepare=list)


if __name__ == "__main__":
    command()
