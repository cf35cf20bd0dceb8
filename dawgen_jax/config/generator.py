"""Tuning of the generator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from dawgen_jax.config.backbone import BackboneConfig
from dawgen_jax.config.validation import validated

__all__ = ["DiscForm", "DistReading", "DistSimilarity", "GeneratorConfig", "WeightInput", "WeightNorm"]

WeightNorm = Literal["batch", "sentence"]
WeightInput = Literal["hidden", "loss"]
DiscForm = Literal["ce_logprob", "ratio", "ce_rawlogit"]
DistReading = Literal["A", "B"]
DistSimilarity = Literal["cosine", "swapped_distance"]


@validated
class GeneratorConfig:
    """Tuning of the generator's prompts, one per label (paper section 'DawGen generator tuning')."""

    backbone: BackboneConfig = BackboneConfig()
    """The model that writes the synthetic data; it may differ from the model that learns from it."""
    prompt_length: PositiveInt = 20
    """Virtual tokens of each label's prompt Q_l before sentence 1; the infix has one per token of its phrase."""
    max_source_tokens: PositiveInt = 100
    """Sentence 1 is cut to this many tokens."""
    max_target_tokens: PositiveInt = 64
    """Sentence 2 and its end-of-sequence token are cut to this many tokens."""
    num_steps: NonNegativeInt = 0
    """Updates; 0 takes 160 per label (FewGen: 320 for two classes, 480 for three)."""
    examples_per_label: Annotated[int, Field(ge=2)] = 2
    """Examples of each class in a batch; L_dist pairs two of them."""
    learning_rate: PositiveFloat = 5e-3
    """Adam on prompts and infixes, linear decay to 0, no warm-up, no weight decay."""
    clip_norm: PositiveFloat = 1.0
    """The global gradient norm is clipped to this before Adam."""
    weighting: Literal["meta", "uniform"] = "meta"
    """'meta': token weights from the meta-learned weight net (L_wGen). 'uniform': 1/N for each token (L_gen)."""
    weight_norm: WeightNorm = "batch"
    """Softmax of token weights over all supervised tokens of the batch, or over each sentence."""
    weight_input: WeightInput = "hidden"
    """Input of the weight net: the token's last decoder state under the gold prompt (one linear layer; DawGen), or its
    discriminative loss (a perceptron 1 -> 100 -> 1; FewGen)."""
    meta_learning_rate: PositiveFloat = 2e-2
    """Step size a_meta of the virtual SGD step."""
    weight_learning_rate: NonNegativeFloat = 1e-2
    """Adam on the weight net of input 'loss', linear decay to 0."""
    score_learning_rate: NonNegativeFloat = 0.1
    """Adam on the weight net of input 'hidden', divided by its width H, linear decay to 0: one update moves a token's
    score by at most about 0.8 times this at every width. 0 is an ablation: `weight_learning_rate`, not divided."""
    weight_decay: NonNegativeFloat = 1e-4
    """L2 decay of the weight net."""
    disc: DiscForm = "ce_logprob"
    """Form of L_disc: minus the log of the printed ratio; the ratio as printed; cross-entropy over raw logits."""
    dist_weight: NonNegativeFloat = 1.0
    """lambda of L_dist; FewGen is this generator with lambda = 0 and the weight input 'loss'."""
    dist_in_virtual: bool = True
    """Add L_dist to the loss of the virtual step too, as in the paper's algorithm, or to the real step only."""
    dist_reading: DistReading = "B"
    """Negatives of L_dist: A an example of another class under its own prompt, B the same example under a wrong
    prompt."""
    dist_similarity: DistSimilarity = "cosine"
    """D of L_dist: cosine similarity, or Euclidean distance with the two terms swapped."""
    dist_margin: NonNegativeFloat = 1.0
    """Margin of the hinge in L_dist."""
    disc_chunks: NonNegativeInt = 0
    """Upper limit of the number of chunks over which the gradient of L_disc is summed, to save memory; the largest
    divisor of the batch up to it is used, and 0 asks for one per label."""
    select: Literal["last", "dev_nll"] = "last"
    """Label prompts that are kept: those after the last update, or those with the lowest negative log-likelihood per
    token of the dev shots under their own labels' prompts. `num_steps` is then a maximum; update 0 is a candidate."""
    select_every: PositiveInt = 5
    """Updates between two evaluations on the dev shots with `select = 'dev_nll'`."""
    log_every: PositiveInt = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: PositiveInt = 100
    """Steps between two checkpoints of an unfinished run."""
