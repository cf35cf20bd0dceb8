"""Directories of safetensors to trees of arrays and back, for every family, without PyTorch.

Tensors are read one at a time from (sharded) safetensors into a stacked leaf, which is placed into its sharding before
the next leaf is read, so that host memory holds one leaf in addition to the tree. PyTorch's Linear weights are
[out, in] and are transposed; a family's :class:`Leaf` marks them. Stored float16 and bfloat16 are widened.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from dawgen_jax.backbones.tokens import TOKENIZER_FILES
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.io import world
from dawgen_jax.io.files import open_tensors, refilling, replacing, write_file, write_json
from dawgen_jax.io.strict_json import parse_json

__all__ = ["STORAGE", "Files", "Leaf", "Tensors", "check_names", "leaves", "read_object", "read_theta", "write_config",
           "write_tensors", "write_theta"]

STORAGE = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}
_STORED = ("F32", "F16", "BF16", "F64")
"""Storage dtypes by their names in a safetensors header."""
SHARD_BYTES = 5 * 10**9
INDEX = "model.safetensors.index.json"


class Leaf(NamedTuple):
    """One array of ``theta`` and the stored tensors that make it up.

    Attributes:
      path: keys of the nested dictionary.
      shape: shape of the array.
      names: names of the tensors: a single one, or one per layer if ``stacked``.
      transposed: whether each tensor is stored as [out, in].
      stacked: whether layers are stacked on axis 0.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    names: list[str]
    transposed: bool
    stacked: bool


def leaves(shapes: Any, tensor_names: Callable[[tuple[str, ...], int], tuple[list[str], bool]]) -> list[Leaf]:
    """The leaves of ``theta``.

    Args:
      shapes: tree like ``theta`` of ``jax.ShapeDtypeStruct``.
      tensor_names: (path, number of layers) -> (names of the tensors, whether each is transposed).
    """
    found = []
    for keys, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        path = tuple(key.key for key in keys)
        stacked = "layers" in path
        found.append(Leaf(path, leaf.shape, *tensor_names(path, leaf.shape[0] if stacked else 1), stacked))
    return found


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object in a file of a checkpoint.

    Raises:
      UserError: the file is missing or broken, or holds another type of value.
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
    """The tensors of a directory by name; its one or several safetensors files are mapped into memory."""

    def __init__(self, folder: pathlib.Path):
        index, single = folder / INDEX, folder / "model.safetensors"
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
        self.folder = folder
        self.where: dict[str, tuple[pathlib.Path, Any]] = {}
        for name in sorted(set(named)):
            path = folder / name
            if not os.path.isfile(path):
                raise UserError(f"{path}: is named in {index.name} but missing; copy the checkpoint again.")
            file = open_tensors(path)
            for key in file.keys():  # noqa: SIM118 (not a dictionary)
                self.where[key] = path, file

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """One tensor in its stored dtype, after checking its shape and that all values are finite."""
        path, file = self.where[name]
        stored = file.get_slice(name)
        dtype = stored.get_dtype()
        _check_shape(path, name, tuple(stored.get_shape()), shape)
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


class TensorsInMemory(Tensors):
    """Tensors that were read from another file format, with the directory that messages name."""

    def __init__(self, folder: pathlib.Path, tensors: dict[str, np.ndarray]):
        self.folder = folder
        self.where = {name: (folder, tensor) for name, tensor in tensors.items()}

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """One tensor, after checking its shape."""
        path, tensor = self.where[name]
        _check_shape(path, name, tensor.shape, shape)
        return tensor


def _check_shape(path: pathlib.Path, name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if found != wanted:
        raise UserError(
            f"{path}: tensor {name} has shape {list(found)} where config.json asks for {list(wanted)}; "
            "config and weights belong to different models."
        )


def check_names(folder: pathlib.Path, found: Collection[str], wanted: Collection[str], optional: Collection[str] = ()
                ) -> None:
    """Raise a :class:`UserError` unless ``found`` is ``wanted``, plus any ``optional`` names."""
    missing = sorted(set(wanted) - set(found))
    extra = sorted(set(found) - set(wanted) - set(optional))
    for names, what in ((missing, "are missing"), (extra, "are not part of this model")):
        if names:
            raise UserError(
                f"{folder}: {len(names)} tensors {what} ({', '.join(names[:3])}{', ...' * (len(names) > 3)}); "
                "config.json and weights do not belong together."
            )


def read_theta(tensors: Tensors, wanted: Sequence[Leaf], *, dtype: str, sharding: Any) -> dict:
    """Read ``theta`` leaf by leaf.

    Args:
      tensors: the directory, which must hold every tensor of ``wanted``.
      wanted: the leaves.
      dtype: storage of ``theta``: float32, bfloat16 or float64.
      sharding: tree like ``theta`` of shardings, or one for all leaves; None for the default device.

    Raises:
      UserError: a tensor has the wrong shape, is stored in an unknown dtype, is not finite, or overflows.
    """
    theta: dict = {}
    for leaf in wanted:
        target = np.empty(leaf.shape, STORAGE[dtype])
        shape = leaf.shape[1:] if leaf.stacked else leaf.shape
        for i, name in enumerate(leaf.names):
            tensor = tensors.read(name, shape[::-1] if leaf.transposed else shape)
            position = i if leaf.stacked else ...
            with np.errstate(over="ignore"):
                target[position] = tensor.T if leaf.transposed else tensor
            if not np.isfinite(target[position]).all():
                file = tensors.where[name][0]
                raise UserError(f"{file}: tensor {name} overflows in {dtype}; load it in a wider dtype.")
        node, where = theta, sharding
        for key in leaf.path[:-1]:
            node, where = node.setdefault(key, {}), where[key] if isinstance(where, dict) else where
        where = where[leaf.path[-1]] if isinstance(where, dict) else where
        node[leaf.path[-1]] = jax.block_until_ready(world.place(target, where))
    return theta


def write_tensors(folder: pathlib.Path, tensors: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write model.safetensors, or shards of at most ``SHARD_BYTES`` with their index."""
    shards: list[dict[str, np.ndarray]] = [{}]
    sizes = [0]
    for name, tensor in tensors:
        if sizes[-1] + tensor.nbytes > SHARD_BYTES and shards[-1]:
            shards.append({})
            sizes.append(0)
        shards[-1][name] = np.ascontiguousarray(tensor)
        sizes[-1] += tensor.nbytes
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        names = ["model.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        with replacing(folder / name) as temporary:
            save_file(shard, temporary, {"format": "pt"})
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(sizes)},
            "weight_map": {key: name for name, shard in zip(names, shards, strict=True) for key in shard},
        }
        write_json(folder / INDEX, index)


def write_theta(
    folder: pathlib.Path,
    wanted: Iterable[Leaf],
    theta: Any,
    values: dict[str, Any],
    *,
    dtype: str | None = None,
    tokenizer_from: str | os.PathLike | None = None,
) -> None:
    """Write a directory that ``transformers`` and this project can read; it replaces a checkpoint in the directory.

    Args:
      folder: directory, created if missing.
      wanted: the leaves of ``theta``.
      theta: the parameters.
      values: content of config.json.
      dtype: dtype in the file (float32, bfloat16, float16); by default the dtype of ``theta``.
      tokenizer_from: directory from which tokenizer files are copied.

    Raises:
      ConfigError: unknown ``dtype``.
      UserError: the weights would overflow in ``dtype``.
    """
    if dtype is not None and dtype not in STORAGE:
        raise ConfigError(f"dtype = {dtype!r}: must be one of {', '.join(STORAGE)}.")

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for leaf in wanted:
            node = theta
            for key in leaf.path:
                node = node[key]
            if node.shape != leaf.shape:
                raise UserError(f"{'/'.join(leaf.path)} has shape {node.shape} where the configuration asks for "
                                f"{leaf.shape}.")
            for i, name in enumerate(leaf.names):
                tensor = np.asarray(node[i] if leaf.stacked else node)
                with np.errstate(over="ignore"):
                    stored = tensor if dtype is None else tensor.astype(STORAGE[dtype])
                if not np.array_equal(np.isfinite(tensor), np.isfinite(stored)):
                    raise UserError(f"{name} overflows in {dtype}; store bfloat16 or float32.")
                yield name, stored.T if leaf.transposed else stored

    old = ["model.safetensors", "model-*.safetensors", INDEX, *(() if tokenizer_from is None else TOKENIZER_FILES)]
    with refilling(folder, "config.json", old) as fresh:
        write_tensors(fresh, tensors())
        if tokenizer_from is not None:
            for source in map(pathlib.Path(tokenizer_from).joinpath, TOKENIZER_FILES):
                if source.is_file():
                    shutil.copyfile(source, fresh / source.name)
        write_config(fresh, values)


def write_config(folder: pathlib.Path, values: dict[str, Any]) -> None:
    """Write config.json."""
    write_file(folder / "config.json", json.dumps(values, indent=2) + "\n")


@dataclasses.dataclass(frozen=True)
class Files:
    """How the Hugging Face directories of a family are read and written.

    Attributes:
      read_config: (folder, dtype=, scan_unroll=, remat=) -> the family's config; raises :class:`UserError`.
      abstract: config -> tree like ``theta`` of shapes.
      tensor_names: (path of a leaf, number of layers) -> (names of its tensors, whether they are transposed).
      resolve: (tensors, config) -> (config as the tensors have it, name of the embedding, names that may be present
        and are not read).
    """

    read_config: Callable[..., Any]
    abstract: Callable[[Any], Any]
    tensor_names: Callable[[tuple[str, ...], int], tuple[list[str], bool]]
    resolve: Callable[[Tensors, Any], tuple[Any, str, Collection[str]]]

    def load(self, path: str | os.PathLike, *, dtype: str = "float32", compute_dtype: str = "float32",
             scan_unroll: int = 0, remat: bool = False,
             sharding: jax.sharding.Sharding | Callable | None = None, tensors: Tensors | None = None
             ) -> tuple[Any, dict]:
        """Read a Hugging Face directory.

        Args:
          path: directory with config.json and safetensors weights, sharded or not.
          dtype: storage of ``theta``: float32, bfloat16 or float64.
          compute_dtype: dtype of the config.
          scan_unroll: layers per step of the scan over layers; 0 unrolls all.
          remat: whether layers are computed again in the backward pass.
          sharding: for every leaf, or a function config -> tree like ``theta`` of shardings; None is the default
            device.
          tensors: read instead of the safetensors files.

        Returns:
          (config, theta).

        Raises:
          UserError: another family; missing, extra, wrongly shaped or unreadable tensors or config; or values that are
            not finite. The message names file and tensor.
        """
        if dtype not in ("float32", "bfloat16", "float64"):
            raise ConfigError(f"dtype = {dtype!r}: must be float32 or bfloat16; float16 overflows in "
                              "T5 and is widened on loading.")
        folder = pathlib.Path(path)
        config = self.read_config(folder, dtype=compute_dtype, scan_unroll=scan_unroll, remat=remat)
        tensors = tensors or Tensors(folder)
        config, embedding, unread = self.resolve(tensors, config)
        wanted = [leaf._replace(names=[embedding]) if leaf.path == ("embedding",) else leaf
                  for leaf in leaves(self.abstract(config), self.tensor_names)]
        check_names(folder, tensors.where, {name for leaf in wanted for name in leaf.names}, unread)
        places = sharding(config) if callable(sharding) else sharding
        return config, read_theta(tensors, wanted, dtype=dtype, sharding=places)

    def save(self, path: str | os.PathLike, config: Any, theta: Any, *, dtype: str | None = None,
             tokenizer_from: str | os.PathLike | None = None) -> None:
        """Write a Hugging Face directory that ``transformers`` and :meth:`load` read; config.json is written last.

        Args:
          path: directory, created if missing; a checkpoint in it is replaced.
          config: the model.
          theta: its parameters.
          dtype: dtype in the file (float32, bfloat16, float16); by default the dtype of ``theta``.
          tokenizer_from: directory from which tokenizer files are copied.

        Raises:
          ConfigError: unknown ``dtype``.
          UserError: the weights would overflow in ``dtype``.
        """
        write_theta(pathlib.Path(path), leaves(self.abstract(config), self.tensor_names), theta,
                    config.to_hugging_face(), dtype=dtype, tokenizer_from=tokenizer_from)

    def rewrite(self, tensors: dict[str, np.ndarray], source: pathlib.Path, target: pathlib.Path, dtype: str) -> int:
        """Write the tensors of a checkpoint in another file format as safetensors, with config.json and the tokenizer.

        Args:
          tensors: tensors by name, in float32.
          source: directory of config.json and the tokenizer.
          target: directory to be created.
          dtype: dtype in the file.

        Returns:
          The number of parameters.

        Raises:
          UserError: see :meth:`load` and :meth:`save`.
        """
        config, theta = self.load(source, tensors=TensorsInMemory(source, tensors))
        self.save(target, config, theta, dtype=dtype, tokenizer_from=source)
        return sum(leaf.size for leaf in jax.tree.leaves(theta))
