"""Three thousand generated inputs; benchmarks/fuzz.py runs the same properties for longer."""

import pytest

from tests.fuzz.properties import PROPERTIES
from tests.fuzz.runner import run


def test_there_are_two_thousand_inputs_and_half_of_them_are_what_a_user_gives():
    given = ("data files", "text files", "own tasks", "checked tasks", "fields", "config files", "overrides", "prompts",
             "prompt files", "adapters", "checkpoints", "classifiers")
    assert sum(one.examples for one in PROPERTIES.values()) >= 2000
    assert sum(PROPERTIES[name].examples for name in given) >= 1000


@pytest.mark.parametrize("name", PROPERTIES)
def test_an_input_is_sane_or_refused_in_one_sentence(name):
    counts = run(PROPERTIES[name], PROPERTIES[name].examples)
    assert counts.total() >= PROPERTIES[name].examples and counts["accepted"] and counts["refused"]
