"""A tiny random backbone with the mini world's vocabulary, and a main job of seconds on it."""

import pathlib

import jax
import pytest

from dawgen_jax.backbones.t5 import convert, model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.config import BackboneConfig, ClassifierConfig, Config, DataConfig, GeneratorConfig, SynthesisConfig
from dawgen_jax.pipeline import main as pipeline
from tools.pretrain.vocabulary import TOKENS, save_tokenizer


def write_backbone(folder: pathlib.Path, seed: int) -> None:
    """A random T5 with the mini world's tokenizer."""
    t5 = T5Config(vocab_size=-(-len(TOKENS) // 8) * 8, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_decoder_layers=1,
                  num_heads=2, activation="gelu_new", gated=True, tied_head=False, scale_decoder_outputs=False)
    convert.save(folder, t5, model.init(t5, jax.random.key(seed)))
    save_tokenizer(folder)


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    """Runs of single tests write no report, which takes 2 s; those of fixtures for a whole module do."""
    monkeypatch.setattr(pipeline, "write_report", lambda root: None)


@pytest.fixture(scope="session")
def backbones(tmp_path_factory) -> list[BackboneConfig]:
    """Two backbones of one shape and different weights."""
    root = tmp_path_factory.mktemp("backbones")
    for seed in range(2):
        write_backbone(root / f"random{seed}", seed)
    return [BackboneConfig(str(root / f"random{seed}")) for seed in range(2)]


def small_config(backbones: list[BackboneConfig]) -> Config:
    """Two seeds, four arms; a random model never ends a sentence, so unfinished ones are kept."""
    return Config(
        tasks=("mini-snli",), seeds=(13, 21), devices=1,
        arms=("Prompting (zero-shot)", "Prompt Tuning", "FewGen: (Real, Syn)", "DawGen: (Real, Syn) + GS"),
        data=DataConfig(k=4, max_test=30),
        generator=GeneratorConfig(backbone=backbones[0], prompt_length=3, num_steps=4, log_every=2, checkpoint_every=2),
        synthesis=SynthesisConfig(samples_per_label=6, max_new_tokens=4, unfinished="cut", batch_size=8, shard_size=3),
        classifier=ClassifierConfig(backbone=backbones[0], prompt_length=3, real_steps=4, real_eval_every=2,
                                    num_steps=4, batch_size=4, eval_every=2, eval_batch_size=16, pad_multiple=32,
                                    checkpoint_every=2),
    )


@pytest.fixture(scope="session")
def config(backbones) -> Config:
    """A main job of seconds."""
    return small_config(backbones)
