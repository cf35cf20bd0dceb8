"""Unlabelled text of the mini world and its denoising examples, streamed from a seed.

Documents are pairs of statements joined by a connective, pairs of questions, questions followed or preceded by
statements, and glossed pairs, in which other words replace the connectives ('so red maybe big : ... red ...'). The
meanings determine the joining word or the answer. The text begins with the shortest sentences, on which relations are
learned first; longer sentences are added later, and prefixes last.

Each document becomes a denoising example in a separate sequence. Either the salient span (joining word or answer; Guu
et al., REALM, https://arxiv.org/abs/2002.08909, 2020) is masked, or single words are masked, or the document is cut and
continued (prefix language modelling). In the end half of the inputs have a prefix of 1 to 12 words: random words, or
(at most a quarter of the inputs) the end of another document, so that the model is used to rows in front of a text when
soft prompts are put there.

``Departure:`` the three objectives are mixed from start to end, whereas the paper's T5 has span corruption first and
language model adaptation afterwards; and documents are not packed into one sequence: in an earlier trial packing did
not make prompts easier to tune, whereas prefixes did.

Everything is a function of (seed, block index): any number of processes gives the same stream. This module does not use
JAX.
"""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field, PositiveInt

from dawgen_jax.config.validation import AsTuple, Seed, Share, validated
from dawgen_jax.errors import ConfigError
from dawgen_jax.miniworld.documents import pick
from dawgen_jax.miniworld.grammar import Clause, Sentence, part, render
from dawgen_jax.miniworld.semantics import answer
from tools.mini_world import pairs
from tools.pretrain.vocabulary import (
    ANSWERING,
    CONNECTIVES,
    EOS,
    IDS,
    META_WORDS,
    NUM_SENTINELS,
    QUESTION_PAIRS,
    TOKENS,
    WORDS,
)

__all__ = ["Block", "CorpusConfig", "Document", "block", "document", "documents", "encode",
           "pad_block", "random_prefix"]


Shares = Annotated[tuple[Share, Share, Share], AsTuple]


@validated
class CorpusConfig:
    """Composition and masking of the text; shares are probabilities per document."""

    seed: Seed = 0
    """Seed of the whole stream."""
    first_levels: Shares = (1.0, 0.0, 0.0)
    """Shares of levels 0, 1 and 2 at the start, since relations are learned on short sentences first."""
    levels: Shares = (0.45, 0.45, 0.10)
    """The shares at the end of the curriculum; they change linearly."""
    settle: int = 32_000
    """Number of documents before the curriculum begins: short ones without prefixes."""
    curriculum: int = 72_000
    """Number of documents until `levels` are reached, and again until `prefixed` is reached: the model loses what it
    learned on short documents if long ones and prefixes start together. With 0 both are present from the start."""
    statement_pairs: Share = 0.63
    """Share of pairs of statements. Shares that no field takes are statements with a question that asks for a part."""
    question_pairs: Share = 0.06
    """Share of pairs of questions."""
    question_first: Share = 0.05
    """Share of questions followed by a statement."""
    polar: Share = 0.06
    """Share of statements followed by a polar question and yes, no or unknown."""
    glossed: Share = 0.15
    """Share of pairs that a glossary precedes."""
    salient: Share = 0.40
    """Share of examples whose joining word or answer is masked."""
    words: Share = 0.35
    """Share of examples with masked single words; the rest are cut and continued."""
    word_rate: Share = 0.3
    """Share of words that are masked in such an example."""
    prefixed: Share = 0.5
    """Share of inputs that begin with 1 to `max_prefix` random words or the end of another document."""
    max_prefix: PositiveInt = 12
    """Longest prefix in words."""
    instructions: bool = False
    """Verbalised tasks, with a share of this text, instead of text alone."""
    suffixed: Share = 0.3
    """Share of cut documents with 1 to 4 words of instructions before the cut, where soft infixes will be."""
    batch_size: PositiveInt = 32
    """Documents in a batch."""
    block_batches: PositiveInt = 50
    """Batches in a block, which one process generates, sorts by length and shuffles, and at most one dispatch runs."""
    max_source: Annotated[int, Field(ge=48)] = 48
    """Encoder tokens; prefixes are cut on the left to fit."""
    max_target: Annotated[int, Field(ge=16)] = 16
    """Decoder tokens."""

    def at(self, documents: int) -> CorpusConfig:
        """The configuration of the text after ``documents``, with the curriculum's level shares and prefixes."""
        position = (documents - self.settle) / self.curriculum if self.curriculum else 2.0
        longer, prefixed = (min(max(position - start, 0.0), 1.0) for start in (0, 1))
        levels = tuple((1 - longer) * a + longer * b for a, b in zip(self.first_levels, self.levels, strict=True))
        return dataclasses.replace(self, first_levels=levels, levels=levels, prefixed=prefixed * self.prefixed)

    def __post_init__(self):
        shares = (self.statement_pairs, self.question_pairs, self.question_first, self.polar, self.glossed)
        if sum(shares) > 1 or self.salient + self.words > 1:
            raise ConfigError("CorpusConfig: shares of documents must add up to at most 1, as must salient and words.")


class Document(NamedTuple):
    """Words of one document.

    Attributes:
      words: all words.
      salient: [start, end) of the joining word or the answer.
      kind: 'statements', 'questions', 'question_first', 'polar', 'part' or 'glossed'.
      relation: the family of the joining word, or the answer.
      level: 0, 1 or 2.
      gloss: words of the glossary in front, if any.
    """

    words: list[str]
    salient: tuple[int, int]
    kind: str
    relation: str
    level: int
    gloss: tuple[str, ...] = ()


def _joint(rng: Random, words: tuple[str, str]) -> str:
    """Mostly the first of the two words: an even choice would only add noise to the learning target."""
    return words[rng.random() < 0.15]


def _joined(first: list[str], joint: str, second: list[str], kind: str, relation: str, level: int) -> Document:
    return Document([*first, joint, *second], (len(first), len(first) + 1), kind, relation, level)


def _statement(clause: Clause) -> list[str]:
    return render(Sentence("statement", clause))


_WANTED = ("equivalent",) * 2 + ("entailment", "neutral", "contradiction") * 3


def _statements(rng: Random, level: int) -> Document | None:
    wanted = pick(rng, _WANTED)
    clause = pairs.random_clause(rng, level)
    first = pairs.premise(rng, clause, wanted, level)
    if first is None:
        return None
    return _joined(_statement(first), _joint(rng, CONNECTIVES[wanted]), _statement(clause), "statements", wanted, level)


def _questions(rng: Random, level: int) -> Document | None:
    wanted = pick(rng, tuple(QUESTION_PAIRS))
    clause = pairs.random_clause(rng, level, negation=0)
    kind = pick(rng, pairs.askable(clause))
    first = pairs.question_like(rng, clause, kind, wanted == "same", level)
    if first is None:
        return None
    joint = _joint(rng, QUESTION_PAIRS[wanted])
    return _joined(render(first), joint, render(pairs.ask(clause, kind)), "questions", wanted, level)


def _question(rng: Random, level: int, kinds: tuple[str, ...], known: bool) -> tuple[Clause, Sentence] | None:
    clause = pairs.random_clause(rng, level, negation=0)
    possible = [kind for kind in pairs.askable(clause) if kind in kinds]
    if not possible:
        return None
    question = pairs.question_about(rng, clause, pick(rng, possible), known, level)
    return None if question is None else (clause, question)


def _question_first(rng: Random, level: int) -> Document | None:
    known = rng.random() < 0.5
    found = _question(rng, level, ("polar", "who", "what", "where"), known)
    if found is None:
        return None
    wanted = "known" if known else "open"
    joint = _joint(rng, ANSWERING[wanted])
    return _joined(render(found[1]), joint, _statement(found[0]), "question_first", wanted, level)


def _answered(rng: Random, level: int, kinds: tuple[str, ...]) -> Document | None:
    found = _question(rng, level, kinds, rng.random() < 0.65)
    if found is None:
        return None
    clause, question = found
    says = answer(Sentence("statement", clause), question)
    reply = part(clause, question.kind) if says == "known" else [says or "unknown"]
    asked = [*_statement(clause), *render(question)]
    kind = "polar" if question.kind == "polar" else "part"
    return Document([*asked, *reply, "."], (len(asked), len(asked) + len(reply)), kind, says or "unknown", level)


def _glossed(rng: Random, level: int) -> Document | None:
    """A pair whose joining words are renamed by a preceding glossary."""
    make, table = pick(rng, ((_statements, CONNECTIVES), (_statements, CONNECTIVES), (_questions, QUESTION_PAIRS),
                             (_question_first, ANSWERING)))
    plain = make(rng, level)
    if plain is None:
        return None
    families = list(table)
    if table is CONNECTIVES and plain.relation != "equivalent" and rng.random() < 0.5:
        families.remove("equivalent")
    code, gloss = {}, []
    while families:
        family = families.pop(int(rng.random() * len(families)))
        code[family] = pick(rng, [word for word in WORDS if word not in code.values()])
        gloss += [pick(rng, table[family]), code[family]]
    words = list(plain.words)
    words[plain.salient[0]] = code[plain.relation]
    return plain._replace(words=words, kind="glossed", gloss=(*gloss, ":"))


def document(rng: Random, config: CorpusConfig) -> Document:
    """One document of the mixture in ``config``."""
    bounds = np.cumsum((config.statement_pairs, config.question_pairs, config.question_first, config.polar,
                        config.glossed)).tolist()
    while True:
        u, v = rng.random(), rng.random()
        level = 0 if v < config.levels[0] else 1 if v < config.levels[0] + config.levels[1] else 2
        if u < bounds[0]:
            made = _statements(rng, level)
        elif u < bounds[1]:
            made = _questions(rng, level)
        elif u < bounds[2]:
            made = _question_first(rng, level)
        elif u < bounds[3]:
            made = _answered(rng, level, ("polar",))
        elif u < bounds[4]:
            made = _glossed(rng, level)
        else:
            made = _answered(rng, level, ("who", "what", "where"))
        if made is not None:
            return made


def documents(config: CorpusConfig, stream: str = "text"):
    """An endless stream of documents, from ``config.seed`` and the name of the stream."""
    rng = Random(f"{config.seed}/{stream}")
    while True:
        yield document(rng, config)


PREFIX_WORDS = (*WORDS, *META_WORDS, *(word for table in (CONNECTIVES, QUESTION_PAIRS, ANSWERING)
                                        for words in table.values() for word in words))
_SENTINEL = IDS["<extra_id_0>"]


def random_prefix(rng: Random, other: list[str], config: CorpusConfig) -> list[str]:
    """The prefix of an input: no words, random words, or the end of ``other``."""
    if rng.random() >= config.prefixed:
        return []
    length = 1 + int(rng.random() * config.max_prefix)
    return [pick(rng, PREFIX_WORDS) for _ in range(length)] if rng.random() < 0.5 else other[-length:]


def encode(rng: Random, doc: Document, other: list[str], config: CorpusConfig) -> tuple[list[int], list[int]]:
    """Encoder and decoder ids of a denoising example, including the end of sequence.

    Args:
      rng: random generator for objective, masks and prefix.
      doc: the document.
      other: words of another document, whose end may become the prefix.
      config: shares and lengths.
    """
    ids = [IDS[word] for word in doc.words]
    start, end = doc.salient
    u = rng.random()
    if u < config.salient:
        source, target = [*ids[:start], _SENTINEL, *ids[end:]], [_SENTINEL, *ids[start:end]]
    elif u < config.salient + config.words:
        source, target, masked = [], [], 0
        limit = min(NUM_SENTINELS, (config.max_target - 1) // 2)
        forced = int(rng.random() * len(ids))
        for i, token in enumerate(ids):
            hit = rng.random() < config.word_rate or i == forced
            if hit and masked < limit:
                source.append(_SENTINEL + masked)
                target += (_SENTINEL + masked, token)
                masked += 1
            else:
                source.append(token)
    else:
        cut = start if doc.kind in ("polar", "part") or rng.random() < 0.4 else end
        source, target = ids[:cut], ids[cut:]
        if rng.random() < config.suffixed:
            source += [IDS[pick(rng, META_WORDS)] for _ in range(1 + int(rng.random() * 4))]
    front = [IDS[word] for word in (*random_prefix(rng, other, config), *doc.gloss)]
    room = config.max_source - 1 - len(source)
    return [*front[max(len(front) - room, 0):], *source, EOS], [*target, EOS]


class Block(NamedTuple):
    """``block_batches`` batches of padded ids: source [G, B, T] and target [G, B, U], int16, padded with 0."""

    source: np.ndarray
    target: np.ndarray


def pad_block(rng: Random, examples: list[tuple[list[int], list[int]]], config: CorpusConfig) -> Block:
    """Arrays of ``max_source`` and ``max_target`` columns: batches of similar length, in random order."""
    examples = sorted(examples, key=lambda example: (len(example[0]), len(example[1])))
    source = np.zeros((len(examples), config.max_source), np.int16)
    target = np.zeros((len(examples), config.max_target), np.int16)
    for row, (x, y) in enumerate(examples):
        source[row, : len(x)] = x
        target[row, : len(y)] = y
    order = np.argsort([rng.random() for _ in range(config.block_batches)], kind="stable")
    return Block(source.reshape(config.block_batches, -1, config.max_source)[order],
                 target.reshape(config.block_batches, -1, config.max_target)[order])


def block(config: CorpusConfig, index: int) -> Block:
    """Block ``index`` of the stream."""
    rng = Random(f"{config.seed}/{index}")
    config = config.at(index * config.batch_size * config.block_batches)
    other, examples = document(rng, config).words, []
    for _ in range(config.batch_size * config.block_batches):
        doc = document(rng, config)
        examples.append(encode(rng, doc, other, config))
        other = doc.words
    return pad_block(rng, examples, config)


def words(ids) -> list[str]:
    """Tokens of a row of ids, without padding."""
    return [TOKENS[i] for i in ids if i]
