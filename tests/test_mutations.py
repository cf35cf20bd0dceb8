"""The list of mutations fits today's code: every old text is there once, every test that it names is there."""

import ast
import dataclasses
import re
from collections import Counter

import pytest

from benchmarks import mutations

EVERY = mutations.read()


def test_names_are_distinct():
    assert not [name for name, count in Counter(mutation.name for mutation in EVERY).items() if count > 1]


@pytest.mark.parametrize("mutation", EVERY, ids=[mutation.name for mutation in EVERY])
def test_an_entry_is_not_stale_and_leaves_a_module_that_parses(mutation):
    assert not mutations.faults(mutation)
    text = (mutations.ROOT / mutation.file).read_text(encoding="utf-8")
    ast.parse(text.replace(mutation.old, mutation.new))


def test_stale_entries_are_told():
    test = "tests/training/test_fit.py"
    good = mutations.Mutation("a", "dawgen_jax/training/fit.py", "draw(done - 1)", "draw(0)", (test,))
    assert not mutations.faults(good)
    for change, message in (
        ({"old": "no such text"}, "the old text occurs 0 times in dawgen_jax/training/fit.py"),
        ({"old": "params"}, r"the old text occurs [1-9]\d* times"),
        ({"tests": (f"{test}::test_gone[1]",)}, r"there is no test .*::test_gone\[1\]"),
        ({"tests": ("tests/test_gone.py",)}, "there is no test tests/test_gone.py"),
        ({"tests": ()}, ".*does not have either tests or a reason"),
    ):
        (found,) = mutations.faults(dataclasses.replace(good, **change))
        assert re.match(message, found)
