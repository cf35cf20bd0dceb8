"""What a checkpoint is, and whether this project computes what PyTorch computes from it.

    python -m train.check_backbone DIR [--json]

Prints kind, head, parameter counts, stored dtypes and agreement with the tokenizer; where PyTorch is installed (extra
'parity'), also the largest differences in logits, prompt gradients and greedy tokens. Above the tolerance the exit
status is 1: 1e-4 of the largest logit and of the largest gradient, and no token that differs at a gap above 1e-4.
"""

import json
import pathlib
import sys

from dawgen_jax.backbones import registry
from dawgen_jax.errors import UserError
from dawgen_jax.io.terminal import printable
from train import cli


def main(argv: list[str]) -> None:
    """Print the report, as JSON where asked."""
    cli.help_of(argv, __doc__)
    folders = [word for word in argv if word != "--json"]
    if len(folders) != 1:
        raise UserError("Usage: python -m train.check_backbone DIR [--json]")
    folder = pathlib.Path(folders[0])
    report = registry.family_of(folder).check(folder)
    if "--json" in argv:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            parts = value if isinstance(value, dict) else {"": value}
            print(f"{name:13}", printable(", ".join(f"{key} {part}".strip() for key, part in parts.items())))
    if not report["passed"]:
        sys.exit(1)


if __name__ == "__main__":
    cli.guard(main)
