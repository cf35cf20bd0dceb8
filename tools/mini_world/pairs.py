"""Random sentences, and pairs of sentences with a given relation.

The second sentence of a pair is sampled first, from one distribution. The first is then an edit of it, slot by slot,
and is kept only if the semantics confirm the relation. So the second sentence reveals little about the relation, only
that a first sentence was found (the pools of the tasks require one per label). Levels of complexity: 0 has agent and
intransitive verb, 1 adds adjective and place, 2 has all slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from dawgen_jax.miniworld.documents import pick
from dawgen_jax.miniworld.grammar import ASKED, Clause, Sentence, render
from dawgen_jax.miniworld.lexicon import FULL, SLOTS
from dawgen_jax.miniworld.semantics import answer, meaning, relation, same_question

__all__ = ["RELATIONS", "ask", "askable", "premise", "question_about", "question_like", "random_clause"]

RELATIONS = ("equivalent", "entailment", "neutral", "contradiction")

_OPTIONAL = {0: (), 1: ("agent_adjective", "place"), 2: ("count", "agent_adjective", "place")}
_PRESENT = {1: 0.6, 2: 0.45}
_TRIES = 25


def _compare(w, v) -> str:
    """The relation of word ``w`` to ``v`` in the same slot; None is an empty slot."""
    if w is None or v is None:
        first, second = (FULL[v.attribute], v.mask) if v else (w.mask, FULL[w.attribute]) if w else (1, 1)
    elif w.attribute != v.attribute:
        return "other"
    else:
        first, second = w.mask, v.mask
    both = first & second
    if first == second:
        return "same"
    return "narrower" if both == first else "broader" if both == second else "other" if both else "disjoint"


def _table(slot: str, optional: bool) -> dict[str, dict[str, tuple[str, ...]]]:
    words = {**({"": None} if optional else {}), **SLOTS[slot]}
    return {v: {how: tuple(w for w in words if _compare(words[w], words[v]) == how)
                for how in ("same", "narrower", "broader", "disjoint", "other")} for v in words}


_STANDING = {slot: _table(slot, slot not in ("agent", "verb")) for slot in SLOTS}
_ALL = {slot: tuple(SLOTS[slot]) for slot in SLOTS}
_INTRANSITIVE = tuple(lemma for lemma, word in SLOTS["verb"].items() if not word.participle)
_TRANSITIVE = tuple(lemma for lemma, word in SLOTS["verb"].items() if word.participle)
_ANY_OBJECT = _STANDING["object"][""]["same"][1:]

# Relation of each slot of the edited clause to the given slot, by goal: one deciding slot, and the others.
_KEEP = {"within": (("same", 0.55), ("narrower", 1.0)), "around": (("same", 0.55), ("broader", 1.0)),
         "equal": (("same", 1.0),), "disjoint": (("same", 0.45), ("narrower", 0.9), ("broader", 1.0)),
         "across": (("same", 0.45), ("narrower", 1.0))}
_DECIDE = {"within": ("narrower",), "around": ("broader",), "equal": ("same",), "disjoint": ("disjoint",),
           "across": ("broader", "broader", "other")}


def _surface(rng: Random, clause: Clause, level: int) -> Clause:
    if level < 2:
        return clause
    return clause._replace(passive=bool(clause.object) and rng.random() < 0.3,
                           fronted=bool(clause.place) and rng.random() < 0.25)


def random_clause(rng: Random, level: int, negation: float = 0.1) -> Clause:
    """A clause of complexity ``level``; at level 2 negated with probability ``negation``."""
    found = {}
    if level:
        while not found:
            found = {slot: pick(rng, _ALL[slot]) for slot in _OPTIONAL[level] if rng.random() < _PRESENT[level]}
    if level == 2 and rng.random() < 0.65:
        verb = pick(rng, _TRANSITIVE)
        found["object"] = pick(rng, _ALL["object"])
        if rng.random() < 0.5:
            found["object_adjective"] = pick(rng, _ALL["object_adjective"])
    else:
        verb = pick(rng, _INTRANSITIVE)
    clause = Clause(pick(rng, _ALL["agent"]), verb, **found)
    if level == 2 and rng.random() < negation:
        clause = clause._replace(negated=True, count="")
    return _surface(rng, clause, level)


def _edit(rng: Random, clause: Clause, goal: str, level: int) -> Clause | None:
    """A clause whose box should lie within, around, outside or across the box of ``clause``, or equal it."""
    slots, objects = ("agent", "verb", *_OPTIONAL[level]), ("object", "object_adjective") if clause.object else ()
    deciding = pick(rng, slots + objects)

    def change(slot: str, allowed: Sequence[str] | None = None) -> str | None:
        lemma = getattr(clause, slot)
        if slot == deciding:
            how = pick(rng, _DECIDE[goal])
        else:
            u = rng.random()
            how = next(name for name, bound in _KEEP[goal] if u < bound)
            if how == "narrower" and not lemma and rng.random() < 0.5:
                how = "same"
        options = _STANDING[slot][lemma][how]
        if allowed is not None:
            options = [option for option in options if option in allowed]
        if options:
            return pick(rng, options)
        return None if slot == deciding else lemma

    found = {}
    for slot in slots:
        found[slot] = change(slot, _INTRANSITIVE if slot == "verb" and level < 2 else None)
        if found[slot] is None:
            return None
    if SLOTS["verb"][found["verb"]].participle:
        for slot in objects:
            found[slot] = change(slot)
            if found[slot] is None:
                return None
        if not found.get("object"):
            found["object"] = pick(rng, _ANY_OBJECT if objects or goal in ("equal", "around") else _ALL["object"])
    return Clause(**found)


def _goal(rng: Random, wanted: str, negated: bool) -> tuple[str, bool]:
    """Goal of the edit, and whether the edited clause is negated, given whether the second clause is negated."""
    if not negated:
        return {"equivalent": "equal", "entailment": "within", "neutral": "across",
                "contradiction": "disjoint"}[wanted], False
    if wanted == "equivalent":
        return "equal", True
    if wanted == "contradiction":
        return "within", False
    first_negated = rng.random() < 0.4
    if wanted == "entailment":
        return ("around", True) if first_negated else ("disjoint", False)
    return ("across", first_negated)


def premise(rng: Random, clause: Clause, wanted: str, level: int) -> Clause | None:
    """A clause with relation ``wanted`` to ``clause``, in other words; None if none was found."""
    target, second = meaning(Sentence("statement", clause)), render(Sentence("statement", clause))
    for _ in range(_TRIES):
        goal, negated = _goal(rng, wanted, clause.negated)
        edited = _edit(rng, clause, goal, level)
        if edited is None:
            continue
        if negated:
            edited = edited._replace(negated=True, count="")
        edited = _surface(rng, edited, level)
        first = Sentence("statement", edited)
        if relation(meaning(first), target) == wanted and render(first) != second:
            return edited
    return None


def ask(clause: Clause, kind: str) -> Sentence:
    """The question of ``kind`` about ``clause``, without the parts for which it asks."""
    gone = dict.fromkeys(ASKED.get(kind, ()), "")
    if kind == "who" or (kind == "what" and not SLOTS["verb"][clause.verb].participle):
        gone["passive"] = False
    if kind == "where":
        gone["fronted"] = False
    return Sentence(kind, clause._replace(**gone))


def askable(clause: Clause) -> tuple[str, ...]:
    """Kinds of questions that can be asked about ``clause``; polar ones are listed twice, to be twice as likely."""
    return ("polar", "polar", "who", *(("where",) if clause.place else ()), *(("what",) if clause.object else ()))


def question_about(rng: Random, statement: Clause, kind: str, known: bool, level: int) -> Sentence | None:
    """A question of ``kind`` that ``statement`` answers, or leaves open if not ``known``."""
    said = Sentence("statement", statement)
    for _ in range(_TRIES):
        goal = pick(rng, ("around", "disjoint") if kind == "polar" else ("around",)) if known else (
            pick(rng, ("within", "across", "across", "disjoint") if kind != "polar" else ("within", "across")))
        edited = _edit(rng, statement, goal, level)
        if edited is None or (kind == "what" and not edited.object):
            continue
        question = ask(_surface(rng, edited, level), kind)
        if (answer(said, question) is not None) == known:
            return question
    return None


def question_like(rng: Random, clause: Clause, kind: str, same: bool, level: int) -> Sentence | None:
    """A question of ``kind`` with the same meaning as the question about ``clause`` if ``same``, else another one."""
    second = ask(clause, kind)
    words = render(second)
    for _ in range(_TRIES):
        edited = _edit(rng, clause, "equal" if same else pick(rng, ("within", "around", "across", "disjoint")), level)
        if edited is None or (kind == "what" and not edited.object):
            continue
        first = ask(_surface(rng, edited, level), kind)
        if same_question(first, second) == same and render(first) != words:
            return first
    return None
