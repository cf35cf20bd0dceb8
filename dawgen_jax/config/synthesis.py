"""Generation of a labelled synthetic set."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from dawgen_jax.config.validation import Seed, must, validated
from dawgen_jax.errors import ConfigError

__all__ = ["SynthesisConfig"]


@validated
class SynthesisConfig:
    """Generation of a labelled set."""

    samples_per_label: PositiveInt = 5000
    """Accepted samples to make for each label."""
    max_new_tokens: PositiveInt = 50
    """Upper limit of tokens of sentence 2, its end-of-sequence token included."""
    min_new_tokens: NonNegativeInt = 0
    """The end of sequence is not allowed before this many tokens."""
    temperature: Annotated[float, AfterValidator(must(
        "be 0 (greedy), or 1e-4 or more", lambda value: value == 0 or value >= 1e-4))] = 0.0
    """0 is greedy decoding (the paper's baseline for pair tasks); logits divided by less than 1e-4 could overflow."""
    top_k: NonNegativeInt = 0
    """Sample from the k best tokens; 0 is off."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Sample from the smallest set of tokens whose probabilities reach p; 1 is off."""
    repetition_penalty: Literal["task", "off"] = "task"
    """'task': each label's own penalty, on sentence 1 and the tokens generated so far."""
    unfinished: Literal["reject", "cut"] = "reject"
    """A sample without an end of sequence after max_new_tokens: reject it, or keep it cut (rows are marked 'cut')."""
    balance: bool = True
    """Reduce every label to the number of accepted samples of the smallest."""
    batch_size: PositiveInt = 64
    """Samples decoded together."""
    shard_size: PositiveInt = 1024
    """First sentences per output shard (each is used once per label); a restart resumes after the last complete
    shard."""
    score: bool = False
    """Write each sample's log-probability under every label's prompt."""
    seed: Seed = 0
    """Seed for sampling; the key of a sample is fold_in(fold_in(key, label), index)."""

    def __post_init__(self):
        if self.min_new_tokens >= self.max_new_tokens:
            raise ConfigError(f"SynthesisConfig.min_new_tokens = {self.min_new_tokens}: must be less than "
                              f"max_new_tokens = {self.max_new_tokens}.")
