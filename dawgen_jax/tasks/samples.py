"""Tasks with data in the package: movie review sentences (MR), under two templates.

'MR' has the template and label words of LM-BFF ('It was' terrible / great). 'MR-sentiment' asks 'Sentiment:' and uses
the labels as label words. Both read the folder samples/MR; its NOTICE.md states the licence (CC BY 4.0).

References:
  Pang, Lee: Seeing Stars, https://aclanthology.org/P05-1015, 2005.
  Gao, Fisch, Chen: Making Pre-trained Language Models Better Few-shot Learners, https://arxiv.org/abs/2012.15723, 2021.
"""

from __future__ import annotations

import pathlib

from dawgen_jax.tasks.schema import Task

__all__ = ["SAMPLES", "SAMPLE_DATA"]

SAMPLE_DATA = pathlib.Path(__file__).parent / "samples"
"""Folder of the shipped splits: MR/16-SEED/{train,dev}.jsonl and MR/test.jsonl."""

_LABELS = ("negative", "positive")
_PHRASES = (("A negative movie review, bad film:", "Text:"), ("A positive movie review, great film:", "Text:"))

SAMPLES: dict[str, Task] = {
    "MR": Task("MR", _LABELS, "{text} It was <mask>.", ("terrible", "great"), _PHRASES, (1.2, 1.2),
               test_split="test", causal=("{text}<prompt> It was<mask>", ("terrible", "great"))),
    "MR-sentiment": Task("MR-sentiment", _LABELS, "Review: {text} Sentiment: <mask>", _LABELS, _PHRASES, (1.2, 1.2),
                         test_split="test", folder="MR",
                         causal=("Review: {text}\n<prompt>Sentiment:<mask>", _LABELS)),
}
"""The shipped tasks by name."""
