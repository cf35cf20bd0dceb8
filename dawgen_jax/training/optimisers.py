"""Optimisers of what is trained: Adafactor for prompts, AdamW for weights and low-rank factors.

The generator's own optimisers are next to its step, in ``generator/step.py``.
"""

from __future__ import annotations

import jax
import optax

from dawgen_jax.config import ClassifierConfig

__all__ = ["adafactor", "adamw", "prompt_optimiser"]


def prompt_optimiser(config: ClassifierConfig, num_steps: int) -> optax.GradientTransformation:
    """The optimiser of a prompt over ``num_steps`` updates, as ``config.optimiser`` says."""
    if config.optimiser == "adamw":
        return adamw(config.learning_rate, num_steps, weight_decay=config.weight_decay, clip_norm=config.clip_norm)
    return adafactor(config, num_steps)


def adafactor(config: ClassifierConfig, num_steps: int) -> optax.GradientTransformation:
    """Adafactor as OPTIMA's prompt tuning uses it (Hugging Face's form).

    With g the clipped gradient, r and c the factored second moment, eta_t the cosine-decayed rate:
    ``u = g / sqrt(r c)``, ``u <- u / max(1, rms(u))``, ``P <- P - eta_t (u + weight_decay P)``. There is no relative
    step, no scaling by the parameter and no warm-up.

    Args:
      config: learning_rate, weight_decay, clip_norm and factored are read.
      num_steps: length T of the cosine.

    Returns:
      A transform of one gradient (after aggregation over sources).

    References:
      Shazeer and Stern, Adafactor, 2018, https://arxiv.org/abs/1804.04235
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        # optax factors only matrices of 128 rows or more by default; a prompt has 100.
        optax.scale_by_factored_rms(factored=config.factored, decay_rate=0.8, min_dim_size_to_factor=1, epsilon=1e-30),
        optax.clip_by_block_rms(1.0),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(optax.cosine_decay_schedule(config.learning_rate, num_steps)),
    )


def adamw(learning_rate: float, num_steps: int, *, weight_decay: float, clip_norm: float
          ) -> optax.GradientTransformation:
    """AdamW with a clipped gradient and a linear decay of the rate to zero; all but norms have weight decay.

    Args:
      learning_rate: of the first step.
      num_steps: in which the rate falls to zero.
      weight_decay: decoupled, times the rate; of every leaf whose path does not name a norm, such as kernels
        and embeddings.
      clip_norm: of the global gradient norm.
    """
    def decayed(params):
        return jax.tree.map_with_path(lambda path, leaf: "norm" not in jax.tree_util.keystr(path), params)

    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.adamw(optax.linear_schedule(learning_rate, 0.0, num_steps), weight_decay=weight_decay, mask=decayed),
    )
