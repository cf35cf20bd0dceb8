"""Every stage's tiny result, pinned per revision: old artefacts must not be taken for those of other code.

If a test fails and the change of results is meant: raise REVISION in the stage's module (dawgen_jax/pipeline), which
gives its artefacts other names, and put the new revision and values into PINNED. If it is not meant, it is a mistake.
"""

import dataclasses

import numpy as np
import pytest

from dawgen_jax import prompts
from dawgen_jax.config import digest
from dawgen_jax.io.metrics_log import read_metrics
from dawgen_jax.pipeline import cells, generators, main, sets, source_prompts
from dawgen_jax.pipeline.job import Job
from dawgen_jax.synthesis.files import read_set

STAGES = {"generators": generators, "synthetic": sets, "source_prompts": source_prompts, "cells": cells}
PINNED: dict = {
    "generators": (1, [-11.519, 2.19837, 6.65088, 1.09746, 0.999808, 5.65107, 16.4711,
                       -11.5302, 1.07331, 6.51504, 1.09808, 0.9999, 5.51514, 17.1084]),
    "synthetic": (1, ["423274ec12f7", "6c5e7be03652"]),
    "source_prompts": (1, [12.2045, 1.26549, 8.84101]),
    "cells": (1, [12.309, 1.14554, 1.07703, 9.03012, 12.309, 1.25811, 1.15961, 8.9643,
                  12.2045, 1.14124, 9.22605, 12.2045, 1.17429, 9.59207]),
}


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """A run directory with a few updates of every stage."""
    root = tmp_path_factory.mktemp("pinned")
    main.run(Job.start(dataclasses.replace(
        config, arms=("DawGen: (Real, Syn) + GS", "SPoT"),
        classifier=dataclasses.replace(config.classifier, full_steps=2, full_eval_every=2)), root))
    return root


def result(folder):
    """The texts of a set, by their digest; of what is trained a few numbers that depend on every entry of the prompts,
    and those of the last line of metrics, as the best prompt may be the starting one."""
    if folder.parent.name == "synthetic":
        return digest(read_set(folder))
    line, arrays = read_metrics(folder / "metrics.jsonl")[-1], sorted(prompts.load(folder).items())
    return [*(float(array.ravel() @ np.cos(np.arange(array.size))) for _, array in arrays),
            *(float(np.mean(value)) for name, value in sorted(line.items())
              if name.startswith("loss") or name in ("param_norm", "prompt_norm"))]


@pytest.mark.parametrize("stage", STAGES)
def test_results_are_those_of_the_revision(run, stage):
    revision, expected = PINNED[stage]
    assert revision == STAGES[stage].REVISION, "the revision was raised: pin its values"
    folders = sorted((run / stage).glob("[!.]*"))
    found = [result(folder) for folder in folders] if stage == "synthetic" else [
        value for folder in folders for value in result(folder)]
    assert found == (expected if stage == "synthetic" else pytest.approx(expected, rel=1e-3))
