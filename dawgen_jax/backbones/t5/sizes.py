"""Published shapes by name, and the operations that a T5's mathematics asks for.

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
    """How often a step runs through the products with weights and those of two activations (attention's own)."""

    weights: float
    attention: float

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.weights + other.weights, self.attention + other.attention)

    def times(self, factor: float) -> Passes:
        """So many of them."""
        return Passes(factor * self.weights, factor * self.attention)


FORWARD = Passes(1, 1)
BACKWARD = Passes(1, 2)
"""Gradients of activations alone: what passes through frozen weights."""
TRAINING = Passes(3, 3)
"""Forward and backward with the weights' gradients."""


def operations(config: T5Config, passes: Passes, *, source: int, target: int, logits: int = 0) -> float:
    """Operations (two a multiplication and addition) of one example, each product in its cheaper order.

    Args:
      config: the shape.
      passes: of the step; nothing that is computed again is counted.
      source: encoder positions, prompt rows included; 0 decodes over keys and values that are there.
      target: decoder positions that are computed.
      logits: rows of the head that a decoder position is multiplied with.

    >>> shape = T5Config(vocab_size=30, d_model=8, d_kv=4, d_ff=12, num_layers=1, num_decoder_layers=1, num_heads=2)
    >>> operations(shape, FORWARD, source=1, target=0) - 2 * 2 * 8  # one score and one weighted value
    1088.0
    """
    width, inner, layers = config.d_model, config.num_heads * config.d_kv, config.num_decoder_layers
    forward = (3 if config.gated else 2) * width * config.d_ff
    weights = config.num_layers * source * (4 * width * inner + forward)  # encoder
    weights += layers * target * (6 * width * inner + forward) + target * width * logits  # decoder
    attention = 2 * inner * (config.num_layers * source * source + layers * target * target)
    # Keys and values of the encoder's output, or few queries and what they mix through the same kernels.
    few = target * (config.d_kv + source) < source * config.d_kv
    weights += layers * 2 * width * inner * (target if few else source)
    attention += layers * 2 * target * source * (config.num_heads * width if few else inner)
    return 2.0 * (passes.weights * weights + passes.attention * attention)
