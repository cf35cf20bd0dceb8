"""Phases of each arm, and which prompt is kept."""

import numpy as np
import pytest

from dawgen_jax import sharding
from dawgen_jax.config import METHODS, Arm, ClassifierConfig
from dawgen_jax.tuning.loop import compiled_scores, tune
from dawgen_jax.tuning.strategies import Phase, phases
from tests import tiny

CONFIG = ClassifierConfig(num_steps=7, batch_size=5, eval_every=3, full_steps=9)


ARMS = [
    ("Prompt Tuning", [("real", "sum", 400, 6)]),
    ("Prompt Tuning #same-T", [("real", "sum", 7, 5)]),
    ("Prompt Tuning @full", [("real", "sum", 9, 18)]),
    ("FewGen: Syn only", [("synthetic", "sum", 7, 5)]),
    ("DawGen: Real -> Syn", [("real", "sum", 3, 5), ("synthetic", "sum", 4, 5)]),
    ("DawGen: Syn -> Real", [("synthetic", "sum", 3, 5), ("real", "sum", 4, 5)]),
    ("DawGen: (Real, Syn)", [("real,synthetic", "sum", 7, 5)]),
    ("DawGen: (Real, Syn) + GS", [("real,synthetic", "surgery", 7, 5)]),
    ("Prompting (zero-shot)", []),
    ("FT", []),
]


@pytest.mark.parametrize(("arm", "want"), ARMS)
def test_phases(arm, want):
    got = [(",".join(phase.sources), phase.aggregator, phase.num_steps, phase.batch_size)
           for phase in phases(Arm.parse(arm), CONFIG, 3)]
    assert got == want


def test_every_method_is_tested_above():
    assert {Arm.parse(arm).method for arm, _ in ARMS} == set(METHODS)


def test_the_best_dev_prompt_is_kept_and_the_start_is_a_candidate(tmp_path):
    theta, mesh = tiny.theta(), sharding.data_mesh(1)
    train, dev = [tiny.classifier_set(6, k) for k in range(2)], [tiny.classifier_set(12, 9 + k) for k in range(2)]
    config = ClassifierConfig(learning_rate=0.1, pad_multiple=8, num_steps=6)
    plan, lines, forgotten = [Phase(("real",), "sum", 6, 3, 2)], [], []
    start = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    tuned = tune(start, theta, {"real": train}, dev, plan, config=config, t5=tiny.T5, verbalizer=tiny.VERBALIZER,
                 mesh=mesh, seeds=(1, 2), folder=tmp_path, title="test", record=lines.extend, forget=forgotten.append)
    evaluated = [line for line in lines if "dev_accuracy" in line]
    assert [line["step"] for line in evaluated] == [0, 2, 4, 6] and forgotten == [0]
    accuracies = np.array([line["dev_accuracy"] for line in evaluated])  # [evaluations, K]
    np.testing.assert_array_equal(tuned.accuracy, accuracies.max(axis=0))
    first_best = np.array([0, 2, 4, 6])[accuracies.argmax(axis=0)]  # strict improvement: the first of equals
    np.testing.assert_array_equal(tuned.step, first_best)
    scores = compiled_scores(tiny.T5, tiny.VERBALIZER, mesh, shared=False)
    stacked = type(dev[0])(*(np.stack(leaves) for leaves in zip(*dev, strict=True)))
    predicted = np.asarray(scores(tuned.prompts, theta, stacked)).argmax(-1)
    np.testing.assert_allclose((predicted == stacked.label).mean(axis=1), tuned.accuracy)
    for k in range(2):
        if tuned.step[k] == 0:
            np.testing.assert_array_equal(tuned.prompts[k], start)
