"""The generators that an arm can name: DawGen, FewGen and intermediate variants, each defined by the fields it fixes.

| name | token weights | L_dist |
|---|---|---|
| L_gen | uniform | – |
| FewGen | from the token's loss | – |
| DawGen without L_dist | as configured: from its hidden state | – |
| L_gen + L_dist | uniform | lambda as configured |
| DawGen with L_dist in the real step | as configured | only in the real step |
| DawGen | as configured | in the virtual and the real step |
| DawGen at lambda 1 | as configured | in both, lambda 1 (the paper's) |
| DawGen from losses | from the token's loss | in both |
| DawGen with width-scaled steps | from its hidden state, Adam's rate not divided by H | in both |

All share the configured form of L_disc, batches and learning rates, so that two variants differ only in the named part.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from dawgen_jax.config import GeneratorConfig

__all__ = ["ABOUT", "VARIANTS", "fields_read", "fixed_by", "variant_settings"]

_NO_DIST = {"dist_weight": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "L_gen": {"weighting": "uniform", **_NO_DIST},
    "FewGen": {"weight_input": "loss", **_NO_DIST},
    "DawGen without L_dist": _NO_DIST,
    "L_gen + L_dist": {"weighting": "uniform"},
    "DawGen with L_dist in the real step": {"dist_in_virtual": False},
    "DawGen": {},
    "DawGen at lambda 1": {"dist_weight": 1.0},
    "DawGen from losses": {"weight_input": "loss"},
    "DawGen with width-scaled steps": {"weight_input": "hidden", "score_learning_rate": 0.0},
}
"""Fields of ``GeneratorConfig`` that a generator fixes, in the order of the tables."""
ABOUT = {
    "L_gen": "each label's prompt is tuned to make the real examples of its label likely",
    "FewGen": "an earlier generator, which learns how much each token counts from the token's loss",
    "DawGen without L_dist": "as DawGen, without the loss that separates the labels",
    "L_gen + L_dist": "as DawGen, with equal token weights",
    "DawGen with L_dist in the real step": "as DawGen, but the token weights are learned without L_dist",
    "DawGen": "the paper's generator, which learns how much each token counts from hidden states and separates the "
              "sentences of different labels (L_dist)",
    "DawGen at lambda 1": "as DawGen, with the paper's weight of L_dist",
    "DawGen from losses": "as DawGen, with token weights from the tokens' losses",
}
"""Explanations for reports."""
_NOT_READ = {"backbone", "log_every", "checkpoint_every", "disc_chunks"}


def fixed_by(config: GeneratorConfig, name: str) -> GeneratorConfig:
    """The configuration of a generator.

    >>> fixed_by(GeneratorConfig(learning_rate=0.1), "FewGen").dist_weight
    0.0
    """
    return dataclasses.replace(config, **VARIANTS[name])


def fields_read(config: GeneratorConfig, name: str) -> dict[str, Any]:
    """The fields that tuning a generator reads, those that the variant fixes included, as dotted names with values."""
    fixed, own, idle = VARIANTS[name], fixed_by(config, name), set(_NOT_READ)
    if fixed.get("dist_weight") == 0:
        idle |= {field.name for field in dataclasses.fields(config) if field.name.startswith("dist_")} - fixed.keys()
    if fixed.get("weighting") == "uniform":
        idle |= {"weight_input", "weight_learning_rate", "score_learning_rate", "weight_decay", "meta_learning_rate",
                 "dist_in_virtual"}
    if config.select == "last":
        idle.add("select_every")
    if own.weight_input == "loss":
        idle.add("score_learning_rate")
    elif own.score_learning_rate > 0:
        idle.add("weight_learning_rate")
    read = {field.name for field in dataclasses.fields(config)} - idle
    return {f"generator.{field}": getattr(own, field) for field in sorted(read)}


def variant_settings(config: GeneratorConfig, name: str) -> dict[str, Any]:
    """The fields that tuning a generator reads and does not fix itself, dotted, with their values."""
    return {field: value for field, value in fields_read(config, name).items()
            if field.removeprefix("generator.") not in VARIANTS[name]}
