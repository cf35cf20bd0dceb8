"""What a checkpoint is, and whether this project computes what PyTorch computes from it.

    dawgen backbone check DIR [--json]

Prints kind, head, parameter counts, stored dtypes and agreement with the tokenizer; where PyTorch is installed (extra
'parity'), also the largest differences in logits, prompt gradients and greedy tokens. Above the tolerance the exit
status is 1: 1e-4 of the largest logit and of the largest gradient, and no token that differs at a gap above 1e-4.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from dawgen_jax.backbones import registry
from dawgen_jax.cli.options import parse
from dawgen_jax.io.terminal import printable
from dawgen_jax.pipeline.inputs import backbone_folder


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What to check."""

    folder: Annotated[str, tyro.conf.Positional]
    """A Hugging Face folder, or the name of a backbone."""
    json: bool = False
    """Print the report as JSON."""


def main(argv: Sequence[str]) -> None:
    """Print the report, as JSON where asked."""
    arguments = parse(argv, Arguments, __doc__)
    folder = backbone_folder(arguments.folder)
    report = registry.family_of(folder).check(folder)
    if arguments.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            parts = value if isinstance(value, dict) else {"": value}
            print(f"{name:13}", printable(", ".join(f"{key} {part}".strip() for key, part in parts.items())))
    if not report["passed"]:
        sys.exit(1)
