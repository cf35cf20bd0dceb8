"""Rows of small invented runs."""

import pytest

from dawgen_jax.results.rows import Row


@pytest.fixture(scope="session")
def make_row():
    """A function that makes a valid row from the fields that matter to a test."""

    def make(method="Prompt Tuning", value=0.5, seed=13, task="mini-snli", **fields):
        defaults = dict(backbone="mini-t5", metric="accuracy", n_test=1000)
        if "Syn" in method:
            defaults |= dict(generator="DawGen", generator_backbone="mini-t5")
        return Row(task=task, method=method, value=value, seed=seed, **(defaults | fields))

    return make
