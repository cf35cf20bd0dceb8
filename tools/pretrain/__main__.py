"""Pre-train a backbone of the mini world.

    python -m tools.pretrain CONFIG.py [--out DIR] [--workers N] [--field.sub value ...]

DIR/backbone becomes a Hugging Face directory (float16 weights, tokenizer, card); DIR/checkpoint and DIR/metrics.jsonl
let a killed run go on. Fields are those of PretrainConfig; those of its text are --corpus.FIELD.
"""

from __future__ import annotations

import dataclasses
import os
import shlex


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What this program takes besides the configuration."""

    workers: int = os.cpu_count() or 1
    """Processes that write text; 0 is none."""


def main(argv: list[str]) -> None:
    """Parse, train, write the backbone."""
    # Imported here: the processes that write text import this file too, and need no JAX.
    from dawgen_jax.config import fields_of
    from dawgen_jax.errors import UserError
    from dawgen_jax.io import world
    from dawgen_jax.io.terminal import printable
    from tools.pretrain import pretraining
    from train import cli

    if world.count() > 1:
        raise UserError("tools.pretrain runs in one process; start it once, or with --num-processes 1.")
    config, out, arguments = cli.parse_with(argv, __doc__, Arguments(),
                                            pretraining.PretrainConfig)
    config = pretraining.planned(config, out, arguments.workers)
    facts = pretraining.pretrain(config, out, arguments.workers)
    stated = fields_of(cli.load_config(argv[0], pretraining.PretrainConfig))
    changed = {name: value for name, value in fields_of(config).items() if value != stated[name]}
    command = shlex.join([argv[0], *(word for name, value in changed.items() for word in (f"--{name}", str(value)))])
    pretraining.save_backbone(out / "backbone", config, facts, command)
    print(f"wrote {printable(out / 'backbone')}", flush=True)


if __name__ == "__main__":
    from train import cli

    cli.guard(main)
