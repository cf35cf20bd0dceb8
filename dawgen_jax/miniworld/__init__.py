"""The mini world: text from a grammar with formal semantics, seven tasks with computed labels, and tiny backbones."""

import pathlib

from dawgen_jax.miniworld.examples import first_sentences, pools
from dawgen_jax.miniworld.tasks import TASKS, consistency

__all__ = ["BACKBONES", "TASKS", "consistency", "first_sentences", "pools"]

BACKBONES = pathlib.Path(__file__).parent / "backbones"
"""Hugging Face directories of the embedded backbones by name."""
