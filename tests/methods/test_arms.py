"""Arms: what config files write, and what they must not."""

import dataclasses
import json

import pytest

from dawgen_jax.config import PAPER, ClassifierConfig, Config, fields_of
from dawgen_jax.errors import ConfigError
from dawgen_jax.generator.variants import VARIANTS, fixed_by
from dawgen_jax.methods.arms import GENERATORS, Arm, arms_of
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.methods.transfer import SOURCES
from dawgen_jax.pipeline.sets import set_settings
from dawgen_jax.results import published


@pytest.mark.parametrize("text", ["Prompt Tuning", "FewGen: Syn only", "DawGen: (Real, Syn) + GS",
                                  "Prompt Tuning @full", "Prompt Tuning #same-T", "DawGen: Real -> Syn",
                                  "FewGen released: Real+Syn+LS", "DawGen: Real -> Syn #stages",
                                  "DawGen: LoRA (Real, Syn) + GS"])
def test_arms_round_trip(text):
    assert str(Arm.parse(text)) == text


@pytest.mark.parametrize(("text", "message"), [
    ("Prompt Tunning", "no method 'Prompt Tunning'; the nearest is 'Prompt Tuning'"),
    ("(Real, Syn)", "learns from synthetic data; put one of L_gen, FewGen, FewGen released, .*, DawGen.* in front"),
    ("DawGen: Prompt Tuning", "learns from no synthetic data; write it without 'DawGen:'"),
    ("Davgen: (Real, Syn)", "put one of L_gen"),
    ("Prompt Tuning @32", "no method 'Prompt Tuning @32'"),
    ("", "no method ''"),
])
def test_what_is_no_arm_is_refused_with_the_way_out(text, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(").replace(")", r"\)")):
        Arm.parse(text)


def test_arms_are_chosen_by_method_or_by_name():
    config = Config(arms=("Prompt Tuning", "Prompt Tuning #same-T", "FewGen: Syn only", "DawGen: Syn only"))
    assert [str(arm) for arm in arms_of(config, ["Syn only"])] == ["FewGen: Syn only", "DawGen: Syn only"]
    assert [str(arm) for arm in arms_of(config, ["DawGen: Syn only"])] == ["DawGen: Syn only"]
    assert [str(arm) for arm in arms_of(config, ["Prompt Tuning"])] == ["Prompt Tuning", "Prompt Tuning #same-T"]
    assert len(arms_of(config)) == 4
    with pytest.raises(ConfigError, match="no arm of this configuration has it; the nearest is 'FewGen: Syn only'"):
        arms_of(config, ["FewGen: Syn onl"])


def test_names_are_unique_and_say_their_variant():
    assert all(str(method) == name for name, method in METHODS.items()) and len(METHODS) == 23


def test_settings_are_fields_of_the_config_with_their_values():
    config = Config(classifier=ClassifierConfig(**PAPER))
    read = [(method.settings(config), config) for method in METHODS.values()]
    read += [(kind.settings(config), config) for kind in SOURCES.values()]
    read += [(set_settings(config, generator),
              dataclasses.replace(config, generator=fixed_by(config.generator, generator)))
             for generator in VARIANTS]
    for settings, stated in read:
        fields = fields_of(stated)
        assert settings and all(fields[name] == value for name, value in settings.items() if ".revision" not in name)
    read = [settings for settings, _ in read]
    assert "generator.dist_weight" in set_settings(config, "DawGen")
    assert "generator.dist_weight" not in set_settings(config, "FewGen")
    rates = {generator: [name for name in ("score_learning_rate", "weight_learning_rate")
                         if f"generator.{name}" in set_settings(config, generator)]
             for generator in ("L_gen", "FewGen", "DawGen", "DawGen with width-scaled steps")}
    assert [*rates.values()] == [[], ["weight_learning_rate"], ["score_learning_rate"], ["weight_learning_rate"]]
    stored = json.loads(json.dumps({name: value for settings in read for name, value in settings.items()}))
    assert not published.departures(stored)


def test_tables_know_every_method_and_generator():
    assert {method.name for method in METHODS.values()} <= set(published.METHODS)
    assert set(GENERATORS) == set(published.GENERATORS)
