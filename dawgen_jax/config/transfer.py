"""Prompts that are trained on other data first: PPT, SPoT and OPTIMA."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from dawgen_jax.config.validation import validated

__all__ = ["TransferConfig"]


@validated
class TransferConfig:
    """Prompts that are trained on something else before the few shots: PPT, SPoT and OPTIMA."""

    documents: str = ""
    """Plain documents for PPT: a text file (.txt, .txt.gz) with a sentence or paragraph per line and a blank line
    between documents; empty for the mini world's own."""
    ppt_steps: PositiveInt = 10_000
    """Updates of PPT's pre-training (published: 200,000 on T5-XXL)."""
    ppt_batch_size: PositiveInt = 64
    """Sentence pairs in a batch of PPT's pre-training."""
    ppt_learning_rate: PositiveFloat = 0.1
    """Adam, times 1 / sqrt(step)."""
    ppt_clip_norm: PositiveFloat = 1.0
    """The global gradient norm is clipped to this."""
    ppt_weight_decay: NonNegativeFloat = 0.01
    """Decay of PPT's pre-training, multiplied by the learning rate."""
    ppt_pairs: PositiveInt = 100_000
    """Sentence pairs sampled from the documents, a third of each class; they are used in epochs."""
    held_out: PositiveInt = 512
    """Examples of the source's labelled set that select its prompt and are not trained on: this many, or a tenth of
    the set if that is less."""
    optima_steps: PositiveInt = 3000
    """Updates of OPTIMA's adversarial alignment on source and target (published: at most 30,000)."""
    optima_batch_size: PositiveInt = 8
    """Labelled source pairs, and as many unlabelled target pairs, in a batch."""
    optima_radius: PositiveFloat = 0.1
    """Length of the ascent step on the source's embeddings, whatever the length of the gradient."""
    optima_domain_weight: NonNegativeFloat = 0.5
    """Weight of the domain loss of perturbed examples, in the ascent and in the discriminator's descent."""
    optima_domain_rate: PositiveFloat = 0.01
    """AdamW on the discriminator of domains."""
