"""Arms: what config files write, and what they must not."""

import pytest

from dawgen_jax.config import Config, ConfigError
from dawgen_jax.methods.arms import Arm, arms_of
from dawgen_jax.methods.rows import METHODS


@pytest.mark.parametrize("text", ["Prompt Tuning", "FewGen: Syn only", "DawGen: (Real, Syn) + GS",
                                  "Prompt Tuning @full", "Prompt Tuning #same-T", "DawGen: Real -> Syn",
                                  "FewGen released: Real+Syn+LS", "DawGen: Real -> Syn #stages",
                                  "DawGen: LoRA (Real, Syn) + GS"])
def test_arms_round_trip(text):
    assert str(Arm.parse(text)) == text


@pytest.mark.parametrize(("text", "message"), [
    ("Prompt Tunning", "no method 'Prompt Tunning'; the nearest is 'Prompt Tuning'"),
    ("(Real, Syn)", "learns from synthetic data; put one of FewGen, FewGen released, DawGen in front"),
    ("DawGen: Prompt Tuning", "learns from no synthetic data; write it without 'DawGen:'"),
    ("Davgen: (Real, Syn)", "put one of FewGen"),
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
    assert all(str(method) == name for name, method in METHODS.items()) and len(METHODS) == 22
