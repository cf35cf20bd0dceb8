"""Soft prompts as files: this project's, PEFT's, NumPy's and PyTorch's.

Ours are safetensors with float32 tensors: ``prompt`` [P, H] of a classifier, or ``prompt`` [L, P, H] and ``infix``
[L, I, H] of a generator. A PEFT adapter is a folder with adapter_config.json and adapter_model.safetensors. Nothing is
ever unpickled: .npy files may hold no objects, and PyTorch's are read by its ``weights_only`` loader.

PEFT's file and field names are those of https://github.com/huggingface/peft (0.21.2).
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dawgen_jax.config import shown
from dawgen_jax.errors import UserError, first_line
from dawgen_jax.io.files import read_json, replacing, write_json

__all__ = ["adapter_base", "load", "save", "save_adapter"]

_CONFIG, _WEIGHTS, _PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_TENSOR = "prompt_embeddings"
_OURS = ("prompt.safetensors", "prompts.safetensors")
_FLOATS = ("F32", "F16", "BF16", "F64")


def save(path: str | os.PathLike, arrays: dict) -> None:
    """Write a dictionary of arrays as float32 safetensors, aside first and then renamed."""
    _save(pathlib.Path(path), arrays, "np")


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read soft prompts.

    Args:
      path: a safetensors file of :func:`save`; the folder of a cell or a generator that holds one; a PEFT prompt
        adapter (its folder, or the file of its weights); a matrix [P, H] saved as .npy; or, where PyTorch is
        installed, a tensor [P, H] saved as .pt, .pth or .bin, alone or as the one tensor of a dictionary.

    Returns:
      Arrays in float32 by name; a prompt that is not ours has the one name 'prompt'.

    Raises:
      UserError: the file is missing or of no such kind, or an array is not of floating-point numbers or holds NaN or
        infinity.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        if (path / _CONFIG).is_file():
            return _adapter(path)
        found = next((path / name for name in _OURS if (path / name).is_file()), None)
        if found is None:
            raise UserError(f"{path}: cannot be read as soft prompts (a folder with none of {', '.join(_OURS)}, "
                            f"{_CONFIG}); give a file or a folder with a prompt: cells of LoRA, of fine-tuning and "
                            "without training have none.")
        return load(found)
    if path.name in (_WEIGHTS, _PICKLED) and path.with_name(_CONFIG).is_file():
        return _adapter(path.parent)
    if path.suffix == ".npy":
        return _finite(path, {"prompt": _matrix(path, _numpy(path))})
    if path.suffix in (".pt", ".pth", ".bin"):
        tensors = _torch(path)
        if len(tensors) > 1:
            raise UserError(f"{path}: holds {len(tensors)} tensors ({', '.join(map(str, list(tensors)[:3]))}, ...); "
                            "save the prompt's alone.")
        (tensor,) = tensors.values()
        return _finite(path, {"prompt": _matrix(path, tensor)})
    return _finite(path, _safetensors(path))


def save_adapter(folder: pathlib.Path, prompt: np.ndarray, base: str, fields: Mapping[str, Any]) -> None:
    """Write a PEFT adapter that puts ``prompt`` in front of the model's input.

    Args:
      folder: an existing folder.
      prompt: [P, H].
      base: name or path of the model it was tuned on.
      fields: of its configuration that depend on the kind of model, among them 'task_type'.
    """
    rows, width = prompt.shape
    _save(folder / _WEIGHTS, {_TENSOR: prompt}, "pt")
    write_json(folder / _CONFIG, {
        "peft_type": "PROMPT_TUNING", "base_model_name_or_path": base,
        "inference_mode": True, "num_virtual_tokens": rows, "token_dim": width,
        # Any other start would have PEFT look for a tokenizer before it reads the rows.
        "prompt_tuning_init": "RANDOM", **fields})


def adapter_base(folder: pathlib.Path) -> tuple[str, str]:
    """The base model and the task type that a PEFT adapter names; empty if it names none, or there is no adapter."""
    values = _adapter_config(folder) if (folder / _CONFIG).is_file() else {}
    return str(values.get("base_model_name_or_path") or ""), str(values.get("task_type") or "")


def _save(path: pathlib.Path, arrays: dict, kind: str) -> None:
    with replacing(path) as temporary:
        save_file({name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()}, temporary,
                  {"format": kind})


def _safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    try:
        with safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118 (no dictionary)
                if (dtype := file.get_slice(name).get_dtype()) not in _FLOATS:
                    raise UserError(f"{path}: tensor {name} is stored as {dtype}, not as float32; give a file of "
                                    "soft prompts.")
                arrays[name] = file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as soft prompts ({error}); give a file this project wrote, a PEFT "
                        "adapter's folder, or a matrix [P, H] as .npy or .pt.") from None
    return arrays


def _numpy(path: pathlib.Path) -> Any:
    try:  # mapped, so that a header that promises more than the file holds allocates nothing
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of many kinds: the header of a damaged file is parsed as Python's literals
        raise UserError(f"{path}: cannot be read as a NumPy array ({first_line(error)}); save the prompt with "
                        "numpy.save.") from None


def _torch(path: pathlib.Path) -> dict[Any, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(f"{path}: is PyTorch's format, and PyTorch is not installed: pip install torch, or save the "
                        "prompt as .npy or .safetensors.") from None
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        tensors = stored if isinstance(stored, dict) and stored else {"prompt": stored}
        return {name: (tensor.detach().float() if tensor.is_floating_point() else tensor).numpy()
                for name, tensor in tensors.items()}
    except Exception as error:  # of many kinds, and what is not a tensor has none of these methods
        raise UserError(f"{path}: cannot be read as a tensor by PyTorch's weights_only loader ({first_line(error)}); "
                        "save the prompt alone, as torch.save(prompt, path).") from None


def _adapter_config(folder: pathlib.Path) -> dict[str, Any]:
    return read_json(folder / _CONFIG, advice="give a folder that PEFT's save_pretrained wrote")


def _adapter(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """The rows that PEFT puts in front of the model's input: the first of its matrix."""
    path, config = folder / _CONFIG, _adapter_config(folder)
    kind, task = config.get("peft_type"), config.get("task_type")
    if kind != "PROMPT_TUNING":
        raise UserError(f"{path}: peft_type is {shown(kind)}, not 'PROMPT_TUNING'; only prompt tuning can be read.")
    if task is not None and not str(task).endswith("_LM"):
        raise UserError(f"{path}: task_type is {shown(task)}; only prompts of language models (task types that end in "
                        "_LM) can be read.")
    pickled = not (folder / _WEIGHTS).is_file() and (folder / _PICKLED).is_file()
    file = folder / (_PICKLED if pickled else _WEIGHTS)
    arrays = _torch(file) if pickled else _safetensors(file)
    if _TENSOR not in arrays:
        raise UserError(f"{file}: has no tensor '{_TENSOR}' (but: {', '.join(map(str, arrays)) or 'none'}); give a "
                        "folder that PEFT's save_pretrained wrote.")
    rows, matrix = config.get("num_virtual_tokens"), _matrix(file, arrays[_TENSOR])
    if type(rows) is not int or not 0 < rows <= len(matrix) or config.get("token_dim") not in (None, matrix.shape[1]):
        raise UserError(f"{file}: holds {matrix.shape[0]} rows of width {matrix.shape[1]}, where {_CONFIG} says "
                        f"{shown(rows)} of width {shown(config.get('token_dim'))}; the two do not belong together.")
    return _finite(file, {"prompt": matrix[:rows]})


def _matrix(path: pathlib.Path, array: Any) -> np.ndarray:
    shape, dtype = getattr(array, "shape", ()), getattr(array, "dtype", type(array).__name__)
    if len(shape) != 2 or 0 in shape or not (str(dtype) == "bfloat16" or np.issubdtype(dtype, np.floating)):
        raise UserError(f"{path}: holds an array of shape {list(shape)} and type {dtype}, not a prompt [P, H] of "
                        "floating-point numbers; save one matrix of P rows.")
    return array


def _finite(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrowed = {name: np.array(array, np.float32) for name, array in arrays.items()}
    for name, array in narrowed.items():
        if not np.isfinite(array).all():
            raise UserError(f"{path}: tensor {name} holds NaN or infinity; tune the prompt again.")
    return narrowed
