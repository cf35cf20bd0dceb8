"""Training state on disk: one Orbax checkpoint of the newest step in a folder, replaced atomically.

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

from dawgen_jax.config import UserError

__all__ = ["Checkpoints"]


class Checkpoints:
    """The newest checkpoint of a run in a folder.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
    ...     checkpoints.save(3, {"prompt": np.ones(2)})
    ...     step, tree = checkpoints.restore({"prompt": np.zeros(2)})
    >>> step, tree["prompt"].tolist()
    (3, [1.0, 1.0])
    """

    def __init__(self, folder: str | os.PathLike):
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._folder = pathlib.Path(folder).absolute()
        try:
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        except (ValueError, TypeError, KeyError) as error:
            raise self._broken("what is there", error) from error

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, or None where nothing is saved."""
        return self._manager.latest_step()

    def save(self, step: int, tree: Any) -> None:
        """Save the leaves of ``tree`` as the state after ``step`` updates; older ones are dropped."""
        self._manager.save(step, args=ocp.args.StandardSave(self._leaves(tree)))

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The newest (step, tree) with the structure of ``like``, or None where nothing is saved.

        Raises:
          UserError: the checkpoint is broken.
        """
        step = self.latest_step
        if step is None:
            return None
        try:
            wanted = self._leaves(like)
            leaves = self._manager.restore(step, args=ocp.args.StandardRestore(wanted))
            if any(leaves[name].shape != leaf.shape for name, leaf in wanted.items()):
                raise ValueError("shapes of another state")
        except Exception as error:  # Orbax raises many kinds, all of them about the files
            raise self._broken(f"the checkpoint of step {step}", error) from error
        return step, jax.tree.unflatten(jax.tree.structure(like), leaves.values())

    def _broken(self, what: str, error: Exception) -> UserError:
        return UserError(f"{self._folder}: {what} cannot be read ({type(error).__name__}); remove that folder, and its "
                         "stage starts again.")

    @staticmethod
    def _leaves(tree: Any) -> dict[str, np.ndarray]:
        # A flat dictionary: Orbax need not know of states, named tuples and optax's empty ones.
        return {f"{index:04d}": np.asarray(leaf) for index, leaf in enumerate(jax.tree.leaves(jax.device_get(tree)))}
