"""Vocabulary, documents and denoising examples: what the prototype got wrong first."""

import dataclasses
import hashlib
import itertools
from random import Random

import numpy as np
import pytest
from transformers import AutoTokenizer

from dawgen_jax.errors import ConfigError
from dawgen_jax.miniworld.grammar import ASKED, Clause, Sentence, parse, render
from dawgen_jax.miniworld.lexicon import SLOTS
from dawgen_jax.miniworld.semantics import answer, meaning, relation, same_question
from dawgen_jax.miniworld.tasks import TASKS
from tools.mini_world.pairs import RELATIONS, premise, random_clause
from tools.pretrain import instructions
from tools.pretrain.corpus import CorpusConfig, block, document, documents, encode, random_prefix
from tools.pretrain.vocabulary import (
    ANSWERING,
    CONNECTIVES,
    EOS,
    IDS,
    NUM_SENTINELS,
    QUESTION_PAIRS,
    SENTINELS,
    TOKENS,
    WORDS,
    save_tokenizer,
)

CONFIG = CorpusConfig(curriculum=0, batch_size=8, block_batches=10)


def split(doc):
    """Sentences in front of and behind the joining word."""
    start, end = doc.salient
    return parse(doc.words[:start]), parse(doc.words[end:])


def asked_for(clause, kind):
    """The phrase of ``clause`` that a question of ``kind`` asks for, read out of a sentence that says nothing else."""
    frame, phrase = {"who": (Clause("", "run"), slice(-2)), "what": (Clause("boy", "hold"), slice(3, -1)),
                     "where": (Clause("boy", "run"), slice(3, -1))}[kind]
    parts = {slot: getattr(clause, slot) for slot in ASKED[kind]}
    return render(Sentence("statement", frame._replace(**parts)))[phrase]


def family(table, word):
    return next(name for name, words in table.items() if word in words)


def test_joining_words_follow_from_the_meanings():
    seen = set()
    for doc in itertools.islice(documents(CONFIG), 3000):
        joint = doc.words[doc.salient[0]]
        if doc.kind == "glossed":
            glossary = dict(zip(doc.gloss[1:-1:2], doc.gloss[:-1:2], strict=True))
            joint = glossary[joint]
        if joint in sum(CONNECTIVES.values(), ()):
            first, second = split(doc)
            assert relation(meaning(first), meaning(second)) == family(CONNECTIVES, joint)
        elif joint in sum(QUESTION_PAIRS.values(), ()):
            assert same_question(*split(doc)) == (family(QUESTION_PAIRS, joint) == "same")
        elif joint in sum(ANSWERING.values(), ()):
            question, statement = split(doc)
            assert (answer(statement, question) is not None) == (family(ANSWERING, joint) == "known")
        else:
            words = doc.words
            stop = words.index(".") + 1
            said, asked = parse(words[:stop]), parse(words[stop:doc.salient[0]])
            says = answer(said, asked)
            wanted = asked_for(said.clause, asked.kind) if says == "known" else [says or "unknown"]
            assert words[slice(*doc.salient)] == wanted
        seen.add((doc.kind, doc.relation))
    assert {("statements", name) for name in RELATIONS} <= seen
    assert {kind for kind, _ in seen} == {"statements", "questions", "question_first", "polar", "part", "glossed"}


@pytest.mark.parametrize("level", (0, 1, 2))
def test_every_relation_is_found_at_every_level(level):
    rng = Random(level)
    for wanted in RELATIONS:
        found = sum(premise(rng, random_clause(rng, level), wanted, level) is not None for _ in range(60))
        assert found >= 20, wanted


def test_examples_restore_the_document():
    rng, other = Random(0), ["a", "boy", "runs", "."]
    sentinels = {IDS[token] for token in SENTINELS}
    for doc in itertools.islice(documents(CONFIG), 800):
        source, target = encode(rng, doc, other, CONFIG)
        assert source[-1] == target[-1] == EOS and 0 not in source and 0 not in target
        assert len(source) <= CONFIG.max_source and len(target) <= CONFIG.max_target
        words = [IDS[word] for word in doc.words]
        if target[0] in sentinels:
            filled, spans, current = [], {}, None
            for token in target[:-1]:
                if token in sentinels:
                    current = spans.setdefault(token, [])
                else:
                    current.append(token)
            for token in source[:-1]:
                filled += spans.get(token, [token])
            assert filled[-len(words):] == words
        else:
            rest = words[-len(target) + 1:]
            assert target[:-1] == rest


def test_blocks_depend_on_seed_and_index_alone():
    first = block(CONFIG, 3)
    assert first.source.shape == (10, 8, CONFIG.max_source) and first.target.shape == (10, 8, CONFIG.max_target)
    again, other = block(CONFIG, 3), block(CONFIG, 4)
    np.testing.assert_array_equal(first.source, again.source)
    assert not np.array_equal(first.source, other.source)
    assert not np.array_equal(first.source, block(dataclasses.replace(CONFIG, seed=1), 3).source)
    # The text that the shipped backbones were trained on.
    text = b"".join(array.astype("<i2").tobytes() for array in first)
    assert hashlib.sha256(text).hexdigest()[:12] == "5f5499cb61c6"


def test_the_curriculum_goes_from_short_to_long():
    config = CorpusConfig(settle=200, curriculum=1000, first_levels=(1.0, 0.0, 0.0), levels=(0.0, 0.0, 1.0))
    assert config.at(200).levels == (1.0, 0.0, 0.0) and config.at(200).prefixed == 0
    assert config.at(700).levels == (0.5, 0.0, 0.5) and config.at(700).prefixed == 0
    assert config.at(1700).prefixed == config.prefixed / 2
    assert config.at(10**9).levels == (0.0, 0.0, 1.0)
    rng = Random(0)
    assert {document(rng, config.at(0)).level for _ in range(50)} == {0}


def test_prefixes_stand_in_front_of_about_their_share():
    rng, config = Random(0), dataclasses.replace(CONFIG, prefixed=0.5)
    lengths = [len(random_prefix(rng, ["a", "boy", "runs", "."] * 5, config)) for _ in range(2000)]
    assert 0.45 < np.mean(np.array(lengths) > 0) < 0.55 and max(lengths) == config.max_prefix


def test_every_word_that_can_be_written_has_an_id_and_occurs():
    assert set(WORDS) <= set(IDS) and len(set(TOKENS)) == len(TOKENS)
    rng, seen = Random(5), set()
    for slot, table in SLOTS.items():
        for lemma in table:
            for _ in range(12):
                clause = random_clause(rng, 2)
                if slot.startswith("object") and not clause.object:
                    continue
                if slot == "verb":
                    word = table[lemma]
                    thing = "ball" if word.participle else ""
                    clause = clause._replace(object=thing, object_adjective="", passive=False)
                clause = clause._replace(**{slot: lemma})
                if clause.negated:
                    clause = clause._replace(count="")
                seen.update(render(Sentence("statement", clause)))
    assert seen <= set(IDS)
    assert {lemma for table in SLOTS.values() for lemma in table if lemma in WORDS} - seen <= set(SLOTS["agent"]) | set(
        SLOTS["verb"])


def test_instructions_fit_and_hold_out_the_task_formats():
    config = dataclasses.replace(CONFIG, instructions=True)
    rng = Random(0)
    for _ in range(500):
        asked, reply = instructions.instruction(rng, config)
        assert set(asked) | set(reply) <= set(IDS)
        assert len(asked) + 2 <= config.max_source and len(reply) + 2 <= config.max_target
        # The mini tasks put nothing but two sentences and the mask in a template: here an instruction always stands.
        assert ":" in asked
    made = instructions.block(config, 0)
    assert made.source.shape == (10, 8, config.max_source)
    assert all(":" not in task.template for task in TASKS.values())


def test_tokenizer_is_a_hugging_face_one(tmp_path):
    save_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("A boy runs. <extra_id_0> no child?").input_ids
    assert [TOKENS[i] for i in ids] == ["a", "boy", "runs", ".", "<extra_id_0>", "no", "child", "?", "</s>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a boy runs . no child ?"
    assert (len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id) == (len(TOKENS), 0, 1)
    assert tokenizer("zebra").input_ids == [2, 1]
    for task in TASKS.values():
        for text in (*task.label_words, *sum(task.phrases, ()), task.template.replace("<mask>", "").format(
                sentence1="", sentence2="")):
            assert 2 not in tokenizer(text).input_ids, text
        assert all(len(tokenizer(word).input_ids) == 2 for word in task.label_words)


@pytest.mark.parametrize("change", [{"polar": 0.9}, {"words": 0.9}, {"batch_size": 0}, {"max_source": 10}])
def test_bad_settings_are_refused(change):
    with pytest.raises(ConfigError):
        dataclasses.replace(CONFIG, **change)


def test_sentinels_suffice():
    assert (CorpusConfig().max_target - 1) // 2 <= NUM_SENTINELS
