"""Published sizes by name, and the operation count of a T5.

References:
  Lester, Al-Rfou, Constant: The Power of Scale for Parameter-Efficient Prompt Tuning,
  https://arxiv.org/abs/2104.08691, 2021 (the LM-adapted checkpoints).
"""

from __future__ import annotations

from typing import NamedTuple

from dawgen_jax.backbones.t5.config import T5Config

__all__ = ["BACKWARD", "FORWARD", "SIZES", "TRAINING", "Passes", "operations"]


def _size(d_model: int, d_ff: int, num_heads: int) -> T5Config:
    return T5Config(vocab_size=32128, d_model=d_model, d_kv=64, d_ff=d_ff, num_layers=24, num_decoder_layers=24,
                    num_heads=num_heads)


SIZES = {"t5-large": _size(1024, 2816, 16), "t5-xl": _size(2048, 5120, 32), "t5-xxl": _size(4096, 10240, 64)}
"""T5 v1.1 (and its LM-adapted and Flan relatives): gated GELU, an untied head."""


class Passes(NamedTuple):
    """Number of passes of a step through products with weights, and through attention's products of activations."""

    weights: float
    attention: float

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.weights + other.weights, self.attention + other.attention)

    def times(self, factor: float) -> Passes:
        """All passes multiplied by ``factor``."""
        return Passes(factor * self.weights, factor * self.attention)


FORWARD = Passes(1, 1)
BACKWARD = Passes(1, 2)
"""Gradients of activations only, through frozen weights."""
TRAINING = Passes(3, 3)
"""Forward and backward, including gradients of weights."""


def operations(config: T5Config, passes: Passes, *, source: int, target: int, logits: int = 0) -> float:
    """Operations per example (a multiplication and an addition count as two), each product in its cheaper order.

    Args:
      config: the model.
      passes: passes of the step; recomputation is not counted.
      source: encoder positions, prompt rows included; 0 if the input's keys and values are cached.
      target: decoder positions.
      logits: rows of the head that are scored per decoder position.

    >>> shape = T5Config(vocab_size=30, d_model=8, d_kv=4, d_ff=12, num_layers=1, num_decoder_layers=1, num_heads=2)
    >>> operations(shape, FORWARD, source=1, target=0) - 2 * 2 * 8  # one score and one weighted value
    1088.0
    """
    width, inner, layers = config.d_model, config.num_heads * config.d_kv, config.num_decoder_layers
    forward = (3 if config.gated else 2) * width * config.d_ff
    weights = config.num_layers * source * (4 * width * inner + forward)  # encoder
    weights += layers * target * (6 * width * inner + forward) + target * width * logits  # decoder
    attention = 2 * inner * (config.num_layers * source * source + layers * target * target)
    # Either keys and values of the encoder's output, or the same kernels applied to few queries and weighted states.
    few = target * (config.d_kv + source) < source * config.d_kv
    weights += layers * 2 * width * inner * (target if few else source)
    attention += layers * 2 * target * source * (config.num_heads * width if few else inner)
    return 2.0 * (passes.weights * weights + passes.attention * attention)
