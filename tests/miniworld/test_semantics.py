"""The semantics against a model checker that knows only taxonomies and enumerates scenes."""

from random import Random

import numpy as np
import pytest

from dawgen_jax.miniworld.documents import pick
from dawgen_jax.miniworld.grammar import ASKED, Sentence, parse, render, text
from dawgen_jax.miniworld.lexicon import ATOMS, ATTRIBUTES, FULL, SLOTS
from dawgen_jax.miniworld.semantics import answer, meaning, relation, same_question
from tools.mini_world import pairs

LEVELS = (0, 1, 2)


def extension(slot, lemma):
    """Attribute and names of the atoms of a word, read off its mask."""
    word = SLOTS[slot][lemma]
    attribute = ATTRIBUTES[word.attribute]
    return attribute, {atom for i, atom in enumerate(ATOMS[attribute]) if word.mask >> i & 1}


def random_sentence(rng):
    """A statement, or a question about it if it is not negated."""
    clause = pairs.random_clause(rng, pick(rng, LEVELS))
    if clause.negated or rng.random() < 0.5:
        return Sentence("statement", clause)
    return pairs.ask(clause, pick(rng, pairs.askable(clause)))


def small_universe(sentences, rng):
    """A few atoms of each attribute: one for every way in which the sentences' words tell atoms apart."""
    universe = {}
    for attribute, atoms in ATOMS.items():
        cells = {}
        for atom in atoms:
            key = tuple(atom in extension(slot, lemma)[1] for sentence in sentences for slot in SLOTS
                        if (lemma := getattr(sentence.clause, slot)) and slot not in ASKED.get(sentence.kind, ())
                        and extension(slot, lemma)[0] == attribute)
            cells.setdefault(key, []).append(atom)
        universe[attribute] = [pick(rng, cell) for cell in cells.values()]
    return universe


def truth(sentence, universe):
    """Truth in every scene of the universe: an array with one axis an attribute."""
    true = np.ones([len(universe[attribute]) for attribute in ATTRIBUTES], bool)
    for slot in SLOTS:
        lemma = getattr(sentence.clause, slot)
        if not lemma or slot in ASKED.get(sentence.kind, ()):
            continue
        attribute, atoms = extension(slot, lemma)
        axis = ATTRIBUTES.index(attribute)
        holds = np.array([atom in atoms for atom in universe[attribute]])
        true &= holds.reshape([-1 if i == axis else 1 for i in range(true.ndim)])
    return ~true if sentence.clause.negated else true


def checked_relation(first, second, rng):
    universe = small_universe([first, second], rng)
    a, b = truth(first, universe), truth(second, universe)
    forth, back = not (a & ~b).any(), not (b & ~a).any()
    assert a.any() and b.any()
    if forth:
        return "equivalent" if back else "entailment"
    return "contradiction" if not (a & b).any() else "neutral"


def random_statement(rng):
    clause = pairs.random_clause(rng, pick(rng, LEVELS), negation=0.3)
    return Sentence("statement", clause)


def test_relation_agrees_with_the_model_checker_on_10000_random_pairs():
    rng, seen = Random("check"), {}
    for i in range(10_400):
        second = random_statement(rng)
        if i % 3:
            clause = pairs.premise(rng, second.clause, pick(rng, pairs.RELATIONS), 2)
            first = Sentence("statement", clause) if clause else random_statement(rng)
        else:
            first = random_statement(rng)
        # Only the words are handed over: how the pair was made cannot matter.
        first, second = parse(text(first)), parse(text(second))
        found = relation(meaning(first), meaning(second))
        assert found == checked_relation(first, second, rng), (text(first), text(second))
        seen[found] = seen.get(found, 0) + 1
    assert set(seen) == set(pairs.RELATIONS) and min(seen.values()) > 500


def test_relation_of_swapped_and_equal_pairs():
    rng, swapped = Random(1), {"equivalent": {"equivalent"}, "contradiction": {"contradiction"},
                               "entailment": {"neutral"}, "neutral": {"neutral", "entailment"}}
    for _ in range(500):
        a, b = meaning(random_statement(rng)), meaning(random_statement(rng))
        assert relation(b, a) in swapped[relation(a, b)]
        assert relation(a, a) == "equivalent"


@pytest.mark.parametrize("first, second, wanted", [
    ("a boy runs .", "a child moves .", "entailment"),
    ("a kid moves .", "a boy runs .", "neutral"),
    ("a boy sleeps .", "a dog sleeps .", "contradiction"),
    ("two boys push a red ball .", "a scarlet ball is shoved by two boys .", "equivalent"),
    ("no child moves .", "no boy runs .", "entailment"),
    ("a boy sleeps .", "no boy runs .", "entailment"),
    ("a boy runs in the park .", "no child moves outside .", "contradiction"),
    ("no boy runs .", "a child moves .", "neutral"),
    ("a big boy runs .", "a happy boy runs .", "neutral"),
    ("three boys run .", "some boys run .", "entailment"),
    ("one boy runs .", "some boys run .", "contradiction"),
    ("a boy holds a ball .", "a boy works .", "entailment"),
])
def test_relation_by_hand(first, second, wanted):
    assert relation(meaning(parse(first)), meaning(parse(second))) == wanted


@pytest.mark.parametrize("statement, question, wanted", [
    ("a boy runs in the park .", "who moves outside ?", "known"),
    ("a boy runs .", "where does a boy run ?", None),
    ("a boy runs in the park .", "where does a child run ?", "known"),
    ("a boy works .", "what does a boy hold ?", None),
    ("a boy holds a ball .", "what is handled by a kid ?", "known"),
    ("no boy runs .", "who runs ?", None),
    ("a boy runs .", "does a child move ?", "yes"),
    ("a boy runs .", "does a child sleep ?", "no"),
    ("a child runs .", "does a boy run ?", None),
])
def test_answers_by_hand(statement, question, wanted):
    assert answer(parse(statement), parse(question)) == wanted


def test_answers_agree_with_the_model_checker():
    rng, seen = Random(2), set()
    for _ in range(1500):
        clause = pairs.random_clause(rng, pick(rng, LEVELS), negation=0)
        kind = pick(rng, pairs.askable(clause))
        question = pairs.question_about(rng, clause, kind, rng.random() < 0.5, 2)
        if question is None:
            continue
        if rng.random() < 0.2:
            clause = clause._replace(negated=True, count="")
        said = Sentence("statement", clause)
        how = checked_relation(said, question, rng)
        entailed = how in ("equivalent", "entailment")
        if kind == "polar":
            wanted = "yes" if entailed else "no" if how == "contradiction" else None
        else:
            focus = ATTRIBUTES.index({"who": "agent", "what": "object", "where": "place"}[kind])
            wanted = "known" if entailed and meaning(said).masks[focus] != FULL[focus] else None
        assert answer(said, question) == wanted
        seen.add((wanted, clause.negated))
    # 'no' is contradiction: by what excludes the scenes asked for, or denies them.
    assert seen == {("yes", False), ("no", False), ("known", False), (None, False), ("no", True), (None, True)}


def test_same_question_is_same_scenes_and_same_part():
    assert same_question(parse("who runs outside ?"), parse("outdoors who sprints ?"))
    assert not same_question(parse("who runs ?"), parse("does a boy run ?"))
    assert not same_question(parse("who runs ?"), parse("who moves ?"))


def test_every_sentence_parses_back_and_others_do_not():
    rng = Random(3)
    for _ in range(3000):
        level = pick(rng, LEVELS)
        clause = pairs.random_clause(rng, level)
        sentence = Sentence("statement", clause)
        assert parse(render(sentence)) == sentence
        if not clause.negated:
            question = pairs.ask(clause, pick(rng, pairs.askable(clause)))
            again = parse(text(question))
            assert again.kind == question.kind and meaning(again) == meaning(question)
    for wrong in ("", ".", "a boy run .", "a boys run .", "two boy run .", "a boy runs", "a boy runs ?", "boy runs .",
                  "a boy holds .", "a boy runs a ball .", "a animal runs .", "an boy runs .", "a boy runs . .",
                  "does a boy runs ?", "no two boys run .", "in the park a boy runs in the park .", "a boy a boy .",
                  "a ball is run by a boy .", "who holds by", "where does a boy run in the park ?",
                  "what does a boy run ?"):
        assert parse(wrong) is None, wrong


def test_edited_sentences_parse_to_themselves_or_not_at_all():
    """A generator writes any order of words: 'who ... by' once ended a run with a KeyError."""
    rng = Random(5)
    words = sorted({word for _ in range(300) for word in render(random_sentence(rng))})
    for _ in range(20_000):
        tokens = render(random_sentence(rng))
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(tokens) + 1)
            tokens[place:place + rng.randint(0, 1)] = rng.sample(words, rng.randint(0, 1))
        sentence = parse(tokens)
        assert sentence is None or render(sentence) == tokens
