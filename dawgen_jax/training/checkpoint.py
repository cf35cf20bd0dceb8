"""Training state on disk: Orbax checkpoints of the newest two steps in a folder, each there whole or not at all.

Arrays are written by the processes and devices that hold them, and read into the shardings that are asked for: one
device resumes from what a mesh of eight saved, and the other way round. Frozen parameters are never saved. Training
waits until the arrays are on the host; they go to disk while it continues.

Orbax is for state that only this project reads. What is shared (prompts, backbones, data) is safetensors, JSONL and
parquet.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from dawgen_jax.errors import UserError
from dawgen_jax.io import world

__all__ = ["Checkpoints"]


_AGAIN = "remove that folder, and its stage starts again"
_KEPT = 2
"""Checkpoints kept, so that one that the disk has lost can be removed and the run resumed from the one before it."""


class Checkpoints:
    """The newest checkpoints of a run in a folder; on leaving the context what was saved is on disk.

    Attributes:
      newest: the step that this process has saved or restored last, or None.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
    ...     checkpoints.save(3, {"prompt": np.ones(2)})
    ...     checkpoints.latest_step, checkpoints.restore({"prompt": np.zeros(2)})["prompt"].tolist()
    (3, [1.0, 1.0])
    """

    def __init__(self, folder: str | os.PathLike):
        self.newest: int | None = None
        options = ocp.CheckpointManagerOptions(max_to_keep=_KEPT, enable_async_checkpointing=True)
        self._folder = pathlib.Path(folder).absolute()
        try:
            self._manager = ocp.CheckpointManager(self._folder, options=options,
                                                  item_handlers=ocp.StandardCheckpointHandler())
        except (ValueError, TypeError, KeyError) as error:
            raise self._broken("what is there", error, _AGAIN) from error

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, or None where nothing is saved."""
        return world.led(self._manager.latest_step)

    def save(self, step: int, tree: Any) -> None:
        """Save the leaves of ``tree`` (arrays) as the state after ``step`` updates, and drop what is older than the one
        before it.

        The arrays may be donated or changed at once: the host has copies. One is written at a time.
        """
        self._manager.save(step, args=ocp.args.StandardSave(self._leaves(tree)))
        self.newest = step

    def restore(self, like: Any) -> Any:
        """The newest tree; each leaf of ``like`` gets the array that was saved at its path.

        Args:
          like: each leaf a NumPy array, which gives one, or an array or its shape with a sharding, which gives an array
            so placed, whatever devices have saved it.

        Raises:
          UserError: what is saved is broken, or the paths or shapes of its leaves are others.
        """
        self._manager.wait_until_finished()
        step, wanted = self.latest_step, self._leaves(like)
        try:
            saved = {path: tuple(leaf.shape) for path, leaf in self._manager.item_metadata(step).items()}
            if other := _difference(saved, {path: np.shape(leaf) for path, leaf in wanted.items()}):
                raise UserError(f"{self._folder}: the checkpoint of step {step} is of another state ({other}); "
                                f"{self._advice(step)}.")
            leaves = self._manager.restore(step, args=ocp.args.StandardRestore(wanted))
        except UserError:
            raise
        except Exception as error:  # Orbax raises many kinds, all of them about the files
            raise self._broken(f"the checkpoint of step {step}", error, self._advice(step)) from error
        self.newest = step
        return jax.tree.unflatten(jax.tree.structure(like), [leaves[path] for path in wanted])

    def _advice(self, step: int) -> str:
        before = [other for other in self._manager.all_steps() if other < step]
        return (f"remove {self._folder / str(step)}, and its stage resumes from step {max(before)}" if before
                else _AGAIN)

    def _broken(self, what: str, error: Exception, advice: str) -> UserError:
        return UserError(f"{self._folder}: {what} cannot be read ({type(error).__name__}); {advice}.")

    @staticmethod
    def _leaves(tree: Any) -> dict[str, Any]:
        # A flat dictionary: Orbax need not know of states, named tuples and optax's empty ones. Names of low-rank
        # factors contain '/', which file systems take for folders.
        return {jax.tree_util.keystr(path, simple=True, separator=":").replace("/", ":"): leaf
                for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _difference(saved: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> str:
    """The first path at which two states differ, and how; empty if they do not."""
    for path in sorted(saved.keys() | wanted.keys()):
        if saved.get(path) != wanted.get(path):
            one, other = (f"has shape {list(shapes[path])}" if path in shapes else "is missing"
                          for shapes in (saved, wanted))
            return f"{path} {one} in the file, but {other} in this run"
    return ""
