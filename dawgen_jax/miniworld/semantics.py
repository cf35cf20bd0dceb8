"""Relations between sentences, computed from their meanings alone.

All sentences of a pair refer to one scene. A positive statement denotes the scenes whose attributes all lie in the sets
that its words allow (a box, stored as one bit mask per attribute); a negated statement denotes all other scenes.
Relations between statements are relations between these sets: with boxes A and B, A entails B iff each mask of A is
contained in B's, and they exclude each other iff two masks are disjoint.
"""

from __future__ import annotations

from typing import NamedTuple

from dawgen_jax.miniworld.grammar import ASKED, Sentence
from dawgen_jax.miniworld.lexicon import ATTRIBUTES, FULL, SLOTS

__all__ = ["Meaning", "answer", "meaning", "relation", "same_question"]


class Meaning(NamedTuple):
    """The meaning of a sentence: masks of allowed atoms by attribute, or all other scenes if ``negated``."""

    masks: tuple[int, ...]
    negated: bool


_FOCUS = {"who": ATTRIBUTES.index("agent"), "what": ATTRIBUTES.index("object"), "where": ATTRIBUTES.index("place")}


def meaning(sentence: Sentence) -> Meaning:
    """The meaning of a statement, or the presupposition of a question (with the requested parts left open)."""
    kind, clause = sentence
    masks = list(FULL)
    skipped = ASKED.get(kind, ())
    for slot, words in SLOTS.items():
        lemma = getattr(clause, slot)
        if lemma and slot not in skipped:
            masks[words[lemma].attribute] &= words[lemma].mask
    return Meaning(tuple(masks), clause.negated)


def relation(first: Meaning, second: Meaning) -> str:
    """The relation of ``first`` to ``second``: 'equivalent', 'entailment', 'contradiction' or 'neutral'.

    'entailment' is strict: the second follows from the first, but not conversely.
    """
    a, b = first.masks, second.masks
    within = all(x & y == x for x, y in zip(a, b, strict=True))
    around = all(x & y == y for x, y in zip(a, b, strict=True))
    disjoint = any(x & y == 0 for x, y in zip(a, b, strict=True))
    if first.negated != second.negated:
        # The complement of a box is never contained in a box here, so a negated sentence never entails a positive one.
        if disjoint:
            return "neutral" if first.negated else "entailment"
        inner = around if first.negated else within
        return "contradiction" if inner else "neutral"
    if within and around:
        return "equivalent"
    if around if first.negated else within:
        return "entailment"
    return "contradiction" if disjoint and not first.negated else "neutral"


def answer(statement: Sentence, question: Sentence) -> str | None:
    """'yes' or 'no' to a polar question, 'known' to another question that the statement answers, else None.

    A question for a part is answered if the statement entails its presupposition and names the part.
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
