"""Accuracy of a backbone of the mini world at the joining word or answer of newly generated documents.

The documents are not disjoint from the training text: there are only 99 sentences of level 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax.backbones.base import Model
from tools.pretrain import corpus
from tools.pretrain.corpus import CorpusConfig
from tools.pretrain.vocabulary import ANSWERING, ANSWERS, CONNECTIVES, IDS, QUESTION_PAIRS

__all__ = ["Probe", "draw_probes", "evaluate", "first_word", "next_tokens"]

_FAMILIES = (*CONNECTIVES.values(), *QUESTION_PAIRS.values(), *ANSWERING.values(), *((word,) for word in ANSWERS))


class Probe(NamedTuple):
    """Documents whose joining word (or answer) is masked: source [N, T], good [N, 2] ids of correct words."""

    source: np.ndarray
    good: np.ndarray


def draw_probes(config: CorpusConfig, size: int) -> dict[str, Probe]:
    """Probes by kind: pairs of statements by level (long ones after 8 random words), and the other kinds."""
    end = config.at(config.settle + 2 * config.curriculum)
    mask_only = dataclasses.replace(end, salient=1.0, words=0.0, prefixed=0.0)
    family = {word: words for words in _FAMILIES for word in words}
    rng, wanted = Random("held-out"), {}
    kinds = [f"statements_{level}" for level in range(3)]
    kinds += ["prefixed_2", "questions", "question_first", "polar", "glossed"]
    stream = corpus.documents(mask_only, "held-out")
    while len(wanted) < len(kinds) or min(map(len, wanted.values())) < size:
        doc = next(stream)
        name = f"statements_{doc.level}" if doc.kind == "statements" else doc.kind
        if name not in kinds:
            continue
        start, end = doc.salient
        source, _ = corpus.encode(rng, doc, [], mask_only)
        right = doc.words[start:end]
        good = [IDS[word] for word in family.get(right[0], right[:1])]
        row = (source, [*good, good[0]][:2])
        wanted.setdefault(name, []).append(row)
        if name == "statements_2":
            front = [IDS[corpus.pick(rng, corpus.PREFIX_WORDS)] for _ in range(8)]
            wanted.setdefault("prefixed_2", []).append((front + source, row[1]))
    probes = {}
    for name in kinds:
        rows = wanted[name][:size]
        source = np.zeros((size, config.max_source), np.int32)
        for i, (ids, _) in enumerate(rows):
            source[i, : len(ids)] = ids
        probes[name] = Probe(source, np.array([good for _, good in rows], np.int32))
    return probes


def next_tokens(theta, source: jax.Array, target: jax.Array, *, model: Model) -> jax.Array:
    """Logits [B, U, V] of each target token given the tokens before it, for ``source`` [B, T], both padded with 0."""
    states = model.target_states(theta, model.embed(theta, source), source != 0, target)
    return model.logits(theta, states)


def first_word(theta, source: jax.Array, *, model: Model) -> jax.Array:
    """The likeliest token [N] after <extra_id_0>."""
    target = jnp.full((source.shape[0], 2), IDS["<extra_id_0>"], jnp.int32)
    return jnp.argmax(next_tokens(theta, source, target, model=model)[:, 1], axis=-1)


def evaluate(guess: Callable, theta, probes: dict[str, Probe]) -> dict[str, float]:
    """Share of correct words by probe; ``guess`` is the compiled :func:`first_word`, a function of (theta, source)."""
    guessed = np.asarray(guess(theta, np.concatenate([probe.source for probe in probes.values()])))
    parts = np.split(guessed, np.cumsum([len(probe.source) for probe in probes.values()])[:-1])
    return {name: float(np.mean((part[:, None] == probe.good).any(axis=1)))
            for (name, probe), part in zip(probes.items(), parts, strict=True)}
