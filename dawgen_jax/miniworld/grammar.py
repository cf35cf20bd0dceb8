"""Sentences of the mini world as lists of words: rendering of clauses as text, and parsing.

A clause names its content words by slot; passive voice, a fronted place and synonyms change the words but not the
meaning. A sentence is a clause used as a statement, a polar question ('does a boy run ?') or a question for one part
('who runs ?', 'what does a boy hold ?', 'where does a boy run ?').
"""

from __future__ import annotations

from typing import NamedTuple

from dawgen_jax.miniworld.lexicon import SLOTS

__all__ = ["ASKED", "Clause", "Sentence", "parse", "part", "render", "text"]

ASKED = {"who": ("count", "agent_adjective", "agent"), "what": ("object_adjective", "object"), "where": ("place",)}
"""Slots for which a question asks, and which it leaves open."""


class Clause(NamedTuple):
    """Lemmas by slot ('' if unspecified), and how the clause is worded.

    ``negated`` denies that such an event happens; a negated clause has no count.
    """

    agent: str
    verb: str
    count: str = ""
    agent_adjective: str = ""
    object_adjective: str = ""
    object: str = ""
    place: str = ""
    negated: bool = False
    passive: bool = False
    fronted: bool = False


class Sentence(NamedTuple):
    """A clause as a statement or a question."""

    kind: str
    clause: Clause


_AGENT_FORMS = {form: lemma for lemma, word in SLOTS["agent"].items() for form in word.forms}
_VERB_FORMS = {form: lemma for lemma, word in SLOTS["verb"].items() for form in (*word.forms, word.participle) if form}
_BARE_PLACES = frozenset(("outside", "outdoors", "inside", "indoors"))


def _article(negated: bool, word: str) -> str:
    return "no" if negated else "an" if word[0] in "aeiou" else "a"


def _agent_phrase(clause: Clause, negated: bool) -> list[str]:
    plural = clause.count not in ("", "one")
    words = [clause.agent_adjective] if clause.agent_adjective else []
    words.append(SLOTS["agent"][clause.agent].forms[plural])
    return [clause.count or _article(negated, words[0]), *words]


def _object_phrase(clause: Clause, negated: bool) -> list[str]:
    words = [clause.object_adjective, clause.object] if clause.object_adjective else [clause.object]
    return [_article(negated, words[0]), *words]


def _place_phrase(place: str) -> list[str]:
    if not place:
        return []
    return [place] if place in _BARE_PLACES else ["in", "the", place]


def render(sentence: Sentence) -> list[str]:
    """The words of ``sentence``, including its final '.' or '?'.

    >>> " ".join(render(Sentence("statement", Clause("boy", "hold", object="kite", passive=True, place="park"))))
    'a kite is held by a boy in the park .'
    """
    kind, c = sentence
    plural = c.count not in ("", "one") and kind != "who"
    verb = SLOTS["verb"][c.verb]
    third, base = verb.forms
    helper = ["do" if plural else "does"]
    thing = _object_phrase(c, c.negated and c.passive) if c.object and kind != "what" else []
    by = ["by", *_agent_phrase(c, False)] if c.passive else []
    if kind == "who":
        core = ["who", third, *thing]
    elif c.passive:
        if kind == "statement":
            core = [*thing, "is", verb.participle, *by]
        else:
            core = [*([] if kind == "polar" else [kind]), "is", *thing, verb.participle, *by]
    elif kind == "statement":
        core = [*_agent_phrase(c, c.negated), base if plural else third, *thing]
    else:
        core = [*([] if kind == "polar" else [kind]), *helper, *_agent_phrase(c, False), base, *thing]
    place = _place_phrase(c.place) if kind != "where" else []
    words = place + core if c.fronted else core + place
    return [*words, "." if kind == "statement" else "?"]


def part(clause: Clause, kind: str) -> list[str]:
    """The phrase of ``clause`` that answers a question of ``kind`` ('who', 'what' or 'where')."""
    if kind == "who":
        return _agent_phrase(clause, False)
    return _object_phrase(clause, False) if kind == "what" else _place_phrase(clause.place)


def text(sentence: Sentence) -> str:
    """The words of :func:`render` as one string."""
    return " ".join(render(sentence))


def _take(words: list[str], found: dict[str, str], *slots: tuple[str, dict]) -> None:
    """Move words from the front of ``words`` to ``found``, for each slot in turn whose table has the next word."""
    for slot, table in slots:
        if words and words[0] in table:
            found[slot] = table[words.pop(0)]


def _same(slot: str) -> dict[str, str]:
    return {lemma: lemma for lemma in SLOTS[slot]}


_COUNTS = {"a": "", "an": "", "no": "", **_same("count")}
_ARTICLES = {"a": "", "an": "", "no": ""}
_AGENT_SLOTS = (("count", _COUNTS), ("agent_adjective", _same("agent_adjective")), ("agent", _AGENT_FORMS))
_OBJECT_SLOTS = (("article", _ARTICLES), ("object_adjective", _same("object_adjective")), ("object", _same("object")))
_VERB_SLOT = ("verb", _VERB_FORMS)


def _take_place(words: list[str], found: dict[str, str]) -> bool:
    if words[:2] == ["in", "the"] and len(words) > 2 and words[2] in SLOTS["place"]:
        found["place"] = words[2]
        del words[:3]
        return True
    if words and words[0] in _BARE_PLACES:
        found["place"] = words.pop(0)
        return True
    return False


def parse(words: list[str] | str) -> Sentence | None:
    """The sentence with these words, or None; the inverse of ``render``, which accepts no other text.

    >>> parse("in the park two kids sleep .").clause.count
    'two'
    >>> parse("a boy sleep .") is None
    True
    """
    tokens = words.split() if isinstance(words, str) else list(words)
    rest, found = tokens[:-1], {}
    fronted = _take_place(rest, found)
    kind = rest[0] if rest and rest[0] in ASKED else "polar" if tokens[-1:] == ["?"] else "statement"
    negated = "no" in rest
    if kind in ASKED:
        rest = rest[1:]
    passive = "by" in rest
    for word in ("is",) if passive else ("do", "does"):
        if word in rest:
            rest.remove(word)
    if passive:
        rest.remove("by")
        _take(rest, found, *_OBJECT_SLOTS, _VERB_SLOT, *_AGENT_SLOTS)
    else:
        _take(rest, found, *(_AGENT_SLOTS if kind != "who" else ()), _VERB_SLOT, *_OBJECT_SLOTS)
    if not fronted:
        _take_place(rest, found)
    found.pop("article", None)
    if rest or "verb" not in found or (kind != "who" and "agent" not in found):
        return None
    if passive and kind == "who":
        return None  # A passive question without an agent: render has no such form.
    verb = SLOTS["verb"][found["verb"]]
    if bool(verb.participle) != ("object" in found or kind == "what"):
        return None
    found.setdefault("agent", "")
    sentence = Sentence(kind, Clause(**found, negated=negated, passive=passive, fronted=fronted))
    return sentence if render(sentence) == tokens else None
