"""What a property is, and how it is tried: an input is taken or refused in one sentence, and nothing else happens."""

import contextlib
import os
import pathlib
import tempfile
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis
from hypothesis import strategies as st

from dawgen_jax.errors import UserError
from dawgen_jax.io.terminal import printable

IN = pathlib.Path("in")


class Property(NamedTuple):
    """What is generated, what reads it, and how often in the test suite.

    ``read`` is given an input and an empty working directory to put it in; whatever else appears there but the folders
    'in' and 'out', or next to the directory, is a fault, as is an error that is no :class:`UserError`.
    """

    inputs: st.SearchStrategy
    read: Callable[[Any], None]
    examples: int


def put(name: str, content: bytes) -> pathlib.Path:
    """A file below 'in' with this content."""
    path = IN / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def examine(read: Callable[[Any], None], given: Any) -> str:
    """Whether an input is 'accepted' or 'refused'; any other outcome is an AssertionError or the error itself."""
    with tempfile.TemporaryDirectory() as outer:
        work = pathlib.Path(outer, "a", "b", "work")
        work.mkdir(parents=True)
        with contextlib.chdir(work):
            try:
                read(given)
                outcome = "accepted"
            except UserError as error:
                told, outcome = printable(error), "refused"  # as a program prints it
                assert told.endswith(".") and len(told) < 2000, told
        written = [path for path in map(pathlib.Path(outer).joinpath, (".", "a", "a/b", "a/b/work"))
                   if set(os.listdir(path)) - {"a", "b", "work", "in", "out"}]
        assert not written, f"written elsewhere: {written}"
    return outcome


def run(one: Property, examples: int, *, derandomize: bool = True) -> Counter:
    """Try a property on so many inputs, and count the outcomes."""
    counts: Counter = Counter()

    @hypothesis.settings(max_examples=examples, deadline=None, database=None, derandomize=derandomize,
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(one.inputs)
    def check(given):
        counts[examine(one.read, given)] += 1

    check()
    return counts
