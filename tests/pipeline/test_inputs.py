"""What a task's stages are given: the split of each seed, the scored split, the pool, tokens that a backbone knows."""

import dataclasses

import pytest

from dawgen_jax.backbones import registry
from dawgen_jax.backbones.base import Format
from dawgen_jax.config import PAPER, BackboneConfig, ClassifierConfig
from dawgen_jax.data.fewshot import draw_split
from dawgen_jax.data.pools import Example
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.miniworld import TASKS, first_sentences
from dawgen_jax.pipeline import inputs
from dawgen_jax.pipeline.inputs import Encoded, backbone_folder, resolved


@pytest.fixture(scope="module")
def given(config):
    return inputs.read_task("mini-snli", config, generates=False)


def test_every_seed_has_its_own_split(given, config):
    assert given.splits == {seed: draw_split(given.task, config.data, given.pools.train, seed) for seed in (13, 21)}
    assert given.splits[13].train != given.splits[21].train
    assert given.digests["split", 13] != given.digests["split", 21]


def test_results_are_on_the_scored_split(given):
    assert given.task.test_split == "test" and given.test == given.pools.test[:30] != given.pools.validation[:30]


def test_the_whole_pool_is_without_the_dev_set(given):
    for seed, split in given.full.items():
        assert not set(split.train) & set(split.dev) and split.dev == given.splits[seed].dev
        assert set(split.train) | set(split.dev) == set(given.pools.train)


@dataclasses.dataclass(frozen=True)
class Named:
    """As much of a backbone as encoding asks for."""

    format: Format
    label: str = "mini-t5"


@pytest.fixture(scope="module")
def backbone():
    return Named(registry.read_format(backbone_folder("mini-t5")))


def test_tokens_that_the_backbone_does_not_know_are_counted_once(backbone, caplog):
    english = [Example("Nobody expected the senators to resign.", "Quarterly earnings surged.", "entailment")]
    encoded = Encoded(TASKS["mini-snli"], backbone, ClassifierConfig())
    arrays = encoded.arrays(english, "a")
    unknown = int((arrays.tokens == backbone.format.unk_id).sum())
    assert unknown > 3
    total = arrays.mask.sum()
    assert f"mini-snli: {unknown} of the first {total} tokens of its examples are unknown to mini-t5" in caplog.text
    caplog.clear()
    encoded.arrays(english, "b")
    assert not caplog.text


def test_the_mini_worlds_own_text_is_known(backbone, caplog):
    sentences = first_sentences("mini-snli")[:50]
    pairs = [Example(sentence, sentence, "neutral") for sentence in sentences]
    Encoded(TASKS["mini-snli"], backbone, ClassifierConfig()).arrays(pairs, "a")
    assert not caplog.text


def test_a_backbone_with_a_name_that_none_can_have():
    with pytest.raises(UserError, match="no such folder; the embedded backbones are"):
        backbone_folder("a" * 300)


def test_fields_that_are_none_have_the_values_of_the_backbones_family(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    causal = ClassifierConfig(backbone=BackboneConfig(str(tmp_path)), prompt_length=7)
    chosen, paper = resolved(causal), resolved(ClassifierConfig())
    assert (chosen.prompt_length, chosen.prompt_place, chosen.optimiser) == (7, "after", "adamw")
    assert paper == ClassifierConfig(**PAPER) and paper.learning_rate == 0.3 and paper.prompt_place == "before"
    assert resolved(dataclasses.replace(causal, prompt_place="before")).prompt_place == "before"
    with pytest.raises(ConfigError, match=r"classifier\.prompt_place = 'after': mini-t5 reads its input in both "):
        resolved(ClassifierConfig(prompt_place="after"))
