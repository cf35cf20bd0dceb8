"""Documents of the mini world: statements about one subject, where neighbours share the verb or the place.

From one statement to the next either the verb or the place changes, in turn, and no value is repeated. So neighbours
share their subject and one of the two, other statements of a document share only their subject, and statements of two
documents seldom share the subject. Synonyms and word order vary. The words therefore determine whether two statements
are adjacent, from one document or from two.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from random import Random
from typing import TypeVar

from dawgen_jax.data.documents import NEXT_SENTENCE as PLAIN
from dawgen_jax.data.documents import Documents
from dawgen_jax.miniworld.grammar import Clause, Sentence, text
from dawgen_jax.miniworld.lexicon import SLOTS
from dawgen_jax.tasks import Task

__all__ = ["NEXT_SENTENCE", "documents", "pick"]

T = TypeVar("T")

NEXT_SENTENCE = Task("mini-next-sentence", PLAIN.labels, PLAIN.template, ("red", "big", "two"), PLAIN.phrases,
                     PLAIN.repetition_penalty)
"""PPT's pre-training task with label words from the mini world, as in its other tasks."""

_SHORTEST, _LONGEST = 5, 7


def pick(rng: Random, items: Sequence[T]) -> T:
    """One of ``items``, uniformly, and the same on every Python version, unlike ``Random.choice``."""
    return items[int(rng.random() * len(items))]


def _synonyms(slot: str, one_atom: bool = False) -> list[tuple[str, ...]]:
    """Lemmas of a slot (in statements without object) by denotation; ``one_atom``: only denotations of one atom."""
    table: dict[tuple[int, int], list[str]] = {}
    for lemma, word in SLOTS[slot].items():
        if not word.participle and not (one_atom and word.mask & (word.mask - 1)):
            table.setdefault((word.attribute, word.mask), []).append(lemma)
    return [tuple(lemmas) for lemmas in table.values()]


_AGENTS, _ADJECTIVES = _synonyms("agent"), [("",), *_synonyms("agent_adjective")]
_PLACES = _synonyms("place", one_atom=True)
_VERBS = [*_synonyms("verb", one_atom=True), ("work",)]


def _shuffled(rng: Random, items: list) -> list:
    return [item for _, item in sorted((rng.random(), item) for item in items)]


def _document(rng: Random) -> list[str]:
    agent, adjective = pick(rng, _AGENTS), pick(rng, _ADJECTIVES)
    verbs, places = _shuffled(rng, _VERBS), _shuffled(rng, _PLACES)
    verb_first, length = rng.random() < 0.5, _SHORTEST + int(rng.random() * (_LONGEST + 1 - _SHORTEST))
    statements = []
    for number in range(length):
        ahead, behind = (number + 1) // 2, number // 2
        verb, place = (verbs[ahead], places[behind]) if verb_first else (verbs[behind], places[ahead])
        clause = Clause(pick(rng, agent), pick(rng, verb), agent_adjective=pick(rng, adjective),
                        place=pick(rng, place), fronted=rng.random() < 0.25)
        statements.append(text(Sentence("statement", clause)))
    return statements


@functools.lru_cache(maxsize=2)
def documents(count: int = 4000, seed: int = 0) -> Documents:
    """``count`` documents of 5 to 7 statements, as a function of (count, seed).

    >>> documents(1).texts[0][:3]
    ['in the school an animal works .', 'in the school an animal runs .', 'an animal runs in the park .']
    """
    rng = Random(f"documents/{seed}")
    return Documents(f"mini world documents, seed {seed}", [_document(rng) for _ in range(count)])
