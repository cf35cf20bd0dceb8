"""Tuning of the classifier: its prompt, and the baselines that train all weights or low-rank updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from dawgen_jax.config.backbone import BackboneConfig
from dawgen_jax.config.validation import Items, validated

__all__ = ["PAPER", "ClassifierConfig", "FineTuningConfig", "LoraConfig"]

PAPER: Mapping[str, Any] = {"prompt_length": 100, "prompt_init": "vocabulary", "prompt_place": "before",
                            "optimiser": "adafactor", "learning_rate": 0.3}
"""The paper's values (on T5) of the fields of a classifier left at None until its backbone is known."""


@validated
class FineTuningConfig:
    """Training of all weights: the baselines FT, prompt-based FT and PFT + soft prompt."""

    learning_rates: Annotated[Items[PositiveFloat], Field(min_length=1)] = (3e-5, 1e-4)
    """Each is tried; the best on dev is kept."""
    num_steps: PositiveInt = 500
    """Updates."""
    batch_size: PositiveInt = 8
    """Examples per update."""
    weight_decay: NonNegativeFloat = 0.01
    """AdamW decay, not applied to norms."""
    clip_norm: PositiveFloat = 1.0
    """The global gradient norm is clipped to this."""
    eval_every: PositiveInt = 50
    """Updates between two evaluations on dev; the best is kept."""


@validated
class LoraConfig:
    """Low-rank updates of attention projections instead of a prompt (not in the paper)."""

    rank: PositiveInt = 8
    """r, columns of A and rows of B."""
    alpha: PositiveFloat = 16.0
    """The update is (alpha / r) A B."""
    targets: Annotated[Items[Literal["query", "key", "value", "output"]], Field(min_length=1)] = ("query", "value")
    """Which projections of every attention: query, key, value, output."""
    learning_rate: PositiveFloat = 1e-3
    """AdamW, linear decay to 0."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW decay."""


@validated
class ClassifierConfig:
    """Tuning of the classifier's prompt (paper section 'prompt tuning' and Algorithm 2).

    None takes the value that suits the family of the backbone: for T5 the paper's, for causal models 20 sampled rows
    behind the text, with AdamW at 0.02.
    """

    backbone: BackboneConfig = BackboneConfig()
    """The frozen model whose prompt is tuned."""
    prompt_length: PositiveInt | None = None
    """Virtual tokens P of the soft prompt at the model's input."""
    prompt_init: Literal["vocabulary", "sampled"] | None = None
    """Start from embeddings of word-starting alphabetic tokens: the first ones of the vocabulary, or random ones."""
    prompt_place: Literal["before", "after"] | None = None
    """Where the prompt stands: before the whole input, as PEFT has it, or after the texts, whose keys and values a
    causal model then computes once."""
    context_cache_gib: NonNegativeFloat = 4.0
    """Memory for keys and values of texts in front of a prompt, in GiB; texts above it are computed for every batch."""
    max_tokens: PositiveInt = 100
    """Template tokens, mask and end of sequence included; texts are cut at their ends, the last placeholder first."""
    optimiser: Literal["adafactor", "adamw"] | None = None
    """Of the prompt: Adafactor with cosine decay, no warm-up, no parameter scaling; or AdamW with linear decay."""
    learning_rate: PositiveFloat | None = None
    """Rate of the first update; it decays to 0."""
    factored: bool = True
    """Factored second moment of Adafactor."""
    weight_decay: NonNegativeFloat = 1e-5
    """Multiplied by the learning rate, as in Hugging Face's Adafactor."""
    clip_norm: PositiveFloat = 1.0
    """The global gradient norm is clipped to this after the surgery and before the optimiser."""
    aggregator: Literal["surgery", "pcgrad", "mgda", "cagrad", "upgrad"] = "surgery"
    """How '+ GS' arms combine the gradients of their sources; 'surgery' is Algorithm 2."""
    epsilon: NonNegativeFloat = 1.0
    """Weight of the (projected) synthetic gradient relative to the real one."""
    surgery_scope: Literal["global", "leaf", "row"] = "global"
    """Inner products over the whole prompt, per array, or per virtual token."""
    real_steps: PositiveInt = 400
    """Updates of arms that see real data only."""
    real_batch_per_label: PositiveInt = 2
    """Examples per class in their batches: 4 in all for two classes, 6 for three."""
    real_eval_every: PositiveInt = 4
    """Updates between two dev evaluations of those arms."""
    num_steps: PositiveInt = 3000
    """Updates of every arm with synthetic data (and of real-only arms of variant 'same-T'); two-stage arms split it."""
    batch_size: PositiveInt = 16
    """Examples of each source in a batch of those arms."""
    eval_every: PositiveInt = 100
    """Updates between two dev evaluations of those arms; the prompt with the best dev accuracy is kept, step 0
    included."""
    full_steps: PositiveInt = 30000
    """Updates on the full training pool ('@full')."""
    full_batch_size: PositiveInt = 18
    """Examples in a batch from the full pool."""
    full_eval_every: PositiveInt = 1000
    """Updates between two dev evaluations of '@full' arms."""
    eval_batch_size: PositiveInt = 64
    """Examples scored together in evaluation; the last batch is padded with examples of weight 0."""
    vmap_seeds: bool = True
    """Run all seeds of an arm in one program; off runs one after the other."""
    pad_multiple: PositiveInt = 16
    """Token batches are padded to the smallest multiple of this that holds the data, instead of to max_tokens."""
    demonstration_tokens: PositiveInt = 512
    """Tokens of an input with demonstrations (in-context learning), which holds as many as fit."""
    checkpoint_every: PositiveInt = 100
    """Updates between two checkpoints of an unfinished cell."""
    fine_tuning: FineTuningConfig = FineTuningConfig()
    """Training of all weights: FT, prompt-based FT, and with a soft prompt."""
    lora: LoraConfig = LoraConfig()
    """Low-rank updates."""
