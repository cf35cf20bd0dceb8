"""The words of the mini world: their denotations, which define taxonomies, synonymy and exclusion.

A scene has one value (atom) per attribute: how many agents, their kind, size and mood, the action, the kind, colour and
size of its object, and the place. A content word denotes a set of atoms of one attribute, stored as a bit mask: 'child'
is {boy, girl}, 'kid' the same set (a synonym), 'person' a larger one, 'dog' a disjoint one. All relations between words
(entailment, antonymy, exclusion) follow from these sets.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ATOMS", "ATTRIBUTES", "FULL", "SLOTS", "Word"]

ATOMS: dict[str, tuple[str, ...]] = {
    "count": ("1", "2", "3", "4"),
    "agent": ("boy", "girl", "man", "woman", "dog", "cat"),
    "agent_size": ("big", "small", "medium"),
    "mood": ("happy", "sad", "calm"),
    "verb": ("run", "walk", "sleep", "sit", "push", "pull", "hold"),
    "object": ("ball", "doll", "cake", "pear"),
    "colour": ("red", "blue", "green"),
    "object_size": ("big", "small", "medium"),
    "place": ("park", "garden", "kitchen", "school"),
}
"""Atoms by attribute; a scene has one of each."""
ATTRIBUTES = tuple(ATOMS)
FULL = tuple((1 << len(atoms)) - 1 for atoms in ATOMS.values())
"""The mask of all atoms per attribute, which is the meaning of a sentence that leaves the attribute open."""


class Word(NamedTuple):
    """A content word.

    Attributes:
      lemma: its name in clauses.
      attribute: position in ``ATTRIBUTES``.
      mask: bit i is set if the word denotes atom i of the attribute.
      forms: surface forms: (singular, plural) of nouns, (third person, base) of verbs, (word,) of others.
      participle: form of transitive verbs, which always have an object; empty for other words.
    """

    lemma: str
    attribute: int
    mask: int
    forms: tuple[str, ...]
    participle: str = ""


def _words(attribute: str, *entries: tuple[str, str]) -> dict[str, Word]:
    """Words from (names separated by '=', atoms separated by spaces; no atoms means the atom of the first name)."""
    index, table = ATTRIBUTES.index(attribute), {}
    for names, atoms in entries:
        mask = 0
        for atom in (atoms or names.split("=")[0].split("/")[0]).split():
            mask |= 1 << ATOMS[attribute].index(atom)
        for name in names.split("="):
            forms = name.split("/")
            table[forms[0]] = Word(forms[0], index, mask, tuple(forms))
    return table


def _nouns(attribute: str, *entries: tuple[str, str], irregular: dict[str, str]) -> dict[str, Word]:
    return {lemma: word._replace(forms=(lemma, irregular.get(lemma, lemma + "s")))
            for lemma, word in _words(attribute, *entries).items()}


def _verbs(*entries: tuple[str, str]) -> dict[str, Word]:
    """Verbs in the form base/third, or base/third/participle if they are transitive."""
    table = {}
    for lemma, word in _words("verb", *entries).items():
        base, third, *rest = word.forms
        table[lemma] = word._replace(forms=(third, base), participle=rest[0] if rest else "")
    return table


_SIZES = (("big=large", "big"), ("small", "small"))

SLOTS: dict[str, dict[str, Word]] = {
    "count": _words("count", ("one", "1"), ("two", "2"), ("three", "3"), ("some", "2 3 4")),
    "agent_adjective": {**_words("agent_size", *_SIZES), **_words("mood", ("happy=glad", ""), ("sad", ""))},
    "agent": _nouns(
        "agent", ("boy", ""), ("girl", ""), ("man", ""), ("woman", ""), ("dog", ""), ("cat", ""),
        ("child=kid", "boy girl"), ("person", "boy girl man woman"), ("animal=beast", "dog cat"),
        irregular={"man": "men", "woman": "women", "child": "children", "person": "people"},
    ),
    "verb": _verbs(
        ("run/runs=sprint/sprints", ""), ("walk/walks", ""), ("move/moves", "run walk"),
        ("sleep/sleeps=doze/dozes", ""), ("sit/sits", ""), ("rest/rests", "sleep sit"),
        ("work/works", "push pull hold"), ("push/pushes/pushed=shove/shoves/shoved", ""), ("pull/pulls/pulled", ""),
        ("hold/holds/held", ""), ("handle/handles/handled", "push pull hold"),
    ),
    "object_adjective": {**_words("colour", ("red=scarlet", ""), ("blue", "")), **_words("object_size", *_SIZES)},
    "object": _words(
        "object", ("ball", ""), ("doll", ""), ("cake", ""), ("pear", ""), ("toy", "ball doll"), ("snack", "cake pear"),
        ("thing=item", "ball doll cake pear"),
    ),
    "place": _words(
        "place", ("park", ""), ("garden", ""), ("kitchen", ""), ("school", ""), ("outside=outdoors", "park garden"),
        ("inside=indoors", "kitchen school"),
    ),
}
"""Content words by slot of a clause, then by lemma."""
