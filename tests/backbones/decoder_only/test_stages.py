"""A tiny decoder-only model goes through every stage: all methods, the generator, export, prediction, plan, checks."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from dawgen_jax import Classifier, miniworld, prompts
from dawgen_jax.backbones.decoder_only import convert
from dawgen_jax.backbones.decoder_only.config import DecoderConfig
from dawgen_jax.backbones.decoder_only.model import init
from dawgen_jax.cli import backbone as command
from dawgen_jax.cli import export
from dawgen_jax.config import (
    BackboneConfig,
    ClassifierConfig,
    Config,
    DataConfig,
    FineTuningConfig,
    GeneratorConfig,
    SynthesisConfig,
    TransferConfig,
)
from dawgen_jax.data.pools import Example
from dawgen_jax.errors import UserError
from dawgen_jax.evaluation.quality.measures import features
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.pipeline import checks, inputs, main, plan
from dawgen_jax.pipeline.inputs import Encoded
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.predictions import score_examples
from dawgen_jax.results.rows import read_rows
from dawgen_jax.training.placement import Placement
from tests.backbones.bpe import byte_level

PAIR = ("a boy runs .", "a child moves .")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Llama with the mini world's words."""
    folder, pool = tmp_path_factory.mktemp("llama"), miniworld.pools("mini-snli").train[:100]
    tokenizer = byte_level(["<|endoftext|>", "<|im_end|>"], [text for one in pool for text in one] +
                           ["Answer: red, big, two"] * 20, eos_token="<|im_end|>")
    shape = DecoderConfig(vocab_size=len(tokenizer), width=16, head_dim=4, d_ff=24, num_layers=1, num_heads=4,
                          num_kv_heads=2)
    convert.save(folder, shape, init(shape, jax.random.key(0)))
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def config(folder):
    backbone = BackboneConfig(str(folder))
    return Config(
        tasks=("mini-snli",), seeds=(13,), devices=1,
        arms=tuple(f"DawGen: {name}" if "synthetic" in method.data else name for name, method in METHODS.items()),
        data=DataConfig(k=2, max_test=8),
        generator=GeneratorConfig(backbone=backbone, prompt_length=3, num_steps=2, examples_per_label=2),
        synthesis=SynthesisConfig(samples_per_label=4, max_new_tokens=4, unfinished="cut", batch_size=8, score=True),
        classifier=ClassifierConfig(
            backbone=backbone, prompt_length=3, real_steps=2, real_batch_per_label=1, real_eval_every=2, num_steps=2,
            batch_size=3, eval_every=2, full_steps=2, full_batch_size=3, full_eval_every=2, max_tokens=64,
            pad_multiple=64, demonstration_tokens=256,
            fine_tuning=FineTuningConfig(learning_rates=(1e-3,), num_steps=2, eval_every=2)),
        transfer=TransferConfig(ppt_steps=2, ppt_batch_size=3, ppt_pairs=9, held_out=8, optima_steps=2,
                                optima_batch_size=2))


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    main.run(Job.start(config, root))
    return root


def test_a_second_run_finds_everything_finished(finished, config):
    (kept,) = finished.glob("cells/*LoRA-13-*")
    before = {path: path.stat().st_mtime_ns for path in finished.glob("cells/*/result.json")}
    shutil.rmtree(kept)
    main.run(Job.start(config, finished))
    after = {path: path.stat().st_mtime_ns for path in finished.glob("cells/*/result.json")}
    assert after.keys() == before.keys()
    assert {path.parent for path in after if after[path] != before[path]} == {kept}


def test_every_method_is_tuned_and_scored(finished, config):
    rows = read_rows(finished / "results.jsonl")
    assert {(row.method, row.variant.removesuffix("cut").removesuffix("+"), row.k_shot == "full") for row in rows} == {
        (method.name, method.variant, method.full) for method in METHODS.values()}
    assert all(0 <= row.value <= 1 and row.backbone == config.classifier.backbone.label for row in rows)
    made = [json.loads(line) for line in next(finished.glob("synthetic/*/train.jsonl")).read_text().splitlines()]
    assert len(made) == 12 and all(one["sentence2"] for one in made)


def test_export_says_what_kind_of_model_it_is_for(finished, tmp_path):
    (cell,) = finished.glob("cells/*Prompt_Tuning-13-*")
    for source, name in ((cell, "cell"), (next(finished.glob("generators/[!.]*")), "generator")):
        export.main([str(source), str(tmp_path / name)])
        for adapter in (tmp_path / name).rglob("adapter_config.json"):
            assert json.loads(adapter.read_text())["task_type"] == "CAUSAL_LM"
            assert prompts.load(adapter.parent)["prompt"].shape == (3, 16)
        card = next((tmp_path / name).rglob("README.md")).read_text()
        assert "AutoModelForCausalLM" in card and ("where PEFT cannot put it" in card) == (name == "cell")
    assert "where PEFT cannot put it" in (cell / "peft" / "README.md").read_text()


def test_a_stored_classifier_predicts_with_the_prompt_inside_the_row(finished):
    (cell,) = finished.glob("cells/*Prompt_Tuning-13-*")
    classifier = Classifier.load(cell)
    backbone, task = classifier.backbone, classifier.task
    chosen = classifier.config
    assert (chosen.prompt_place, chosen.optimiser, chosen.learning_rate) == ("after", "adamw", 0.02)
    tuned = classifier.predict([PAIR, ("a girl sings .", "no girl sings loudly in the park .")]).probabilities
    rows = backbone.format.answer_rows(task, [[PAIR[0]], [PAIR[1]]], 64)
    assert rows.tail == len(backbone.format.ids(["Answer:"])[0]) > 0
    (row,), theta, model = rows.rows, backbone.theta, backbone.model
    embedded = np.asarray(model.embed(theta, np.array([row])))
    whole = np.concatenate([embedded[:, :-rows.tail], classifier.params[None], embedded[:, -rows.tail:]], axis=1)
    states = model.answer_states(theta, whole, np.ones(whole.shape[:2], bool))
    scores = np.asarray(model.logits(theta, states, backbone.format.label_ids(task)))[0]
    np.testing.assert_allclose(tuned[0], np.exp(scores) / np.exp(scores).sum(), rtol=1e-4)


def test_calibrated_scores_have_no_preference_without_content(config):
    backbone, task = inputs.load_backbone(config.classifier.backbone, Placement.on(1)), miniworld.TASKS["mini-snli"]
    encoded = Encoded(task, backbone, config.classifier)
    examples = [Example(*texts, task.labels[0]) for texts in (PAIR, *[(text, text) for text in ("N/A", "[MASK]", "")])]
    plain, calibrated = (jax.nn.softmax(score_examples(
        encoded, examples, None, config.classifier, method=METHODS[f"Prompting (zero-shot){mark}"]))
        for mark in ("", " #calibrated"))
    odds = plain[0] / plain[1:].mean(axis=0)
    assert np.ptp(plain[1:].mean(axis=0)) > 1e-3
    np.testing.assert_allclose(calibrated[0], odds / odds.sum(), rtol=1e-4)


def test_the_rest_of_the_project_takes_it(config, folder, capsys):
    given = inputs.read_task("mini-snli", config, generates=True)
    found = checks.examine(given, config)
    assert not found.problems and len(found.word_ids) == 3 and found.unknown == 0
    with pytest.raises(UserError, match="does not end with <mask>"):
        checks.examine(dataclasses.replace(given, task=dataclasses.replace(
            given.task, template="{sentence1} so <mask> then {sentence2}")), config)
    planned = plan.plan(config, main.units_of(config))
    assert all(line.flops > 0 for line in planned if line.updates)
    backbone = inputs.load_backbone(config.classifier.backbone, Placement.on(1))
    assert np.isfinite(features(["a boy runs .", "a girl sings ."], backbone, Placement.on(1))).all()
    command.main(["check", str(folder), "--json"])
    assert json.loads(capsys.readouterr().out)["passed"]


def test_a_family_that_nobody_registered_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gemma3_text"}')
    with pytest.raises(UserError, match=r"model_type = 'gemma3_text': not a known family .* of t5, mt5, umt5, llama"):
        inputs.load_backbone(BackboneConfig(str(tmp_path)), Placement.on(1))
