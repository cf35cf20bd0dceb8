"""Which prompt is kept."""

import numpy as np

from dawgen_jax.backbones.base import Backbone
from dawgen_jax.config import ClassifierConfig
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.methods.base import Phase
from dawgen_jax.methods.trained import PROMPT
from dawgen_jax.methods.tune import compiled_scores, tune
from dawgen_jax.training.placement import Placement
from tests import tiny


def test_the_best_dev_prompt_is_kept_and_the_start_is_a_candidate(tmp_path):
    theta, placement, log = tiny.theta(), Placement.on(1), MetricsLog(tmp_path / "metrics.jsonl")
    train, dev = [tiny.classifier_set(6, k) for k in range(2)], [tiny.classifier_set(12, 9 + k) for k in range(2)]
    config = ClassifierConfig(learning_rate=0.1, pad_multiple=8, num_steps=6)
    plan = [Phase((("real",),), "sum", 6, 3, 2)]
    start = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    tuned = tune(PROMPT, np.stack([start, start]), Backbone(tiny.MODEL, theta, None, "tiny", ""), {"real": train}, dev,
                 plan, config=config, label_ids=tiny.LABEL_IDS, placement=placement, seeds=(1, 2), folder=tmp_path,
                 title="test", metrics_log=log)
    evaluated = [line for line in log.lines() if "dev_accuracy" in line]
    assert [line["step"] for line in evaluated] == [0, 2, 4, 6] and len(log.lines()) == 7
    accuracies = np.array([line["dev_accuracy"] for line in evaluated])  # [evaluations, K]
    np.testing.assert_array_equal(tuned.accuracy, accuracies.max(axis=0))
    first_best = np.array([0, 2, 4, 6])[accuracies.argmax(axis=0)]  # strict improvement: the first of equals
    np.testing.assert_array_equal(tuned.step, first_best)
    scores = compiled_scores(PROMPT, config, tiny.MODEL, tiny.LABEL_IDS, placement, shared=False)
    stacked = type(dev[0])(*(np.stack(leaves) for leaves in zip(*dev, strict=True)))
    predicted = np.asarray(scores(tuned.params, theta, stacked)).argmax(-1)
    np.testing.assert_allclose((predicted == stacked.label).mean(axis=1), tuned.accuracy)
    for k in range(2):
        if tuned.step[k] == 0:
            np.testing.assert_array_equal(tuned.params[k], start)
