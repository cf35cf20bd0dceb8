"""The embedded backbones: small, loadable, of this world's vocabulary, as their cards say, and they know some of it."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import AutoTokenizer

from dawgen_jax.backbones.t5 import convert, model
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.miniworld import BACKBONES
from tools.pretrain.corpus import CorpusConfig
from tools.pretrain.probes import draw_probes, evaluate, first_word
from tools.pretrain.vocabulary import TOKENS

FOLDERS = sorted(path.parent for path in BACKBONES.glob("*/config.json"))
each = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_both_backbones_are_shipped():
    assert {folder.name for folder in FOLDERS} == {"mini-t5", "mini-flan"}


@each
def test_backbone(folder):
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8_000_000
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) == list(TOKENS)
    config, theta = convert.load(folder)
    assert config.gated and not config.tied_head and config.vocab_size >= len(TOKENS)
    probes = {name: probe for name, probe in draw_probes(CorpusConfig(), 100).items() if name == "statements_0"}
    scores = evaluate(jax.jit(functools.partial(first_word, model=T5(config))), theta, probes)
    # Four relations: the likeliest alone is right for less than .35.
    assert scores["statements_0"] > 0.9


@each
def test_card_agrees_with_the_tensors_and_the_last_evaluation(folder):
    lines = (line.split("|") for line in (folder / "README.md").read_text().splitlines() if line.startswith("| "))
    row = {cells[1].strip(): cells[2].strip() for cells in lines}
    card, last = (folder / "README.md").read_text(), json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    parameters = sum(x.size for x in jax.tree.leaves(convert.load(folder)[1]))
    assert f" {parameters:,} parameters" in card
    assert row["documents"] == f"{last['documents']:,} (each drawn once), {last['step']:,} steps of 32"
    assert float(row["loss (last blocks)"]) == last["loss"]
    assert row["wall time"].startswith(f"{last['seconds']:.0f} s ")
    assert "statements_0" in last
    for name in last.keys() - {"step", "documents", "seconds", "loss"}:
        assert f" {name} {last[name]}," in card.replace(".\n", ",\n")


@each
def test_pytorch_computes_the_same_logits(folder):
    torch = pytest.importorskip("torch")
    from transformers import T5ForConditionalGeneration

    tokens = AutoTokenizer.from_pretrained(folder)(
        ["a boy runs . <extra_id_0> a child moves .", "two happy dogs sleep in the park . <extra_id_0> no cat rests .",
         "red big two a kid walks outside . who walks ? <extra_id_0> ."], padding=True, return_tensors="np")
    source, mask = tokens.input_ids, tokens.attention_mask
    inputs = np.array([[0, TOKENS.index("<extra_id_0>"), TOKENS.index("so"), 1]] * 3)
    config, theta = convert.load(folder)
    encoded = model.encode(theta, model.embed(theta, jnp.asarray(source), config=config), mask == 1, config=config)
    ours = model.logits(theta, model.decode(theta, jnp.asarray(inputs), encoded, mask == 1, config=config),
                        config=config)
    peer = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        theirs = peer(torch.tensor(source), torch.tensor(mask), torch.tensor(inputs)).logits
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-4)
