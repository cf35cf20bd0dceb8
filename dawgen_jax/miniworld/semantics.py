"""Relations between sentences, computed from their meanings alone.

All sentences of a pair speak of one scene. A positive statement denotes the scenes whose every attribute lies in
the set that its words allow (a box, kept as one bit mask an attribute), a negated statement all others. Relations
are relations of these sets of scenes: with boxes A and B, A entails B iff each mask of A is contained in B's, and
they exclude each other iff two masks are disjoint.
"""

from __future__ import annotations

from typing import NamedTuple

from dawgen_jax.miniworld.grammar import ASKED, Sentence
from dawgen_jax.miniworld.lexicon import ATTRIBUTES, FULL, SLOTS

__all__ = ["Meaning", "answer", "meaning", "relation", "same_question"]


class Meaning(NamedTuple):
    """What a sentence says: masks of allowed atoms by attribute, all others if ``negated``."""

    masks: tuple[int, ...]
    negated: bool


_CONSTRAINTS = {(slot, lemma): (word.attribute, word.mask) for slot, table in SLOTS.items()
                for lemma, word in table.items()}
_FOCUS = {"who": ATTRIBUTES.index("agent"), "what": ATTRIBUTES.index("object"), "where": ATTRIBUTES.index("place")}
_SLOT_NAMES = tuple(SLOTS)


def meaning(sentence: Sentence) -> Meaning:
    """The meaning of a statement, or what a question takes for granted (the parts it asks for left open)."""
    kind, clause = sentence
    masks = list(FULL)
    skipped = ASKED.get(kind, ())
    for slot in _SLOT_NAMES:
        lemma = getattr(clause, slot)
        if lemma and slot not in skipped:
            attribute, mask = _CONSTRAINTS[slot, lemma]
            masks[attribute] &= mask
    return Meaning(tuple(masks), clause.negated)


def relation(first: Meaning, second: Meaning) -> str:
    """'equivalent', 'entailment', 'contradiction' or 'neutral': how ``first`` stands to ``second``.

    'entailment' is strict here: the second follows from the first and not the other way round.
    """
    a, b = first.masks, second.masks
    within = all(x & y == x for x, y in zip(a, b, strict=True))
    around = all(x & y == y for x, y in zip(a, b, strict=True))
    apart = any(x & y == 0 for x, y in zip(a, b, strict=True))
    if first.negated != second.negated:
        # No scene outside a box can be told apart from all of another: a complement never lies within a box here.
        if apart:
            return "neutral" if first.negated else "entailment"
        inner = around if first.negated else within
        return "contradiction" if inner else "neutral"
    if within and around:
        return "equivalent"
    if around if first.negated else within:
        return "entailment"
    return "contradiction" if apart and not first.negated else "neutral"


def answer(statement: Sentence, question: Sentence) -> str | None:
    """'yes' or 'no' to a polar question, 'known' to another one that the statement answers, else None.

    A question for a part is answered if the statement entails what it takes for granted and names that part.
    """
    said, asked = meaning(statement), meaning(question)
    if question.kind == "polar":
        how = relation(said, asked)
        return {"equivalent": "yes", "entailment": "yes", "contradiction": "no"}.get(how)
    focus = _FOCUS[question.kind]
    entails = relation(said, asked) in ("equivalent", "entailment")
    return "known" if entails and not said.negated and said.masks[focus] != FULL[focus] else None


def same_question(first: Sentence, second: Sentence) -> bool:
    """Whether two questions ask for the same part of the same scenes."""
    return first.kind == second.kind and meaning(first) == meaning(second)
