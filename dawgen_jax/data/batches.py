"""Rectangular batches of token ids, as plain NumPy, deterministic in (seed, step).

Axes: B batch, T encoder tokens, U decoder tokens; leading axes (S sources, K seeds) stack them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["ClassifierBatch", "GeneratorBatch"]


class ClassifierBatch(NamedTuple):
    """Templated pairs for the classifier (or any stack of them on leading axes).

    Attributes:
      tokens: int32 [B, T] encoder token ids, the mask as <extra_id_0>, end of sequence last, padded with 0.
      mask: bool [B, T] True at tokens.
      label: int32 [B] position in ``Task.labels``.
      weight: float32 [B] weight of the example in the loss; 0 pads a batch to its rectangle.
    """

    tokens: np.ndarray
    mask: np.ndarray
    label: np.ndarray
    weight: np.ndarray


class GeneratorBatch(NamedTuple):
    """Pairs for the generator: sentence 1 conditions, sentence 2 is supervised.

    Attributes:
      source: int32 [B, T] sentence 1's tokens, one place for each infix row (any id), end of sequence; padded with 0.
      source_mask: bool [B, T] True at tokens and infix places.
      slots: int32 [B, T] index of the infix row that stands there, -1 elsewhere.
      target: int32 [B, U] sentence 2's tokens and end of sequence, padded with 0.
      target_mask: bool [B, U] True at supervised tokens.
      label: int32 [B] position in ``Task.labels``.
    """

    source: np.ndarray
    source_mask: np.ndarray
    slots: np.ndarray
    target: np.ndarray
    target_mask: np.ndarray
    label: np.ndarray
