"""Checkpoint directories of Hugging Face: config.json, and tensors by name over one or several safetensors files.

Storage dtypes float16 and bfloat16 are widened by whoever reads them into float32.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import ml_dtypes
import numpy as np

from dawgen_jax.errors import UserError
from dawgen_jax.io.files import open_tensors
from dawgen_jax.io.strict_json import parse_json

__all__ = ["STORAGE", "Tensors", "read_object"]

STORAGE = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}
_STORED = ("F32", "F16", "BF16", "F64")
"""The same by their names in a safetensors header."""


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object of a file of a checkpoint.

    Raises:
      UserError: the file is missing or broken, or holds another kind of value.
    """
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; give a Hugging Face directory with config.json and safetensors weights."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); copy the checkpoint again.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no JSON object; copy the checkpoint again.")
    return values


class Tensors:
    """The tensors of a directory by name, over one or several safetensors files that are mapped, not read."""

    def __init__(self, folder: pathlib.Path):
        index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
        if index.is_file():
            named = read_object(index).get("weight_map")
            named = list(named.values()) if isinstance(named, dict) else []
            if not named or not all(isinstance(name, str) and name.endswith(".safetensors")
                                    and name == pathlib.PurePath(name).name for name in named):
                raise UserError(f"{index}: names no usable files in 'weight_map'; copy the checkpoint again.")
        elif single.is_file():
            named = [single.name]
        elif list(folder.glob("pytorch_model*.bin")):
            raise UserError(
                f"{folder}: holds pytorch_model.bin only, a pickle, which is never loaded; convert it once with "
                "`dawgen backbone convert SRC DST`."
            )
        else:
            raise UserError(
                f"{folder}: has neither model.safetensors nor model.safetensors.index.json; give a complete "
                "Hugging Face directory."
            )
        self.where: dict[str, tuple[pathlib.Path, Any]] = {}
        for name in sorted(set(named)):
            path = folder / name
            if not os.path.isfile(path):
                raise UserError(f"{path}: is named in {index.name} but missing; copy the checkpoint again.")
            file = open_tensors(path)
            for key in file.keys():  # noqa: SIM118 (no dictionary)
                self.where[key] = path, file

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """One tensor as it is stored; its shape is checked, and that all its values are finite."""
        path, file = self.where[name]
        stored = file.get_slice(name)
        found, dtype = tuple(stored.get_shape()), stored.get_dtype()
        if found != shape:
            raise UserError(
                f"{path}: tensor {name} has shape {list(found)} where config.json asks for {list(shape)}; "
                "config and weights belong to different models."
            )
        if dtype not in _STORED:
            raise UserError(
                f"{path}: tensor {name} is stored as {dtype}; save the weights in float32, bfloat16 or float16."
            )
        tensor = file.get_tensor(name)
        if not np.isfinite(tensor).all():
            raise UserError(
                f"{path}: tensor {name} holds NaN or infinity; copy the checkpoint again, or take an earlier one of "
                "its training."
            )
        return tensor
