"""Tokenizers that do not fit the model they lie beside, or the way it was trained, through the public API."""

import dataclasses
import json

import jax
import pytest
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from dawgen_jax import load_backbone
from dawgen_jax.backbones.t5 import convert, model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.config import BackboneConfig, Config, UserError
from dawgen_jax.pipeline import checks, inputs
from tests.pipeline.conftest import write_backbone


def test_pieces_without_a_row_in_the_embedding_are_refused(tmp_path):
    """An index that is too large is clipped: all added words would have the embedding of the last row."""
    write_backbone(tmp_path, 0)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    tokenizer.add_tokens([f"zebra{number}" for number in range(len(tokenizer))])
    tokenizer.save_pretrained(tmp_path)
    rows = json.loads((tmp_path / "config.json").read_text())["vocab_size"]
    message = rf"{tmp_path}: .* has id {len(tokenizer) - 1}, but the model's embedding has only {rows} rows"
    with pytest.raises(UserError, match=message):
        load_backbone(str(tmp_path), devices=1)
    config = Config(seeds=(13,))
    given = inputs.read_task("mini-snli", config, generates=False)
    classifier = dataclasses.replace(config.classifier, backbone=BackboneConfig(str(tmp_path)))
    with pytest.raises(UserError, match=message):
        checks.examine(given, dataclasses.replace(config, classifier=classifier))


def test_byt5_reads_the_answer_behind_the_sentinel_that_it_was_trained_with(tmp_path):
    """Its sentinels count down from 258; <extra_id_0> of its tokenizer is 259, which it never saw."""
    shape = T5Config(vocab_size=384, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_decoder_layers=1, num_heads=2)
    convert.save(tmp_path, shape, model.init(shape, jax.random.key(0)))
    ByT5Tokenizer().save_pretrained(tmp_path)
    assert load_backbone(str(tmp_path), devices=1).model.mask_id == 258
