"""Pre-train a backbone of the mini world.

    python -m tools.pretrain CONFIG.py [--out DIR] [--workers N] [--field.sub value ...]

DIR/backbone becomes a Hugging Face directory (float16 weights, tokenizer, card); DIR/checkpoint and DIR/metrics.jsonl
let a killed run go on. Fields are those of PretrainConfig; those of its text are --corpus.FIELD.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> None:
    """Parse, train, write the backbone."""
    # Imported here: the processes that write text import this file too, and need no JAX.
    from dawgen_jax.cli.options import Common, parse_config
    from dawgen_jax.config import fields_of, load_config
    from dawgen_jax.errors import UserError
    from dawgen_jax.io import world
    from dawgen_jax.io.terminal import printable
    from tools.pretrain import pretraining

    @dataclasses.dataclass(frozen=True)
    class Arguments(Common):
        """Options beside the configuration."""

        out: pathlib.Path | None = None
        """The run directory (default runs/NAME)."""
        workers: int = os.cpu_count() or 1
        """Processes that write text; 0 is none."""

    if world.count() > 1:
        raise UserError("tools.pretrain runs in one process; start it once, or with --num-processes 1.")
    config, out, arguments = parse_config(argv, __doc__, Arguments, pretraining.PretrainConfig)
    config = pretraining.planned(config, out, arguments.workers)
    facts = pretraining.pretrain(config, out, arguments.workers)
    stated = fields_of(load_config(argv[0], pretraining.PretrainConfig))
    changed = {name: value for name, value in fields_of(config).items() if value != stated[name]}
    command = shlex.join([argv[0], *(word for name, value in changed.items() for word in (f"--{name}", str(value)))])
    pretraining.save_backbone(out / "backbone", config, facts, command)
    print(f"wrote {printable(out / 'backbone')}", flush=True)


if __name__ == "__main__":
    from dawgen_jax.cli import process

    process.guard(lambda argv: main(process.start(argv)), sys.argv[1:])
