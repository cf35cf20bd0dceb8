"""``python -m train.quality`` on an invented set, with the embedded backbone."""

import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
import yaml
from rich.console import Console

from dawgen_jax import Classifier, miniworld, prompts
from dawgen_jax.cli.quality import Arguments, judge
from dawgen_jax.config import BackboneConfig, ClassifierConfig, SynthesisConfig
from dawgen_jax.data.pools import Example
from dawgen_jax.errors import UserError
from dawgen_jax.evaluation.quality.flags import Rules
from dawgen_jax.evaluation.quality.measures import features
from dawgen_jax.miniworld import TASKS
from dawgen_jax.pipeline.inputs import load_backbone
from dawgen_jax.synthesis import files
from dawgen_jax.synthesis.filtering import Sample, Selector
from dawgen_jax.training.placement import Placement

TASK = TASKS["mini-rte"]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A set of 24 samples, one of which leaks a test pair and one copies its first sentence; files of real pairs."""
    root = tmp_path_factory.mktemp("given")
    pools = miniworld.pools("mini-rte")
    pairs = list({pair.sentence1: pair for pair in pools.train if pair.sentence1 != pair.sentence2}.values())
    of_label = [[pair for pair in pairs if pair.label == label] for label in TASK.labels]
    pairs = [pair for both in zip(*of_label, strict=False) for pair in both]
    made = [pairs[place] for place in range(24)]
    made[4] = made[4]._replace(sentence2=made[4].sentence1)
    made[9] = Example("a walrus of the far north sings", "some animal makes music", made[9].label)
    test = [*pools.test[:5], made[9]._replace(sentence2="Some animal makes music .")]
    for name, examples in (("real", pairs[100:116]), ("heldout", pairs[200:300]), ("test", test)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(pair._asdict()) + "\n" for pair in examples))
    selector = Selector(TASK, SynthesisConfig(samples_per_label=12))
    selector.add(Sample(pair, place, scores=tuple(-2.0 - 3.0 * (pair.label != label) for label in TASK.labels))
                 for place, pair in enumerate(made))
    (root / "set").mkdir()
    files.write_set(root / "set", TASK, selector.select())
    return root


def arguments(given, **options):
    return Arguments(**{"synthetic": given / "set", "real": given / "real.jsonl", "heldout": given / "heldout.jsonl",
                        "test": given / "test.jsonl"} | options)


def judged(given, **options):
    console = Console(width=200, record=True, file=io.StringIO())
    judge(arguments(given, **options), console)
    return console.export_text()


def test_everything_is_measured_written_and_filtered(given, tmp_path):
    backbone = load_backbone(BackboneConfig(), Placement.on(1))
    prompts.save(tmp_path / "prompt.safetensors", {"prompt": np.zeros((2, backbone.model.width))})
    shown = judged(given, task="mini-rte", backbone="mini-t5", prompt=str(tmp_path / "prompt.safetensors"),
                   out=tmp_path / "found", rules=Rules(max_copy=0.99, drop_leaks=True))
    for text in ("24 samples against 100 real pairs", "MMD²", "agreement with the prompt", "median margin", "Leaks",
                 "some animal makes music"):
        assert text in shown
    found = json.loads((tmp_path / "found" / "quality.json").read_text())
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert figures["leaks of the test set"]["value"] == figures["copies of sentence 1"]["value"] == 1 / 24
    assert figures["median margin"]["value"] == 3.0 and found["skipped"] == []
    assert "Too few sentences" in figures["MMD²"]["verdict"] or "more than chance" in figures["MMD²"]["verdict"]
    leak, = map(json.loads, (tmp_path / "found" / "leaks.jsonl").read_text().splitlines())
    assert (leak["row"], leak["test_row"]) == (10, 6)
    before, after = files.read_set(given / "set"), files.read_set(tmp_path / "found" / "filtered")
    reasons = [reason for counts in found["dropped"].values() for reason in counts]
    assert "near copy of a test pair" in reasons and "copy of sentence 1" in reasons
    assert len(after) == 24 - sum(sum(counts.values()) for counts in found["dropped"].values())
    assert set(after) < set(before) and not {before[4], before[9]} & set(after)
    counts = files.read_counts(tmp_path / "found" / "filtered")
    assert sum(count.kept for count in counts.values()) == len(after)
    judged(given, synthetic=tmp_path / "found" / "filtered")  # a set like any other


def test_the_filtered_sets_card_says_where_it_is_from(given, tmp_path):
    folder, meta = shutil.copytree(given / "set", tmp_path / "set"), {
        "task": "mini-rte", "generator": "DawGen", "seed": 13, "languages": ["en"], "settings": {"synthesis.top_k": 4}}
    (folder / "meta.json").write_text(json.dumps(meta))
    found = tmp_path / "found [red]\x1b[31m\n"
    shown = judged(given, synthetic=folder, out=found, rules=Rules(max_copy=0.99))
    assert r"found [red]\x1b[31m\n; kept 23 of 24 samples" in shown.replace("\n", "") and "\x1b" not in shown
    filtered = found / "filtered"
    written, card = json.loads((filtered / "meta.json").read_text()), (filtered / "README.md").read_text()
    assert meta.items() <= written.items() and written["rules"]["max_copy"] == 0.99
    head, body = card.removeprefix("---\n").split("---\n", 1)
    assert yaml.safe_load(head)["language"] == ["en"] and '"synthesis.top_k": 4' in body
    assert '"filtered_from": "set"' in body and "| copies of sentence 1 | 0 |" in body
    (folder / "meta.json").write_text(json.dumps(meta | {"languages": 3}))
    with pytest.raises(UserError, match=r"meta\.json: Meta\.languages = 3: must be an array; fix or remove the file"):
        judged(given, synthetic=folder, out=tmp_path / "again", rules=Rules(max_copy=0.99))
    assert not (tmp_path / "again").exists()


def test_without_a_backbone_the_rest_is_told_with_a_line_of_what_is_missing(given):
    shown = judged(given, heldout=None, test=None)
    assert "MMD²" not in shown.split("No features")[0] and "distinct-2" in shown
    for text in ("No features and no MMD: name a backbone", "No agreement with a prompt", "give unseen pairs with",
                 "give the test pairs with --test"):
        assert text in shown


def test_a_file_of_pairs_is_a_set_too(given):
    shown = judged(given, synthetic=given / "heldout.jsonl", task="mini-rte", heldout=None)
    assert "100 samples against 16 real pairs" in shown and "No label margins" in shown


@pytest.mark.parametrize(("options", "message"), [
    ({"rules": Rules(dedup=True)}, "name a new one with"),
    ({"rules": Rules(drop_leaks=True), "test": None, "out": "x"}, "--drop-leaks: needs the test pairs"),
    ({"prompt": "prompt.safetensors"}, "name the backbone"),
    ({"task": "mini-snli"}, "label 'entailment' and 2 scores, but mini-snli has the labels"),
    ({"out": "."}, "exists, and nothing is overwritten"),
    ({"synthetic": "set/train.jsonl"}, "a file does not name its labels: give --task"),
    ({"rules": Rules(min_margin=9.0), "out": "x"}, "leave no sample of label .* label margin.*; loosen them"),
    ({"synthetic": "heldout.jsonl", "task": "mini-rte", "rules": Rules(min_margin=0.0), "out": "x"}, "without scores"),
])
def test_mistakes_are_one_sentence(given, options, message, monkeypatch):
    monkeypatch.chdir(given)
    options = {name: given / value if name in ("out", "synthetic") else value for name, value in options.items()}
    with pytest.raises(UserError, match=message):
        judged(given, **options)
    assert not (given / "x").exists()


def test_features_are_mean_states_whatever_the_batch():
    placement = Placement.on(1)
    backbone = load_backbone(BackboneConfig(), placement)
    sentences = ["a boy runs .", "a small girl sleeps in the old house .", "a dog barks ."]
    together = features(sentences, backbone, placement, batch_size=2)
    for sentence, row in zip(sentences, together, strict=True):
        ids = np.array([backbone.format.tokenizer(sentence).input_ids])
        states = backbone.model.input_states(backbone.theta, backbone.model.embed(backbone.theta, ids), ids >= 0)
        np.testing.assert_allclose(row, np.asarray(states)[0].mean(axis=0), rtol=1e-4, atol=1e-5)


def test_a_cell_reads_the_texts_of_a_set_of_ones_own_task_and_a_bare_prompt_does_not(given, tmp_path):
    backbone = load_backbone(BackboneConfig(), Placement.on(1))
    prompt = np.random.default_rng(0).normal(0, 9, (2, backbone.model.width)).astype(np.float32)
    task = dataclasses.replace(TASK, name="own", template="{sentence2} <mask> {sentence1}")
    classifier = Classifier(backbone, task, ClassifierConfig(prompt_length=2), "Prompt Tuning", prompt)
    classifier.save(tmp_path / "cell")
    made = [sample.example for sample in files.read_set(given / "set")]
    predicted = classifier.predict([example[:2] for example in made]).labels
    share = np.mean([label == example.label for label, example in zip(predicted, made, strict=True)])
    judged(given, task="own", backbone="mini-t5", prompt=str(tmp_path / "cell"), out=tmp_path / "found")
    figures = {figure["name"]: figure["value"]
               for figure in json.loads((tmp_path / "found" / "quality.json").read_text())["figures"]}
    assert figures["agreement with the prompt"] == share
    with pytest.raises(UserError, match="does not say how it reads the texts of a custom task; give the folder"):
        prompts.save(tmp_path / "bare" / "prompt.safetensors", {"prompt": prompt})
        judged(given, task="own", backbone="mini-t5", prompt=str(tmp_path / "bare" / "prompt.safetensors"))


def test_the_files_of_ones_own_task_have_columns_of_any_name(given, tmp_path):
    for name in ("real", "heldout", "test"):
        rows = map(json.loads, (given / f"{name}.jsonl").read_text().splitlines())
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({
            "day": 1, "before": row["sentence1"], "after": row["sentence2"], "verdict": row["label"]}) + "\n"
            for row in rows))
    files_there = {name: tmp_path / f"{name}.jsonl" for name in ("real", "heldout", "test")}
    named = judged(given, task="own", **files_there, columns=("before", "after"), label="verdict")
    assert named == judged(given, task="own")
    with pytest.raises(UserError, match=r"no field 'label' .*; name it with --columns or --label"):
        judged(given, task="own", **files_there)
    assert named == judged(given, task="own", **files_there, label="verdict")  # a number of a day is not a text


def test_a_run_is_no_set(given, tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="run: is not the folder of a synthetic set; give one that holds"):
        judged(given, synthetic=tmp_path / "run")
