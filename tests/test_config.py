"""Validation, origins and digests."""

import dataclasses
import functools
import json
import math
import pathlib

import numpy as np
import pytest

from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.config import (
    BackboneConfig,
    ClassifierConfig,
    Config,
    DataConfig,
    FineTuningConfig,
    GeneratorConfig,
    LoraConfig,
    OwnTask,
    SynthesisConfig,
    digest,
    fields_of,
)
from dawgen_jax.errors import ConfigError
from dawgen_jax.io.strict_json import parse_json
from dawgen_jax.origins import _ORIGINS
from tools.pretrain.corpus import CorpusConfig
from tools.pretrain.pretraining import PretrainConfig


@pytest.mark.parametrize(("build", "field"), [
    (lambda: ClassifierConfig(num_steps=0), "ClassifierConfig.num_steps"),
    (lambda: SynthesisConfig(top_p=0.0), "SynthesisConfig.top_p"),
    (lambda: SynthesisConfig(min_new_tokens=50), "SynthesisConfig.min_new_tokens"),
    (lambda: Config(seeds=(1, 1)), "Config.seeds"),
    (lambda: Config(seeds=(2**31,)), "Config.seeds"),
    (lambda: Config(seeds=("13",)), "Config.seeds"),
    (lambda: Config(seeds=13), "Config.seeds"),
    (lambda: Config(tasks="RTE"), "Config.tasks"),
    (lambda: Config(data=None), "Config.data"),
    (lambda: Config(name="../x"), "Config.name"),
    (lambda: Config(name="x" * 300), "Config.name"),
    (lambda: Config(arms=("Prompt\nTuning",)), "Config.arms"),
    (lambda: DataConfig(corpus_seed=2**32), "DataConfig.corpus_seed"),
    (lambda: SynthesisConfig(seed=2**64), "SynthesisConfig.seed"),
    (lambda: CorpusConfig(seed=2**32), "CorpusConfig.seed"),
    (lambda: PretrainConfig(documents="9"), "PretrainConfig.documents"),
    (lambda: ClassifierConfig(vmap_seeds="false"), "ClassifierConfig.vmap_seeds"),
    (lambda: ClassifierConfig(factored=0), "ClassifierConfig.factored"),
    (lambda: ClassifierConfig(num_steps=True), "ClassifierConfig.num_steps"),
    (lambda: ClassifierConfig(num_steps=2.0), "ClassifierConfig.num_steps"),
    (lambda: ClassifierConfig(learning_rate="0.3"), "ClassifierConfig.learning_rate"),
    (lambda: ClassifierConfig(learning_rate=10**400), "ClassifierConfig.learning_rate"),
    (lambda: ClassifierConfig(epsilon=-(10**5000)), "ClassifierConfig.epsilon"),
    (lambda: OwnTask(repetition_penalty=0.5), "OwnTask.repetition_penalty"),
    (lambda: OwnTask(repetition_penalty=math.inf), "OwnTask.repetition_penalty"),
    (lambda: BackboneConfig(name="a\ud800"), "BackboneConfig.name"),
    (lambda: BackboneConfig(path="x" * 300), "BackboneConfig.path"),
])
def test_out_of_range_names_the_field(build, field):
    with pytest.raises(ConfigError, match=field.replace(".", r"\.")):
        build()


NUMBERS = {field: value for field, value in fields_of(Config()).items() if isinstance(value, float)}


@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("field", NUMBERS)
def test_no_rate_is_infinite_or_nan(field, wrong):
    owner = functools.reduce(getattr, field.split(".")[:-1], Config())
    name = field.rpartition(".")[2]
    with pytest.raises(ConfigError, match=rf"{type(owner).__name__}\.{name} = -?(inf|nan): must be "):
        dataclasses.replace(owner, **{name: wrong})


@pytest.mark.parametrize("wrong", [math.inf, math.nan])
def test_neither_are_the_rates_of_fine_tuning_and_of_pre_training(wrong):
    with pytest.raises(ConfigError, match=r"FineTuningConfig\.learning_rates\[1\] = (inf|nan): must be"):
        FineTuningConfig(learning_rates=(0.1, wrong))
    for name in ("learning_rate", "decay", "clip_norm", "weight_decay", "minutes"):
        with pytest.raises(ConfigError, match=rf"PretrainConfig\.{name} = (inf|nan): must be a finite number"):
            PretrainConfig(**{name: wrong})
    for name in ("word_rate", "prefixed", "suffixed", "statement_pairs", "polar", "salient", "words"):
        with pytest.raises(ConfigError, match=rf"CorpusConfig\.{name} = (inf|nan): must be a finite number"):
            CorpusConfig(**{name: wrong})
    with pytest.raises(ConfigError, match=r"T5Config\.layer_norm_epsilon = (inf|nan): must be a finite number"):
        T5Config(8, 8, 8, 8, 1, 1, 1, layer_norm_epsilon=wrong)


@pytest.mark.parametrize(("build", "message"), [
    (lambda: LoraConfig(rank="8"), "LoraConfig.rank = '8': must be an integer."),
    (lambda: LoraConfig(8, 16.0, ("q",)),
     "LoraConfig.targets[0] = 'q': must be 'query', 'key', 'value' or 'output'."),
    (lambda: LoraConfig(rank=0), "LoraConfig.rank = 0: must be greater than 0."),
    (lambda: LoraConfig(targets=["key", "q"]),
     "LoraConfig.targets[1] = 'q': must be 'query', 'key', 'value' or 'output'."),
    (lambda: LoraConfig(targets=()), "LoraConfig.targets = (): must have at least 1 item, not 0."),
    (lambda: LoraConfig(rnk=8), "LoraConfig.rnk: unknown field; the nearest is 'rank'."),
    (lambda: GeneratorConfig(examples_per_label=1), "GeneratorConfig.examples_per_label = 1: must be 2 or more."),
    (lambda: SynthesisConfig(min_new_tokens=50),
     "SynthesisConfig.min_new_tokens = 50: must be less than max_new_tokens = 50."),
    (lambda: Config(data={"k": 8}), "Config.data = {'k': 8}: must be an instance of DataConfig."),
    (lambda: ClassifierConfig(epsilon=10**400),
     f"ClassifierConfig.epsilon = 1{'0' * 55}... (401 characters): must be a number."),
    (lambda: dataclasses.replace(DataConfig(), k=-1), "DataConfig.k = -1: must be 0 or more."),
    (lambda: parse_json('{"lora": {"rank": 8.5}}', ClassifierConfig),
     "ClassifierConfig.lora.rank = 8.5: must be an integer."),
    (lambda: parse_json('{"lora": {"rnk": 8}}', ClassifierConfig), "ClassifierConfig.lora.rnk: unknown field."),
    (lambda: parse_json('{"min_new_tokens": 50}', SynthesisConfig),
     "SynthesisConfig.min_new_tokens = 50: must be less than max_new_tokens = 50."),
    (lambda: parse_json('["a", 1]', tuple[str, ...]), "[1] = 1: must be a string."),
])
def test_a_refusal_is_one_sentence_with_field_value_and_expectation(build, message):
    with pytest.raises(ConfigError) as refused:
        build()
    assert str(refused.value) == message


def test_whole_numbers_may_be_of_any_size():
    assert ClassifierConfig(num_steps=10 ** 400).num_steps == 10 ** 400


def test_lists_become_tuples_in_python_and_in_json():
    assert Config(seeds=[1, 2]) == Config(seeds=(1, 2)) and hash(FineTuningConfig([0.1])) is not None
    assert OwnTask(phrases=[["a", "b"]]).phrases == (("a", "b"),)
    config = ClassifierConfig(lora=LoraConfig(targets=("key",)), epsilon=0.5)
    assert parse_json(json.dumps(dataclasses.asdict(config)), ClassifierConfig) == config


def test_float16_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match="overflows"):
        BackboneConfig(dtype="float16")


def test_digest_depends_on_every_value_and_not_on_order():
    config = ClassifierConfig()
    assert digest(config) == digest(dataclasses.asdict(config)) == "e2c86182fceb"  # results are found by digests
    assert digest(LoraConfig(targets=["query", "value"], alpha=16)) == "b74aa219dfe0"
    assert digest(config) != digest(dataclasses.replace(config, epsilon=0.5))


@pytest.mark.parametrize("part", [pathlib.Path("a"), {1, 2}, b"a", ClassifierConfig, np.float32(1), object()])
def test_digest_refuses_what_is_not_json(part):
    for parts in (part, [part], {"a": (part,)}):
        with pytest.raises(TypeError):
            digest(parts)


def test_origins_name_fields_that_are_there_each_once():
    named = [field for fields in _ORIGINS.values() for field in fields]
    assert set(named) <= set(fields_of(Config())) and len(named) == len(set(named))
