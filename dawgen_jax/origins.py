"""The origin of a config field's default: the paper, the authors' poster, the code of its baselines, or this project.

Only fields that affect results are listed; :func:`origin` returns 'ours' for all others. A default is 'ours' if neither
the paper nor the poster states the value.
"""

from __future__ import annotations

__all__ = ["origin"]

_ORIGINS = {
    "paper": (
        "tasks", "data.k", "classifier.prompt_length", "classifier.aggregator",
    ),
    "poster": (
        "generator.dist_weight", "generator.dist_in_virtual", "generator.dist_margin", "generator.weighting",
        "generator.weight_input",
    ),
    "baseline code": (
        "seeds", "data.corpus_seed",
        "generator.max_source_tokens", "generator.num_steps", "generator.learning_rate", "generator.clip_norm",
        "generator.weight_norm", "generator.meta_learning_rate", "generator.weight_learning_rate",
        "generator.weight_decay", "generator.select", "synthesis.samples_per_label", "synthesis.temperature",
        "synthesis.repetition_penalty", "synthesis.unfinished", "synthesis.balance",
        "classifier.prompt_init", "classifier.max_tokens", "classifier.prompt_place", "classifier.optimiser",
        "classifier.learning_rate", "classifier.factored", "classifier.weight_decay", "classifier.clip_norm",
        "classifier.real_steps", "classifier.real_batch_per_label", "classifier.real_eval_every",
        "classifier.full_steps", "classifier.full_batch_size",
        "classifier.full_eval_every", "classifier.fine_tuning.weight_decay", "classifier.fine_tuning.clip_norm",
        "transfer.ppt_batch_size", "transfer.ppt_learning_rate", "transfer.ppt_clip_norm", "transfer.ppt_weight_decay",
        "transfer.optima_radius", "transfer.optima_domain_weight", "transfer.optima_domain_rate",
    ),
}
"""Origin of a field's default. 'baseline code' is that of FewGen, OPTIMA or PPT."""


def origin(field: str) -> str:
    """Origin of the default of a dotted field.

    >>> origin("classifier.prompt_length"), origin("generator.dist_weight"), origin("classifier.epsilon")
    ('paper', 'poster', 'ours')
    """
    return next((name for name, fields in _ORIGINS.items() if field in fields), "ours")
