"""Stage 2b: prompts that are trained on something else before the few shots (PPT, SPoT, OPTIMA)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["SourcePrompt", "train_source"]


class SourcePrompt(NamedTuple):
    """A prompt to start from.

    Attributes:
      prompt: [P, H].
      digest: of what it was trained on, with which settings.
      settings: the fields that its training read, dotted, with their values.
    """

    prompt: np.ndarray
    digest: str
    settings: dict[str, Any]


def train_source(job, given, encoded, kind):
    raise NotImplementedError
