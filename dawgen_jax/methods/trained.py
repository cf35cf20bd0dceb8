"""What a method may train: a prompt, all weights (with a head, in the template, with a prompt), low-rank updates.

Each is a value with four functions: how it starts, how it scores a batch, its optimiser, and which fields these read.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax

from dawgen_jax.backbones.base import Backbone, Model
from dawgen_jax.config import ClassifierConfig
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.methods import lora
from dawgen_jax.methods.base import Trained
from dawgen_jax.methods.contexts import encode
from dawgen_jax.methods.verbalizer import class_scores
from dawgen_jax.training.optimisers import adamw, prompt_optimiser

__all__ = ["LOW_RANK", "PROMPT", "WEIGHTS", "WEIGHTS_AND_HEAD", "WEIGHTS_AND_PROMPT", "head_scores"]

_PROMPT_FIELDS = ("prompt_length", "prompt_init", "prompt_place", "optimiser", "learning_rate", "factored",
                  "weight_decay", "clip_norm")
_WEIGHT_FIELDS = ("fine_tuning.learning_rates", "fine_tuning.weight_decay", "fine_tuning.clip_norm")


def _prompt_scores(prompt, theta, batch: ClassifierBatch, *, model: Model, label_ids, config, tail=None):
    del config
    if tail is not None and batch.context is None:
        batch = encode(theta, batch, model=model, tail=tail)
    return class_scores(prompt, theta, batch, model=model, label_ids=label_ids, tail=tail)


PROMPT = Trained(
    "a prompt",
    init=lambda backbone, config, num_labels, prompt, seed: prompt,
    scores=_prompt_scores,
    optimiser=lambda config, num_steps, rate: prompt_optimiser(config, num_steps),
    fields=_PROMPT_FIELDS,
    rate="classifier.learning_rate",
    fixed=True,
)
"""The soft prompt [P, H]."""


def head_scores(params: dict, theta, batch: ClassifierBatch, *, model: Model, label_ids=(), config=None, tail=None):
    """Scores of a new linear head on the input's summary: ``h W`` with h [B, H] and W [H, L].

    Args:
      params: {'theta': the backbone, 'head': W}, both trained.
      theta: not read.
      batch: [B, T], without a template.
      model: the backbone.
      label_ids, config, tail: not read.

    Returns:
      float32 [B, L].
    """
    del theta, label_ids, config, tail
    embeddings = model.embed(params["theta"], batch.tokens)
    return model.summary_states(params["theta"], embeddings, batch.mask).astype(jnp.float32) @ params["head"]


def _weights_adamw(config: ClassifierConfig, num_steps: int, rate: float) -> optax.GradientTransformation:
    tuning = config.fine_tuning
    return adamw(rate, num_steps, weight_decay=tuning.weight_decay, clip_norm=tuning.clip_norm)


def _template_scores(params: dict, theta, batch: ClassifierBatch, *, model: Model, label_ids, config, tail=None):
    del theta, config
    prompt = params.get("prompt", jnp.zeros((0, model.width)))
    return class_scores(prompt, params["theta"], batch, model=model, label_ids=label_ids, tail=tail)


WEIGHTS = Trained(
    "all weights",
    init=lambda backbone, config, num_labels, prompt, seed: {"theta": backbone.theta},
    scores=_template_scores,
    optimiser=_weights_adamw,
    fields=_WEIGHT_FIELDS,
    rate="classifier.fine_tuning.learning_rates",
    weights=True,
)
"""Prompt-based FT: the task's template and label words, no soft tokens."""


WEIGHTS_AND_HEAD = dataclasses.replace(
    WEIGHTS,
    name="all weights and a new head",
    init=lambda backbone, config, num_labels, prompt, seed: {
        "theta": backbone.theta, "head": np.zeros((backbone.model.width, num_labels), np.float32)},
    scores=head_scores,
    bare=True,
)
"""FT. ``Departure:`` the paper does not say what FT's format is; this is the analogue of LM-BFF's 'finetune'. Dropout
is off (the frozen backbone has none here), and each of the learning rates is tried, the best on dev kept."""


def _two_optimisers(config: ClassifierConfig, num_steps: int, rate: float) -> optax.GradientTransformation:
    each = {"prompt": prompt_optimiser(config, num_steps), "theta": _weights_adamw(config, num_steps, rate)}
    return optax.partition(each, {"prompt": "prompt", "theta": "theta"})


WEIGHTS_AND_PROMPT = dataclasses.replace(
    WEIGHTS,
    name="all weights and a prompt",
    init=lambda backbone, config, num_labels, prompt, seed: {"theta": backbone.theta, "prompt": prompt},
    optimiser=_two_optimisers,
    fields=(*_PROMPT_FIELDS, *_WEIGHT_FIELDS),
)
"""PFT + soft prompt: both trained jointly, the prompt with its own optimiser and the weights with AdamW."""


def _low_rank_scores(factors: dict, theta, batch: ClassifierBatch, *, model: Model, label_ids,
                     config: ClassifierConfig, tail=None):
    merged = lora.merge(theta, factors, config.lora.alpha / config.lora.rank)
    return class_scores(jnp.zeros((0, model.width)), merged, batch, model=model, label_ids=label_ids, tail=tail)


def _low_rank_start(backbone: Backbone, config: ClassifierConfig, num_labels: int, prompt, seed: int) -> dict:
    paths = [path for path in backbone.model.projections if path[-1] in config.lora.targets]
    return lora.init(backbone.theta, paths, config.lora.rank, seed)


LOW_RANK = Trained(
    "low-rank updates",
    init=_low_rank_start,
    scores=_low_rank_scores,
    optimiser=lambda config, num_steps, rate: adamw(
        config.lora.learning_rate, num_steps, weight_decay=config.lora.weight_decay, clip_norm=config.clip_norm),
    fields=("lora.rank", "lora.alpha", "lora.targets", "lora.learning_rate", "lora.weight_decay", "clip_norm"),
    rate="classifier.lora.learning_rate",
)
"""LoRA on attention projections, in the task's template. ``Departure:`` not in the paper: surgery is about gradients,
and these may be those of any module."""
