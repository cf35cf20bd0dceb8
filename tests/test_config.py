"""Validation, arms and digests."""

import dataclasses

import pytest

from dawgen_jax.config import Arm, ClassifierConfig, Config, ConfigError, SynthesisConfig, digest


@pytest.mark.parametrize(("build", "field"), [
    (lambda: ClassifierConfig(num_steps=0), "ClassifierConfig.num_steps"),
    (lambda: SynthesisConfig(top_p=0.0), "SynthesisConfig.top_p"),
    (lambda: SynthesisConfig(min_new_tokens=50), "SynthesisConfig.min_new_tokens"),
    (lambda: Config(seeds=(1, 1)), "Config.seeds"),
    (lambda: Config(arms=("Prompt Tunning",)), "Config.arms"),
    (lambda: Config(arms=("(Real, Syn)",)), "Arm.generator"),
    (lambda: Config(arms=("DawGen: Prompt Tuning",)), "Arm.generator"),
    (lambda: Config(arms=("Prompt Tuning @32",)), "Config.arms"),
])
def test_out_of_range_names_the_field(build, field):
    with pytest.raises(ConfigError, match=field.replace(".", r"\.")):
        build()


def test_float16_is_refused_with_the_reason():
    from dawgen_jax.config import BackboneConfig
    with pytest.raises(ConfigError, match="overflows"):
        BackboneConfig(dtype="float16")


@pytest.mark.parametrize("text", ["Prompt Tuning", "FewGen: Syn only", "DawGen: (Real, Syn) + GS",
                                  "Prompt Tuning @full", "Prompt Tuning #same-T", "DawGen: Real -> Syn"])
def test_arms_round_trip(text):
    assert str(Arm.parse(text)) == text


def test_digest_depends_on_every_value_and_not_on_order():
    config = ClassifierConfig()
    assert digest(config) == digest(dataclasses.asdict(config))
    assert digest(config) != digest(dataclasses.replace(config, epsilon=0.5))
