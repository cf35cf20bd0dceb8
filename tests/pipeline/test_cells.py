"""What a cell is tuned on, selected on and scored on, and what its rows say; the tuning itself is invented."""

import dataclasses
import pathlib
import types

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from dawgen_jax import prompts
from dawgen_jax.config import ClassifierConfig
from dawgen_jax.errors import UserError
from dawgen_jax.evaluation import metrics
from dawgen_jax.io.files import read_json
from dawgen_jax.methods.arms import Arm
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.methods.tune import Tuned
from dawgen_jax.methods.verbalizer import class_scores
from dawgen_jax.miniworld import TASKS
from dawgen_jax.pipeline import cells, inputs, main
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.sets import SyntheticSet
from dawgen_jax.results.rows import read_cell
from dawgen_jax.training.placement import Placement

ARM = Arm.parse("FewGen: (Real, Syn)")


@pytest.fixture
def job(config, tmp_path):
    return Job.start(config, tmp_path)


@pytest.fixture(scope="module")
def given(config):
    return inputs.read_task("mini-snli", config, generates=False)


@pytest.fixture
def arm_cells(job, given):
    """The cells of an arm with an invented synthetic set a seed."""
    sets = [SyntheticSet(None, given.pools.train[6 * k:6 * k + 6], f"set {k}", "writer", ()) for k in range(2)]
    return cells.cells_of(job, given, ARM, sets, None)


def test_a_cell_has_the_split_and_the_set_of_its_seed(given, arm_cells):
    assert [cell.seed for cell in arm_cells] == [13, 21]
    for k, cell in enumerate(arm_cells):
        assert cell.split == given.splits[cell.seed] and cell.synthetic.digest == f"set {k}"


def test_what_is_tuned_selected_and_scored(job, given, arm_cells, monkeypatch):
    encoded = inputs.Encoded(given.task, job.backbone(job.config.classifier.backbone), job.config.classifier)
    tuned, seen = 5 * np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32), {}

    def invented(trained, starts, backbone, data, dev, plan, **options):
        seen.update(data, dev=dev, seeds=options["seeds"], starts=starts)
        return Tuned(tuned, np.array([0.25, 0.5]), np.array([2, 4]), last=tuned[::-1])

    monkeypatch.setattr(cells, "tune", invented)
    folders = cells.run_arm(job, given, encoded, ARM, arm_cells)
    assert seen["seeds"] == [13, 21]

    def same(arrays, examples, name):
        for ours, expected in zip(arrays, encoded.arrays(examples, f"again {name}"), strict=True):
            np.testing.assert_array_equal(ours, expected, err_msg=name)

    for k, cell in enumerate(arm_cells):
        same(seen["real"][k], given.splits[cell.seed].train, f"train {k}")
        same(seen["dev"][k], given.splits[cell.seed].dev, f"dev {k}")
        same(seen["synthetic"][k], given.pools.train[6 * k:6 * k + 6], f"synthetic {k}")
    test = encoded.arrays(given.pools.test[:30], "test again")
    score = jax.jit(jax.vmap(lambda prompt: class_scores(
        prompt, encoded.backbone.theta, test, model=encoded.backbone.model, label_ids=encoded.label_ids)))
    expected, untuned = (np.asarray(score(jnp.asarray(of))).argmax(-1) for of in (tuned, seen["starts"]))
    assert (expected != untuned).any()
    for k, folder in enumerate(folders):
        assert read_json(folder / "predictions.json", list) == expected[k].tolist()
        np.testing.assert_array_equal(prompts.load(folder / "prompt.safetensors")["prompt"], tuned[k])
        accuracy, f1 = read_cell(folder / "result.json")
        assert (accuracy.metric, f1.metric, accuracy.seed) == ("accuracy", "f1", (13, 21)[k])
        assert accuracy.value == np.mean(expected[k] == test.label) and accuracy.extras["best_step"] == (2, 4)[k]
        assert f1.value == metrics.f1(expected[k], test.label, 3)
        assert accuracy.extras["last_accuracy"] == metrics.accuracy(expected[1 - k], test.label) != accuracy.value
        assert accuracy.extras["last_f1"] == metrics.f1(expected[1 - k], test.label, 3)


def test_rows_of_a_task_of_two_classes(config, given):
    cell = cells.Cell(13, given.splits[13], None, None, {}, "", pathlib.Path(), "key")
    predicted, label = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 0, 1, 1])
    job, task = types.SimpleNamespace(config=config), types.SimpleNamespace(task=TASKS["mini-qqp"], k=16, digest="")
    accuracy, f1 = cells._rows(job, task, Arm.parse("Prompt Tuning"), cell, predicted, label, 48, 1.0, {})
    assert (accuracy.metric, accuracy.value) == ("accuracy", 0.8) and accuracy.class_counts == {
        "not_duplicate": 2, "duplicate": 3}
    assert accuracy.extras == {"predicted_counts": [3, 2], "accuracy_words_exchanged": pytest.approx(0.2)}
    assert (f1.metric, f1.value) == ("f1", pytest.approx(0.8)) and f1.n_test == 5


def test_a_method_without_a_prompt_needs_no_vocabulary_to_start_one_from(job):
    backbone, long = job.backbone(job.config.classifier.backbone), ClassifierConfig(prompt_length=10_000)
    for name in ("LoRA", "FT", "Prompt-based FT"):
        assert cells.start_prompt(backbone, long, METHODS[name].trains, 13).shape == (0, backbone.model.width)
    with pytest.raises(UserError, match=r"classifier\.prompt_length = 10000"):
        cells.start_prompt(backbone, long, METHODS["Prompt Tuning"].trains, 13)


def test_fine_tuning_starts_from_float32_weights_also_if_it_computes_in_bfloat16(config, tmp_path, monkeypatch):
    half = dataclasses.replace(config.classifier.backbone, dtype="bfloat16")
    config = dataclasses.replace(
        config, seeds=(13,), arms=("FT", "Prompt-based FT", "PFT + soft prompt", "Prompt Tuning"),
        classifier=dataclasses.replace(config.classifier, backbone=half))
    seen = {}

    def watched(trained, starts, backbone, *rest, **options):
        seen[trained.name] = jax.tree.map(np.asarray, backbone.theta)
        raise UserError("seen")

    monkeypatch.setattr(cells, "tune", watched)
    with pytest.raises(UserError, match="4 of 4 units failed"):
        main.run(Job.start(config, tmp_path))
    frozen = seen.pop("a prompt")
    assert {leaf.dtype for leaf in jax.tree.leaves(frozen)} == {np.dtype(ml_dtypes.bfloat16)} and len(seen) == 3
    stored = inputs.load_backbone(dataclasses.replace(half, dtype="float32"), Placement.on(1)).theta
    for theta in seen.values():
        chex.assert_trees_all_equal(theta, jax.tree.map(np.asarray, stored))
