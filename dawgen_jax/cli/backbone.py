"""Backbones: fetch one, check a checkpoint, convert an old one.

    dawgen backbone fetch smollm2-135m-q4            download and convert a small English model, once
    dawgen backbone check FOLDER_OR_NAME [--json]    describe a checkpoint and compare it with PyTorch
    dawgen backbone convert SRC DST [DTYPE]          pytorch_model.bin to safetensors
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from dawgen_jax.errors import UserError

__all__ = ["main"]

_ACTIONS = ("fetch", "check", "convert")


def main(argv: Sequence[str]) -> None:
    """Run an action."""
    action, *rest = argv or [""]
    if action in ("-h", "--help", "--help-all"):
        print(__doc__)
        return
    if action not in _ACTIONS:
        raise UserError(f"dawgen backbone '{action[:40]}': unknown action; there are {', '.join(_ACTIONS)}.")
    sys.argv[0] = f"dawgen backbone {action}"
    importlib.import_module(f"dawgen_jax.cli.backbone_{action}").main(rest)
