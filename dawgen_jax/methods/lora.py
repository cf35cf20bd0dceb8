"""Low-rank updates of attention projections: W' = W + (alpha / r) A B with A [N, in, r] and B [N, r, out].

A starts as PEFT starts it (uniform within 1 / sqrt(in)), B at zero, so that the first scores are the backbone's own.

References:
  Hu et al.: LoRA: Low-Rank Adaptation of Large Language Models, https://arxiv.org/abs/2106.09685, 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from dawgen_jax.errors import ConfigError

__all__ = ["init", "merge"]



def init(theta, paths: Sequence[tuple[str, ...]], rank: int, seed: int) -> dict:
    """Factors of the kernels at ``paths``, each of shape [N, in, out] (layers stacked on axis 0).

    Args:
      theta: the backbone's parameters.
      paths: of kernels in ``theta``.
      rank: r.
      seed: of the A.

    Returns:
      {'path/to/kernel': {'a': [N, in, r], 'b': [N, r, out]}} in float32.

    Raises:
      ConfigError: there are no paths: the backbone has no projection of the names asked for.
    """
    if not paths:
        raise ConfigError("classifier.lora.targets: this backbone has no attention projection of these names.")
    kernels, random, factors = flatten_dict(theta), np.random.default_rng(seed), {}
    for path in paths:
        layers, fan_in, fan_out = kernels[path].shape
        bound = fan_in**-0.5
        factors["/".join(path)] = {
            "a": random.uniform(-bound, bound, (layers, fan_in, rank)).astype(np.float32),
            "b": np.zeros((layers, rank, fan_out), np.float32),
        }
    return factors


def merge(theta, factors: dict, scale: float):
    """``theta`` with W + scale A B at every factored kernel.

    Args:
      theta: the backbone's parameters, not changed.
      factors: of :func:`init`.
      scale: alpha / r.

    Returns:
      A tree like ``theta``; updated kernels keep their dtype.
    """
    kernels = flatten_dict(theta, sep="/")
    for name, factor in factors.items():
        update = scale * jnp.matmul(factor["a"], factor["b"], precision=jax.lax.Precision.HIGHEST)
        kernels[name] = (kernels[name] + update).astype(kernels[name].dtype)
    return unflatten_dict(kernels, sep="/")
