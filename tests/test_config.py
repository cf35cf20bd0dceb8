"""Validation, origins and digests."""

import dataclasses

import pytest

from dawgen_jax.config import ClassifierConfig, Config, ConfigError, SynthesisConfig, digest, fields_of
from dawgen_jax.origins import _ORIGINS


@pytest.mark.parametrize(("build", "field"), [
    (lambda: ClassifierConfig(num_steps=0), "ClassifierConfig.num_steps"),
    (lambda: SynthesisConfig(top_p=0.0), "SynthesisConfig.top_p"),
    (lambda: SynthesisConfig(min_new_tokens=50), "SynthesisConfig.min_new_tokens"),
    (lambda: Config(seeds=(1, 1)), "Config.seeds"),
])
def test_out_of_range_names_the_field(build, field):
    with pytest.raises(ConfigError, match=field.replace(".", r"\.")):
        build()


def test_float16_is_refused_with_the_reason():
    from dawgen_jax.config import BackboneConfig
    with pytest.raises(ConfigError, match="overflows"):
        BackboneConfig(dtype="float16")


def test_digest_depends_on_every_value_and_not_on_order():
    config = ClassifierConfig()
    assert digest(config) == digest(dataclasses.asdict(config))
    assert digest(config) != digest(dataclasses.replace(config, epsilon=0.5))


def test_origins_name_fields_that_are_there_each_once():
    named = [field for fields in _ORIGINS.values() for field in fields]
    assert set(named) <= set(fields_of(Config())) and len(named) == len(set(named))
