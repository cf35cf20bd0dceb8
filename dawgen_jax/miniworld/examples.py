"""Labelled pairs of the mini tasks, and first sentences for synthesis, as ``tools/mini_world/pools.py`` made them."""

from __future__ import annotations

import functools
import gzip
import json
import pathlib

from dawgen_jax.data.pools import Example, Pools
from dawgen_jax.miniworld.tasks import unworded

__all__ = ["first_sentences", "pools"]


@functools.lru_cache(maxsize=2)
def _read(name: str) -> dict[str, list]:
    path = pathlib.Path(__file__).parent / "pools" / f"{name}.json.gz"
    return json.loads(gzip.decompress(path.read_bytes()))


def pools(name: str) -> Pools:
    """Training pool, validation and test set of a mini task.

    No pair is in two of them, nor its mirror image if the task is symmetric. Sentence 2 says nothing about the label,
    and the length and generality of sentence 1 do not either.
    """
    found = _read(unworded(name))
    splits = {split: [Example(*fields) for fields in found[split]] for split in ("train", "validation", "test")}
    return Pools(**splits, source="mini world, seed 0")


def first_sentences(name: str) -> list[str]:
    """4,000 distinct unlabelled first sentences of a mini task, sampled independently of its pools."""
    return list(_read(unworded(name))["first_sentences"])
