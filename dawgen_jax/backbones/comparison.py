"""What the reports on checkpoints of all families have in common; ``dawgen backbone check`` prints them."""

from __future__ import annotations

import collections
import importlib.util
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from dawgen_jax.io.files import open_tensors

__all__ = ["LENGTH", "PROMPT", "STEPS", "differs", "parameters", "report"]

TOLERANCE = 1e-4
STEPS, LENGTH, PROMPT = 8, 12, 4
"""New tokens, tokens of the longest text, and rows of the soft prompt that frameworks are compared on."""


def parameters(folder: pathlib.Path, theta: dict) -> dict:
    """Numbers of parameters, and how many tensors are stored in each dtype."""
    stored = collections.Counter()
    for file in folder.glob("*.safetensors"):
        with open_tensors(file) as tensors:
            stored.update(tensors.get_slice(name).get_dtype() for name in tensors.keys())  # noqa: SIM118
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in theta.items()}
    return {"parameters": {"total": sum(counts.values()), **counts}, "stored": dict(stored)}


def differs(scores: np.ndarray, written: Iterable[int]) -> bool:
    """Whether greedy tokens are not those of PyTorch's scores [U, V], by more than 1e-4 between the two best."""
    gaps = scores.max(-1) - scores[np.arange(len(scores)), list(written)]
    return bool((gaps > TOLERANCE).any())


def report(folder: pathlib.Path, described: dict, tokenizer: dict, compare: Callable[[], dict]) -> dict:
    """A report on a checkpoint: what it is, whether its tokenizer fits, and whether PyTorch agrees if it is installed.

    Args:
      folder: the checkpoint.
      described: kind, shape and counts.
      tokenizer: with 'agrees'.
      compare: () -> the largest differences in logits and prompt gradients, relative to the largest logit or gradient,
        and the number of texts whose greedy tokens differ. 'passed' is False if one exceeds 1e-4.
    """
    found: dict[str, Any] = {"path": str(folder), **described, "tokenizer": tokenizer}
    good = tokenizer["agrees"]
    if importlib.util.find_spec("torch") is None:
        found["pytorch"] = "not installed: nothing compared (pip install 'dawgen-jax[parity]')"
    else:
        found["pytorch"] = compare()
        good &= all(value <= TOLERANCE for value in found["pytorch"].values())
    return found | {"passed": good}
