"""Few-shot prompt tuning with synthetic data.

    dawgen run mini                                      run the whole method in miniature, offline
    dawgen tables runs/mini                              print its tables again
    dawgen backbone fetch smollm2-135m-q4                get an English language model (98 MB)
    dawgen check own_task --data FILE --backbone NAME    see how your labelled texts are read
    dawgen run own_task --data FILE --backbone NAME      tune prompts on them
    dawgen predict CELL FILE                             classify texts with a result of a run (in RUN/cells)
    dawgen COMMAND --help                                show the options of a command
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from dawgen_jax.errors import UserError

__all__ = ["COMMANDS", "command", "dispatch", "shim"]

COMMANDS = {
    "run": "run a configuration, or a shard or a stage of it: generators, synthetic sets, prompts, tables, report",
    "check": "check a task and its backbone before anything is trained",
    "predict": "classify the texts of a file",
    "evaluate": "score a stored prompt, and the backbone without it",
    "quality": "judge and filter a synthetic set",
    "tables": "print the tables of finished runs and test claims",
    "diff": "list the fields in which two configurations differ",
    "export": "write a prompt as a PEFT adapter",
    "backbone": "fetch, check or convert a backbone",
    "compile": "compile every step for other devices: memory and cost",
}
"""Descriptions of the commands, by module name."""


def overview() -> str:
    """The text of ``dawgen --help``."""
    from dawgen_jax.config import shipped_configs

    commands = "\n".join(f"  {name:10}{about}" for name, about in COMMANDS.items())
    return f"{__doc__}\nCommands:\n{commands}\n\nShipped configurations: {', '.join(shipped_configs())}."


def dispatch(argv: Sequence[str]) -> None:
    """Run the command named by the first word.

    Raises:
      UserError: unknown command.
    """
    name, *rest = argv or [""]
    if name in ("", "-h", "--help"):
        print(overview())
        sys.exit(0 if name else 2)
    if name == "--version":
        from dawgen_jax import __version__

        print(__version__)
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1, 0.0)[0]
        raise UserError(f"'{name}': unknown command; the nearest is {near} (dawgen --help lists all).")
    from dawgen_jax.cli import process

    sys.argv = [f"dawgen {name}", *rest]
    importlib.import_module(f"dawgen_jax.cli.{name}").main(process.start(rest))


def command(argv: Sequence[str] | None = None) -> None:
    """The console command. The commands import JAX, so that ``--help`` does not need it."""
    from dawgen_jax.cli import process

    process.guard(dispatch, sys.argv[1:] if argv is None else argv)


def shim(*words: str) -> None:
    """Run a command under its old name: ``python -m train.NAME``."""
    command([*words, *sys.argv[1:]])


if __name__ == "__main__":
    command()
