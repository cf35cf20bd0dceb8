"""The embedded backbones: small, loadable, of this world's vocabulary, and they know some of it."""

import functools

import jax
import pytest
from transformers import AutoTokenizer

from dawgen_jax.miniworld import BACKBONES
from dawgen_jax.miniworld.corpus import CorpusConfig
from dawgen_jax.miniworld.pretraining import evaluate, first_word, held_out
from dawgen_jax.miniworld.vocabulary import TOKENS
from dawgen_jax.t5 import convert

FOLDERS = sorted(path.parent for path in BACKBONES.glob("*/config.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_backbone(folder):
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8_000_000
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) == list(TOKENS)
    assert "documents" in (folder / "README.md").read_text()
    config, theta = convert.load(folder)
    assert config.gated and not config.tied_head and config.vocab_size >= len(TOKENS)
    probes = {name: probe for name, probe in held_out(CorpusConfig(), 100).items() if name == "statements_0"}
    scores = evaluate(jax.jit(functools.partial(first_word, config=config)), theta, probes)
    # Four relations: the likeliest alone is right for less than .35.
    assert scores["statements_0"] > 0.9
