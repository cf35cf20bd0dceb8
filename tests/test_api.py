"""The Python API gives what the pipeline gives, keeps it in folders, and prints nothing."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import dawgen_jax
from dawgen_jax import Classifier, Generator, UserError, appraise, find_task, load_backbone
from dawgen_jax.config import GeneratorConfig
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.methods.stored import can_be_stored, read_classifier
from dawgen_jax.pipeline import inputs, main
from dawgen_jax.pipeline.job import Job
from dawgen_jax.synthesis import files
from dawgen_jax.tasks import Task
from tests.pipeline.conftest import small_config, write_backbone

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two random backbones of one shape."""
    root = tmp_path_factory.mktemp("backbones")
    for seed in range(2):
        write_backbone(root / f"random{seed}", seed)
    return root


@pytest.fixture(scope="module")
def backbone(folder):
    return load_backbone(str(folder / "random0"), devices=1)


@pytest.fixture(scope="module")
def config(backbone):
    arms = ("Prompting (zero-shot)", "In-Context", "DawGen: (Real, Syn) + GS", "LoRA")
    config = small_config([backbone.config])
    return dataclasses.replace(config, seeds=(13,), arms=arms, classifier=dataclasses.replace(
        config.classifier, prompt_init="sampled", demonstration_tokens=500))


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """A finished run directory."""
    root = tmp_path_factory.mktemp("run")
    main.run(Job.start(config, root))
    return root


@pytest.fixture(scope="module")
def given(config):
    return inputs.read_task("mini-snli", config, generates=True)


@pytest.fixture(scope="module")
def classifier(backbone, config, given):
    split = given.splits[13]
    generator = Generator.tune(backbone, given.task, split.train, dev=split.dev, config=config.generator, seed=13)
    synthetic = generator.synthesize(given.sentences, config=config.synthesis)
    return Classifier.tune(backbone, given.task, split.train, dev=split.dev, synthetic=synthetic,
                           config=config.classifier, seed=13)


def cell(run, arm):
    (found,) = run.glob(f"cells/[!.]*{arm}*")
    return found


def test_the_api_tunes_what_the_pipeline_tunes(classifier, run, given):
    stored = Classifier.load(cell(run, "DawGen"), classifier.backbone)
    assert (stored.method, stored.task, stored.config) == (classifier.method, classifier.task, classifier.config)
    np.testing.assert_array_equal(stored.params, classifier.params)
    (made,) = run.glob("synthetic/[!.]*")
    split = given.splits[13]
    again = Classifier.tune(classifier.backbone, given.task, split.train, dev=split.dev, config=classifier.config,
                            synthetic=[sample.example for sample in files.read_set(made)], seed=13)
    np.testing.assert_array_equal(again.params, classifier.params)


@pytest.mark.parametrize("arm", ["zero-shot", "DawGen", "LoRA"])
def test_a_cell_is_a_classifier(arm, run, backbone, given):
    loaded = Classifier.load(cell(run, arm), backbone)
    labels, probabilities = loaded.predict([example[:2] for example in given.test])
    recorded = json.loads((cell(run, arm) / "predictions.json").read_text())
    assert labels == [given.task.labels[place] for place in recorded]
    assert [given.task.labels[place] for place in probabilities.argmax(axis=1)] == labels
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    rows = json.loads((cell(run, arm) / "result.json").read_text())
    assert loaded.score(given.test)["accuracy"] == pytest.approx(rows[0]["value"])


def test_a_cell_that_needs_more_than_a_folder_is_no_classifier(run, backbone):
    with pytest.raises(UserError, match=r"In-Context.*: holds no classifier.json; give the folder of a saved"):
        Classifier.load(cell(run, "In-Context"), backbone)
    assert {name for name, method in METHODS.items() if not can_be_stored(method)} == {
        "In-Context", "FT", "Prompt-based FT", "PFT + soft prompt"}


def test_saved_and_loaded_it_predicts_the_same(classifier, folder, tmp_path, given):
    classifier.save(tmp_path / "mine")
    texts = [example[:2] for example in given.test]
    for backbone in (None, classifier.backbone, str(folder / "random0")):
        again = Classifier.load(tmp_path / "mine", backbone)
        assert again.predict(texts).labels == classifier.predict(texts).labels
    with pytest.raises(UserError, match=r"was tuned on another backbone than .*random1 in float32"):
        Classifier.load(tmp_path / "mine", str(folder / "random1"))
    assert classifier.predict([]).probabilities.shape == (0, 3)


@pytest.mark.parametrize(("change", "message"), [
    (lambda facts: facts.pop("task"), "json: StoredFacts.task: is missing; save the classifier again"),
    (lambda facts: facts.update(method="Prompt Tunning"), "method = 'Prompt Tunning': must be the name of a method"),
    (lambda facts: facts["task"].update(labels="yes"), "StoredFacts.task.labels = 'yes': must be an array"),
    (lambda facts: facts["task"].update(colour=3), "StoredFacts.task.colour: unknown field"),
    (lambda facts: facts["classifier"].update(prompt_length=True),
     "classifier.prompt_length = True: must be an integer"),
    (lambda facts: facts["classifier"].update(prompt_length=0), "greater than 0"),
    (lambda facts: facts["classifier"].update(prompt_length=5), "has other shapes than classifier.json says"),
    (lambda facts: facts["classifier"]["backbone"].update(dtype="float64"),
     "backbone.dtype = 'float64': must be 'float32' or 'bfloat16'"),
])
def test_a_broken_folder_is_one_sentence(change, message, classifier, tmp_path):
    classifier.save(tmp_path)
    facts = json.loads((tmp_path / "classifier.json").read_text())
    change(facts)
    (tmp_path / "classifier.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=message):
        Classifier.load(tmp_path, classifier.backbone)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"method": 3}'])
def test_a_file_that_is_no_classifier_is_one_sentence(content, tmp_path):
    (tmp_path / "classifier.json").write_bytes(content)
    with pytest.raises(UserError, match=r"classifier\.json"):
        read_classifier(tmp_path)


PAIR = ("a boy runs .", "a boy moves .")


@pytest.mark.parametrize(("call", "message"), [
    (lambda one: one.predict(["a boy runs ."]), "text 1: 'a boy runs .' is not what .* classifies; give a pair"),
    (lambda one: one.predict([PAIR, (*PAIR, "neutral")]), r"text 2: "),
    (lambda one: one.score([]), "examples: no example of any class"),
    (lambda one: one.score([PAIR]), "example 1: .* does not end with a label of mini-snli; the labels are entailment"),
    (lambda one: Classifier.tune(one.backbone, one.task, [(*PAIR, "neutral")], dev=[(*PAIR, "neutral")]),
     "real: no example of contradiction, entailment; give some."),
    (lambda one: Classifier.tune(one.backbone, one.task, [], dev=[], method="Prompt Tunning"),
     "method = 'Prompt Tunning': unknown; the nearest is 'Prompt Tuning'"),
    (lambda one: Classifier.tune(one.backbone, one.task, [], dev=[]), "Prompt Tuning: needs dev and real examples"),
    (lambda one: Classifier.tune(one.backbone, one.task, [], dev=[], method="FT"), "method = 'FT': tunes no prompt"),
    (lambda one: Classifier.tune(one.backbone, one.task, [], dev=[], synthetic=[1], method="LoRA"), "learns from no"),
    (lambda one: Generator.tune(one.backbone, one.task, [], variant="DwaGen"), "the nearest is 'DawGen'"),
    (lambda one: Generator.tune(one.backbone, one.task, [], config=GeneratorConfig(select="dev_nll")),
     "dev: no example of any class"),
])
def test_a_mistake_is_one_sentence(call, message, classifier):
    with pytest.raises(UserError, match=message):
        call(classifier)


def test_zero_shot_by_hand(backbone, given, run):
    made = Classifier(backbone, given.task)
    assert made.score(given.test) == Classifier.load(cell(run, "zero-shot"), backbone).score(given.test)


def test_a_set_is_judged_by_one_call():
    task = find_task("mini-snli")
    real = [("a boy runs .", "a boy moves .", "entailment"), ("a girl sings .", "no girl sings .", "contradiction")]
    made = [("a man sleeps .", "a man sleeps .", "entailment"), ("a woman walks .", "no girl sings .", "neutral")]
    figures = {figure.name: figure for figure in appraise(task, made, real, test=made[:1])}
    assert (figures["copies of sentence 1"].value, figures["leaks of the test set"].value) == (0.5, 0.5)
    assert figures["rarest label"].value == 0 and figures["near copies of shots"].value == 0.5
    assert "leaks of the test set" not in {figure.name for figure in appraise(task, made, real)}
    with pytest.raises(UserError, match=r"heldout, example 1: .* does not end with a label of mini-snli"):
        appraise(task, made, real, heldout=[("a", "b", "c")])
    with pytest.raises(UserError, match="synthetic: no example of any class"):
        appraise(task, [], real)


def test_nothing_is_printed_and_what_is_odd_is_a_warning_of_the_logger(backbone, capfd, caplog):
    classifier = Classifier(backbone, find_task("mini-snli"))
    for level, records in (("WARNING", 1), ("ERROR", 0)):
        caplog.clear()
        with caplog.at_level(level, "dawgen_jax"):
            classifier.predict([("xyzzy plugh", "xyzzy")])
        assert [record.levelname for record in caplog.records] == ["WARNING"] * records
    assert capfd.readouterr() == ("", "")


def test_values_show_themselves_in_a_line(backbone):
    task = find_task("mini-snli")
    classifier = Classifier(backbone, task)
    generator = Generator(backbone, task, {"prompt": np.zeros((3, 4, 16))}, GeneratorConfig())
    assert re.fullmatch(r"Backbone\(random0, \d[\d,]+ parameters\)", repr(backbone))
    assert repr(generator) == "Generator(mini-snli, random0, 3 prompts of 4 virtual tokens)"
    assert repr(dataclasses.replace(classifier, method="Prompt Tuning", params=np.zeros((100, 16)))) == (
        "Classifier(mini-snli, random0, Prompt Tuning, 1,600 tuned parameters)")
    assert "0 tuned" in repr(classifier) and repr(classifier.predict([])) == "Predictions(0 texts)"
    assert repr(dawgen_jax.Predictions(["b", "a", "b"], np.zeros((3, 2)))) == "Predictions(3 texts: b 2, a 1)"


def test_every_name_is_there_and_importing_is_silent_and_loads_no_jax():
    assert all(hasattr(dawgen_jax, name) for name in dawgen_jax.__all__) and not hasattr(dawgen_jax, "nothing")
    assert (dawgen_jax.Task, dawgen_jax.find_task) == (Task, find_task)
    text = ("import sys, train, dawgen_jax; assert 'jax' not in sys.modules; from dawgen_jax import *; "
            "import configs.mini, transformers")
    done = subprocess.run([sys.executable, "-W", "always", "-c", text], cwd=ROOT, capture_output=True, text=True,
                          timeout=120, check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if "dawgen" in line] == []
