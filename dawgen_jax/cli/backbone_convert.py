"""Turn a checkpoint that exists only as pytorch_model.bin into safetensors, once.

    dawgen backbone convert SRC DST [float32|bfloat16|float16]

The pickle is read by PyTorch with ``weights_only`` (extra 'parity'), which runs no code from it. Tokenizer files are
copied; a lone spiece.model is turned into tokenizer.json.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import tyro

from dawgen_jax.backbones import registry
from dawgen_jax.backbones.tokens import read_tokenizer
from dawgen_jax.cli.options import parse
from dawgen_jax.errors import UserError
from dawgen_jax.io.store import finish
from dawgen_jax.io.terminal import printable

_STORED = ("torch.float32", "torch.float64", "torch.float16", "torch.bfloat16")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What to convert."""

    source: Annotated[pathlib.Path, tyro.conf.Positional]
    """A folder with config.json and pytorch_model.bin."""
    target: Annotated[pathlib.Path, tyro.conf.Positional]
    """A new folder."""
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], tyro.conf.Positional] = "float32"
    """How the weights are stored."""


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
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{file}: is refused by PyTorch's weights_only loader ({reason}); copy it again.") from None
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


def main(argv: Sequence[str]) -> None:
    """Convert and check by loading the result."""
    arguments = parse(argv, Arguments, __doc__)
    source, target, dtype = arguments.source, arguments.target, arguments.dtype
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
        parameters = family.convert(tensors, source, fresh, dtype)
        if tokenizer:
            tokenizer.save_pretrained(fresh)

    finish(target, fill)
    print(f"{printable(target)}: {parameters:,} parameters as {dtype}")
