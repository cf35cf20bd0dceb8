"""Pre-train a backbone of the mini world.

    python -m tools.pretrain CONFIG.py [--out DIR] [--workers N] [--field.sub value ...]

DIR/backbone becomes a Hugging Face directory (float16 weights, tokenizer, card). A killed run resumes from
DIR/checkpoint and DIR/metrics.jsonl. Options are the fields of PretrainConfig, and --corpus.FIELD for its text.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> None:
    """Parse the command line, train, and write the backbone."""
    # Imported here, because the processes that write text also import this file and do not need JAX.
    from dawgen_jax.cli.options import Common, parse_config
    from dawgen_jax.config import fields_of, load_config
    from dawgen_jax.errors import UserError
    from dawgen_jax.io import world
    from dawgen_jax.io.terminal import printable
    from tools.pretrain import pretraining

    @dataclasses.dataclass(frozen=True)
    class Arguments(Common):
        """Options in addition to the configuration."""

        out: pathlib.Path | None = None
        """The run directory (default runs/NAME)."""
        workers: int = os.cpu_count() or 1
        """Number of processes that write text; with 0, this process writes it."""

    if world.count() > 1:
        raise UserError("tools.pretrain runs in a single process; start it once, or with --num-processes 1.")
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
