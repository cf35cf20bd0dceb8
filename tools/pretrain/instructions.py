"""Verbalised tasks of the mini world, which teach a backbone to follow instructions, as Flan does for T5.

The tasks are: truth of a claim, questions with yes and no and with short answers, whether two questions are the same,
whether a text answers a question, and rewriting a sentence. Each has an instruction in words, which sometimes renames
the answers. A share of plain denoising prevents forgetting.

The fixed answer words of the seven mini tasks are held out, unless a glossary explains them. The form of their
templates is not: a pair with a masked joint also has the form sentence, <mask>, sentence, in pre-training and in the
share of denoising here, with the joint as the answer; and in glossed pairs (15 % of the documents) any content word may
replace the joint, after a glossary that says so.
"""

from __future__ import annotations

from random import Random

from dawgen_jax.miniworld.documents import pick
from dawgen_jax.miniworld.grammar import Sentence, part, render
from dawgen_jax.miniworld.semantics import answer
from tools.mini_world import pairs
from tools.pretrain import corpus
from tools.pretrain.corpus import Block, CorpusConfig, document, encode, pad_block
from tools.pretrain.vocabulary import EOS, IDS, WORDS

__all__ = ["block", "instruction"]

_VERDICTS = {"equivalent": "true", "entailment": "true", "neutral": "unknown", "contradiction": "false"}
_REWRITES = {"equivalent": "same", "entailment": "general", "contradiction": "different"}
_TEXT_SHARE = 0.3
_MASKED_SHARE = 0.5


def _level(rng: Random, config: CorpusConfig) -> int:
    u = rng.random()
    return 0 if u < config.levels[0] else 1 if u < config.levels[0] + config.levels[1] else 2


def _words(clause) -> list[str]:
    return render(Sentence("statement", clause))


def _truth(rng: Random, level: int, renamed: bool = False):
    wanted = pick(rng, pairs.RELATIONS)
    claim = pairs.random_clause(rng, level)
    said = pairs.premise(rng, claim, wanted, level)
    if said is None:
        return None
    verdict, front = _VERDICTS[wanted], []
    if renamed:
        names = ["true", "false", "unknown"]
        code = {}
        while names:
            name = names.pop(int(rng.random() * len(names)))
            code[name] = pick(rng, [word for word in WORDS if word not in code.values()])
            front += ["if", name, "say", code[name]]
        verdict = code[verdict]
        front.append(".")
    return [*front, "text", ":", *_words(said), "claim", ":", *_words(claim)], [verdict]


def _question(rng: Random, level: int, kinds: tuple[str, ...]):
    known = rng.random() < 0.65
    clause = pairs.random_clause(rng, level, negation=0)
    possible = [kind for kind in pairs.askable(clause) if kind in kinds]
    question = pairs.question_about(rng, clause, pick(rng, possible), known, level) if possible else None
    return None if question is None else (clause, question)


def _asked(rng: Random, level: int):
    found = _question(rng, level, pick(rng, (("polar",), ("who", "what", "where"))))
    if found is None:
        return None
    clause, question = found
    says = answer(Sentence("statement", clause), question) or "unknown"
    reply = part(clause, question.kind) if says == "known" else [says]
    return ["question", ":", *render(question), "text", ":", *_words(clause), "answer", ":"], reply


def _answering(rng: Random, level: int):
    found = _question(rng, level, ("polar", "who", "what", "where"))
    if found is None:
        return None
    clause, question = found
    known = answer(Sentence("statement", clause), question) is not None
    return ["text", ":", *_words(clause), "answer", "or", "not", ":", *render(question)], ["answer" if known else "not"]


def _same(rng: Random, level: int):
    same = rng.random() < 0.5
    clause = pairs.random_clause(rng, level, negation=0)
    kind = pick(rng, pairs.askable(clause))
    first = pairs.question_like(rng, clause, kind, same, level)
    if first is None:
        return None
    return (["first", "question", ":", *render(first), "second", "question", ":", *render(pairs.ask(clause, kind)),
             "same", "or", "different", ":"], ["same" if same else "different"])


def _rewrite(rng: Random, level: int):
    wanted = pick(rng, tuple(_REWRITES))
    clause = pairs.random_clause(rng, level, negation=0)
    first = pairs.premise(rng, clause, wanted, level)
    return None if first is None else (["write", _REWRITES[wanted], ":", *_words(first)], _words(clause))


_MAKERS = (_truth, lambda rng, level: _truth(rng, level, renamed=True), _asked, _answering, _same, _rewrite)


def instruction(rng: Random, config: CorpusConfig) -> tuple[list[str], list[str]]:
    """One verbalised task: (words of the instruction and its text, words of the reply)."""
    while True:
        made = pick(rng, _MAKERS)(rng, _level(rng, config))
        if made is not None:
            return made


def _encode(rng: Random, asked: list[str], reply: list[str], other: list[str],
            config: CorpusConfig) -> tuple[list[int], list[int]]:
    source, target = [IDS[word] for word in asked], [IDS[word] for word in reply]
    if rng.random() < _MASKED_SHARE:
        source.append(IDS["<extra_id_0>"])
        target.insert(0, IDS["<extra_id_0>"])
    front = [IDS[word] for word in corpus.random_prefix(rng, other, config)]
    room = max(config.max_source - 1 - len(source), 0)
    return [*front[len(front) - min(room, len(front)):], *source[: config.max_source - 1], EOS], [*target, EOS]


def block(config: CorpusConfig, index: int) -> Block:
    """Block ``index`` of the mixture, in the layout of :func:`tools.pretrain.corpus.block`."""
    rng = Random(f"{config.seed}/instructions/{index}")
    config = config.at(index * config.batch_size * config.block_batches)
    other, examples = document(rng, config).words, []
    for _ in range(config.batch_size * config.block_batches):
        if rng.random() < _TEXT_SHARE:
            doc = document(rng, config)
            examples.append(encode(rng, doc, other, config))
            other = doc.words
        else:
            examples.append(_encode(rng, *instruction(rng, config), other, config))
    return pad_block(rng, examples, config)
