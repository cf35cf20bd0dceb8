"""Pools of labelled pairs of the mini tasks, and first sentences for synthesis, as functions of a seed.

    python -m tools.mini_world.pools            # writes dawgen_jax/miniworld/pools/NAME.json.gz

Sentence 2 is sampled first, and kept only if a sentence 1 for every label is found, all of them equally informative;
then the label is sampled. So the distribution of sentence 2 is independent of the label, and the length and generality
of sentence 1 reveal nothing about it. :func:`consistency` of the two sentences gives the label.
"""

from __future__ import annotations

import gzip
import json
import pathlib
from collections.abc import Collection
from random import Random
from typing import NamedTuple

from dawgen_jax import miniworld
from dawgen_jax.data.pools import Example, Pools
from dawgen_jax.miniworld.documents import pick
from dawgen_jax.miniworld.grammar import Sentence, text
from dawgen_jax.miniworld.lexicon import SLOTS
from dawgen_jax.miniworld.tasks import TASKS, consistency
from tools.mini_world import pairs

__all__ = ["first_sentences", "pools", "stored"]


class _Style(NamedTuple):
    """Distribution of a task's pairs.

    Attributes:
      levels: shares of complexity 0, 1, 2.
      negation: probability that a long sentence 2 is negated.
      shares: shares of the labels, as in the original's test set.
      train: size of the training pool, with at least 1,500 pairs of the rarest label.
    """

    levels: tuple[float, float, float]
    negation: float
    shares: tuple[float, ...]
    train: int


_THIRDS, _HALVES = (1 / 3,) * 3, (0.5, 0.5)
_STYLES = {
    "mini-qqp": _Style((0.1, 0.8, 0.1), 0.0, (0.63, 0.37), 4500),
    "mini-mrpc": _Style((0.05, 0.85, 0.1), 0.0, (1 / 3, 2 / 3), 4800),
    "mini-mnli": _Style((0.1, 0.6, 0.3), 0.1, _THIRDS, 4500),
    "mini-snli": _Style((0.2, 0.8, 0.0), 0.0, _THIRDS, 4500),
    "mini-qnli": _Style((0.2, 0.8, 0.0), 0.0, _HALVES, 4000),
    "mini-rte": _Style((0.1, 0.8, 0.1), 0.1, _HALVES, 4000),
    "mini-sick": _Style((0.15, 0.75, 0.1), 0.1, (0.29, 0.565, 0.145), 10400),
}
_SYMMETRIC = ("mini-qqp", "mini-mrpc")  # (b, a) has the label of (a, b), so one would reveal the other
_VALIDATION, _TEST, _FIRST = 600, 1500, 4000
_ROUNDS = 9


def _wanted(rng: Random, task: str) -> dict[str, str]:
    """A relation between statements per label, sampled before the sentences."""
    strict = "entailment" if rng.random() < 0.8 else "equivalent"
    if task == "mini-mrpc":
        return {"not_equivalent": pick(rng, pairs.RELATIONS[1:]), "equivalent": "equivalent"}
    if task == "mini-rte":
        return {"entailment": strict, "not_entailment": pick(rng, pairs.RELATIONS[2:])}
    return {"entailment": strict, "neutral": "neutral", "contradiction": "contradiction"}


_GENERAL = frozenset(word.lemma for table in SLOTS.values() for word in table.values() if word.mask & (word.mask - 1))


def _profile(sentence: Sentence) -> tuple[int, int]:
    """Informativeness of a sentence: (filled slots, words with more than one atom)."""
    lemmas = [lemma for slot in SLOTS if (lemma := getattr(sentence.clause, slot))]
    return len(lemmas), sum(lemma in _GENERAL for lemma in lemmas)


def _draw(rng: Random, task: str) -> tuple[dict[str, str], str] | None:
    """Sentence 1 by label, all with the same profile, and the shared sentence 2; None if none was found."""
    style = _STYLES[task]
    u = rng.random()
    level = 0 if u < style.levels[0] else 1 if u < style.levels[0] + style.levels[1] else 2
    clause = pairs.random_clause(rng, level, style.negation)
    second = Sentence("statement", clause)
    if task in ("mini-qqp", "mini-qnli"):
        kind = pick(rng, pairs.askable(clause))
        make = pairs.question_like if task == "mini-qqp" else pairs.question_about
        second = pairs.ask(clause, kind) if task == "mini-qqp" else second
        yes = "duplicate" if task == "mini-qqp" else "entailment"

        def candidate(label: str) -> Sentence | None:
            return make(rng, clause, kind, label == yes, level)
    else:
        wanted = _wanted(rng, task)

        def candidate(label: str) -> Sentence | None:
            first = pairs.premise(rng, clause, wanted[label], level)
            return None if first is None else Sentence("statement", first)
    found: dict[tuple[int, int], dict[str, Sentence]] = {}
    for _ in range(_ROUNDS):
        for label in TASKS[task].labels:
            first = candidate(label)
            if first is None:
                return None
            alike = found.setdefault(_profile(first), {})
            alike[label] = first
            if len(alike) == len(TASKS[task].labels):
                return {label: text(alike[label]) for label in TASKS[task].labels}, text(second)
    return None


def _counts(shares: tuple[float, ...], size: int) -> list[int]:
    counts = [round(share * size) for share in shares]
    counts[counts.index(max(counts))] += size - sum(counts)
    return counts


def _collect(rng: Random, task: str, size: int, seen: set[Collection[str]], shared: bool = False) -> list[Example]:
    """``size`` new pairs with the task's label shares, in random order.

    If ``shared``, a sentence 2 gives one pair for every label that is still wanted, otherwise a single pair.
    """
    labels = TASKS[task].labels
    left = dict(zip(labels, _counts(_STYLES[task].shares, size), strict=True))
    examples = []
    while any(left.values()):
        drawn = _draw(rng, task)
        if drawn is None:
            continue
        firsts, second = drawn
        wanted = [label for label in labels if left[label]]
        for label in wanted if shared else rng.choices(wanted, [left[label] for label in wanted]):
            pair = firsts[label], second
            known = frozenset(pair) if task in _SYMMETRIC else pair
            if known not in seen:
                seen.add(known)
                left[label] -= 1
                examples.append(Example(*pair, consistency(task, *pair)))
    return [example for _, example in sorted((rng.random(), example) for example in examples)]


def pools(name: str, seed: int = 0) -> Pools:
    """Training pool, validation and test set of a mini task.

    No pair is in two of them, nor its mirror image if the task is symmetric.
    """
    rng, seen = Random(f"{name}/{seed}"), set()
    test = _collect(rng, name, _TEST, seen)
    validation = _collect(rng, name, _VALIDATION, seen)
    train = _collect(rng, name, _STYLES[name].train, seen, shared=True)
    return Pools(train, validation, test, f"mini world, seed {seed}")


def first_sentences(name: str, seed: int = 0) -> list[str]:
    """4,000 distinct unlabelled first sentences of a mini task, sampled independently of its pools."""
    rng, found = Random(f"{name}/{seed}/first"), {}
    while len(found) < _FIRST:
        drawn = _draw(rng, name)
        if drawn is not None:
            found.update(dict.fromkeys(drawn[0].values()))
    return list(found)[:_FIRST]


def stored(name: str) -> bytes:
    """The file of a task: a compressed JSON object of its splits, each a list of pairs, and its first sentences."""
    made = pools(name)
    found = {"train": made.train, "validation": made.validation, "test": made.test,
             "first_sentences": first_sentences(name)}
    return gzip.compress(json.dumps(found, separators=(",", ":")).encode(), mtime=0)


def main() -> None:
    """Write the files of all tasks."""
    for name in _STYLES:
        path = pathlib.Path(miniworld.__file__).parent / "pools" / f"{name}.json.gz"
        path.write_bytes(stored(name))
        print(path)


if __name__ == "__main__":
    main()
