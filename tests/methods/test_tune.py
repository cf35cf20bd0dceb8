"""Which prompt is kept; what a stage starts from, draws, and is combined and optimised with."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dawgen_jax.backbones.base import Backbone
from dawgen_jax.config import ClassifierConfig, FineTuningConfig
from dawgen_jax.data import batches
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.methods import tune as tuning
from dawgen_jax.methods.base import Stage, Trained
from dawgen_jax.methods.trained import PROMPT
from dawgen_jax.methods.tune import compiled_scores, tune
from dawgen_jax.surgery import gradient_surgery
from dawgen_jax.training.placement import Placement
from tests import tiny


def test_the_best_dev_prompt_is_kept_and_the_start_is_a_candidate(tmp_path):
    theta, placement, log = tiny.theta(), Placement.on(1), MetricsLog(tmp_path / "metrics.jsonl")
    train, dev = [tiny.classifier_set(6, k) for k in range(2)], [tiny.classifier_set(12, 9 + k) for k in range(2)]
    config = ClassifierConfig(learning_rate=0.1, pad_multiple=8, num_steps=6)
    plan = [Stage((("real",),), "sum", 6, 3, 2)]
    start = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    tuned = tune(PROMPT, np.stack([start, start]), Backbone(tiny.MODEL, None, theta, "tiny", ""), {"real": train}, dev,
                 plan, config=config, label_ids=tiny.LABEL_IDS, placement=placement, seeds=(1, 2), folder=tmp_path,
                 title="test", metrics_log=log)
    evaluated = [line for line in log.lines() if "dev_accuracy" in line]
    assert [line["step"] for line in evaluated] == [0, 2, 4, 6] and len(log.lines()) == 7
    accuracies = np.array([line["dev_accuracy"] for line in evaluated])  # [evaluations, K]
    np.testing.assert_array_equal(tuned.accuracy, accuracies.max(axis=0))
    first_best = np.array([0, 2, 4, 6])[accuracies.argmax(axis=0)]  # strict improvement: the first of equals
    np.testing.assert_array_equal(tuned.step, first_best)
    scores = compiled_scores(PROMPT, config, tiny.MODEL, tiny.LABEL_IDS, placement, shared=False)
    stacked = batches.stack(dev)
    predicted = np.asarray(scores(tuned.params, theta, stacked)).argmax(-1)
    np.testing.assert_allclose((predicted == stacked.label).mean(axis=1), tuned.accuracy)
    for k in range(2):
        if tuned.step[k] == 0:
            np.testing.assert_array_equal(tuned.params[k], start)


def row_scores(prompt, theta, batch, *, model, label_ids, config, tail):
    """The first row of the prompt is the scores of every example."""
    return jnp.broadcast_to(prompt[0], (len(batch.label), 3))


ROW = Trained("a row", lambda backbone, config, num_labels, prompt, seed: prompt, row_scores,
              lambda config, num_steps, rate: optax.sgd(rate or 0.2), fields=(), rate="classifier.learning_rate")
"""A toy that needs no backbone: every update moves the scores towards the classes that were drawn."""
CONFIG = ClassifierConfig(pad_multiple=8)
FIRST, SECOND = Stage((("real",),), "sum", 10, 2, 2), Stage((("synthetic",),), "sum", 4, 2, 2)


def of_class(label: int) -> batches.ClassifierBatch:
    """Six examples of one class."""
    return tiny.classifier_set(6, 0)._replace(label=np.full(6, label, np.int32))


def run(folder, plan, start, *, trained=ROW, config=CONFIG):
    """Tune on real examples of class 1 and synthetic ones of class 2; the dev set is of class 1."""
    folder.mkdir()
    log = MetricsLog(folder / "metrics.jsonl")
    tuned = tune(trained, np.asarray(start, np.float32)[None], Backbone(None, None, (), "toy", ""),
                 {"real": [of_class(1)], "synthetic": [of_class(2)]}, [of_class(1)], plan, config=config,
                 label_ids=(0, 1, 2), placement=Placement.on(1), seeds=(1,), folder=folder, title="toy",
                 metrics_log=log)
    return tuned, {line["step"]: line for line in log.lines()}


def test_a_stage_starts_from_the_best_of_the_one_before(tmp_path):
    tuned, lines = run(tmp_path / "two", [FIRST, SECOND], [[1.0, 0.0, 0.0]])
    accuracies = {step: line["dev_accuracy"] for step, line in lines.items() if "dev_accuracy" in line}
    assert accuracies[0] == [0.0] and accuracies[10] == [1.0] and 0 < tuned.step[0] < 10
    _, alone = run(tmp_path / "alone", [SECOND], tuned.params[0])
    assert lines[11]["param_norm"] == alone[1]["param_norm"]
    assert np.linalg.norm(tuned.last) == pytest.approx(lines[14]["param_norm"][0])
    assert np.abs(tuned.last - tuned.params).max() > 0.1


def test_update_i_draws_batch_i(tmp_path, monkeypatch):
    steps, draw = [], tuning.draw

    def recorded(pools, stage, seeds, step, *rest):
        steps.append(step)
        return draw(pools, stage, seeds, step, *rest)

    monkeypatch.setattr(tuning, "draw", recorded)
    run(tmp_path / "run", [SECOND], [[1.0, 0.0, 0.0]])
    assert steps == [0, 1, 2, 3]


def test_every_rate_is_tried_and_the_best_kept(tmp_path):
    several = dataclasses.replace(ROW, weights=True)
    config = dataclasses.replace(CONFIG, fine_tuning=FineTuningConfig(learning_rates=(1e-6, 0.5, 0.5000001)))
    tuned, lines = run(tmp_path / "run", [FIRST], [[1.0, 0.0, 0.0]], trained=several, config=config)
    assert tuned.rate == 0.5 and tuned.accuracy == [1.0] and max(lines) == 3 * 10 + 2


def test_one_class_for_every_dev_example_is_told_of_what_is_kept_and_not_of_the_last_update(tmp_path, caplog):
    def scores(prompt, theta, batch, *, model, label_ids, config, tail):
        return prompt[jnp.arange(len(batch.label)) % 2]

    # The start is right on half of the dev examples (class 1); synthetic ones of class 2 lead away from it.
    start = [[0.1, 0.0, 0.0], [0.0, 0.1, 0.0]]
    tuned, lines = run(tmp_path / "half", [SECOND], start, trained=dataclasses.replace(ROW, scores=scores))
    assert tuned.step == [0] and lines[0]["histogram"] == [[3, 3, 0]]
    assert lines[4]["histogram"] == [[0, 0, 6]] and "one class" not in caplog.text
    run(tmp_path / "all", [SECOND], start)
    assert "toy, seed 1: one class is predicted for every dev example" in caplog.text


@pytest.mark.parametrize("scope", ["global", "row"])
def test_a_stage_is_combined_and_optimised_as_the_configuration_says(scope):
    asked = []

    def optimiser(config, num_steps, rate):
        asked.append((num_steps, rate))
        return optax.sgd(1.0)

    stage = Stage((("real",), ("synthetic",)), "surgery", 7, 2, 2)
    tx = tuning.transform(dataclasses.replace(ROW, optimiser=optimiser), stage,
                           ClassifierConfig(epsilon=0.25, surgery_scope=scope), 0.125)
    assert asked == [(7, 0.125)]
    grads, params = jnp.array([[[-4.0, 1], [1, 2]], [[6, 1], [1, 1]]]), jnp.zeros((2, 2))  # only the first rows clash
    updates, _ = tx.update(grads, tx.init(params), params)
    peer = gradient_surgery(0.25, scope=scope)
    np.testing.assert_allclose(updates, -peer.update(grads, peer.init(params))[0], rtol=1e-6)


def test_padding_rows_of_a_dev_set_are_not_scored():
    dev = batches.stack([batches.pad_rows(tiny.classifier_set(3, 0), 8)])  # classes 0, 1, 2; then padding, class 2
    accuracy, figures = tuning._evaluate(
        np.zeros((1, 2)), scores=lambda params, frozen, dev: np.broadcast_to([1.0, 0.0, 0.0], (1, 8, 3)), frozen=(),
        dev=dev, start=np.ones((1, 2)), attach=lambda dev: dev)
    np.testing.assert_allclose(accuracy, [1 / 3])
    assert figures["histogram"] == [[3, 0, 0]] and figures["distance"] == [np.sqrt(2)]
