"""``python -m train.evaluate``: which files it takes for a prompt."""

import dataclasses
import json
import re

import numpy as np
import pytest

from dawgen_jax import Classifier, find_task, miniworld, prompts
from dawgen_jax.backbones.t5.format import ADAPTER
from dawgen_jax.cli import evaluate
from dawgen_jax.cli.evaluate import Arguments, load_prompt, score
from dawgen_jax.config import BackboneConfig, ClassifierConfig, Config, DataConfig
from dawgen_jax.errors import UserError
from dawgen_jax.methods.trained import LOW_RANK
from dawgen_jax.pipeline import adapters
from dawgen_jax.pipeline.inputs import load_backbone
from dawgen_jax.training.placement import Placement
from tests.pipeline.conftest import write_backbone
from tests.train.test_predict import REVIEWS


def test_a_prompt_of_the_right_width_is_read_and_any_other_file_refused(tmp_path):
    path, prompt = str(tmp_path / "prompt.safetensors"), np.arange(6, dtype=np.float32).reshape(3, 2)
    prompts.save(path, {"prompt": prompt})
    np.testing.assert_array_equal(load_prompt(path, 2, "tiny"), prompt)
    for arrays, message in (({"infix": prompt}, r"no tensor 'prompt' \(but: infix\); give the prompt.safetensors of"),
                            ({"prompt": prompt[None]}, r"of shape \(1, 3, 2\), but tiny has width 2; give"),
                            ({"prompt": prompt.T}, r"of shape \(2, 3\), but tiny has width 2; give")):
        prompts.save(path, arrays)
        with pytest.raises(UserError, match=rf"--prompt .*prompt.safetensors: .*{message}"):
            load_prompt(path, 2, "tiny")


def evaluated(config, stored, capsys):
    score(config, Arguments(prompt=str(stored)))
    return capsys.readouterr().out


def test_a_prompt_is_scored_next_to_none_and_what_it_changes_is_said(tmp_path, capsys):
    configs = []
    for seed in range(2):
        write_backbone(tmp_path / f"t5-{seed}", seed)
        configs.append(Config(data=DataConfig(max_test=40), devices=1, classifier=ClassifierConfig(
            backbone=BackboneConfig(str(tmp_path / f"t5-{seed}")))))
    prompt = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    adapters.write_prompt(tmp_path / "peft", prompt, "t5", ADAPTER)
    np.save(tmp_path / "p.npy", prompt)
    said = evaluated(configs[1], tmp_path / "peft", capsys)
    assert said == evaluated(configs[1], tmp_path / "p.npy", capsys)
    assert re.search(r"mini-snli test, with the prompt: accuracy \d+\.\d\d, F1 \d+\.\d\d, n = 40\n", said)
    assert 0 < int(re.search(r"The prompt changes (\d+) of 40 predictions\.", said)[1]) <= 40
    (plain,) = re.findall("without the prompt: (.*)", said)
    assert evaluated(configs[1], "", capsys) == f"mini-snli test, without a prompt: {plain}\n"
    # The other backbone calls every pair the same, with and without it.
    assert "The prompt changes none of 40 predictions: was it tuned on this backbone" in evaluated(
        configs[0], tmp_path / "p.npy", capsys)


def test_a_cell_says_how_its_prompt_is_read_and_for_which_backbone(tmp_path, capsys, monkeypatch):
    write_backbone(tmp_path / "t5", 1)
    task, backbone = find_task("mini-snli"), load_backbone(BackboneConfig(str(tmp_path / "t5")), Placement.on(1))
    other = dataclasses.replace(task, label_words=task.label_words[1:] + task.label_words[:1])
    prompt = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    config = ClassifierConfig(prompt_length=4, backbone=backbone.config)
    Classifier(backbone, other, config, "Prompt Tuning", prompt).save(tmp_path / "cell")
    asked = Config(data=DataConfig(max_test=100), devices=1, classifier=config)
    right = Classifier.load(tmp_path / "cell").score(miniworld.pools("mini-snli").test[:100])["accuracy"]
    assert right != Classifier(backbone, task, config, "Prompt Tuning", prompt).score(
        miniworld.pools("mini-snli").test[:100])["accuracy"]
    for stored in ("cell", "cell/prompt.safetensors"):
        assert f"with the prompt: accuracy {100 * right:.2f}," in evaluated(asked, tmp_path / stored, capsys)
    write_backbone(tmp_path / "t5-2", 2)
    with pytest.raises(UserError, match=r"--prompt .*cell: was tuned on another backbone than .*t5-2 in float32"):
        score(dataclasses.replace(asked, classifier=dataclasses.replace(
            config, backbone=BackboneConfig(str(tmp_path / "t5-2")))), Arguments(prompt=str(tmp_path / "cell")))
    # Of tasks that it is not for, it says nothing.
    widths = {}
    monkeypatch.setattr(evaluate, "_report", lambda title, examples, encoded, config, prompt: widths.update(
        {title: config.max_tokens}))
    score(dataclasses.replace(asked, tasks=("mini-snli", "mini-rte"), classifier=dataclasses.replace(
        config, max_tokens=50)), Arguments(prompt=str(tmp_path / "cell")))
    assert widths == {"mini-snli test": 100, "mini-rte test": 50}


def test_a_cell_alone_is_scored_on_a_file(tmp_path, capsys):
    write_backbone(tmp_path / "t5", 1)
    task, backbone = find_task("mini-snli"), load_backbone(BackboneConfig(str(tmp_path / "t5")), Placement.on(1))
    pairs = miniworld.pools("mini-snli").test[:40]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps({
        "premise": pair.sentence1, "hypothesis": pair.sentence2, "label": task.labels.index(pair.label)}) + "\n"
        for pair in pairs))
    config = ClassifierConfig(prompt_length=4, backbone=backbone.config)
    prompt = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    factors = LOW_RANK.init(backbone, config, 3, prompt, 0)
    for method, params, what in (("Prompt Tuning", prompt, "prompt"), ("LoRA", factors, "low-rank update"),
                                 ("Prompting (zero-shot)", None, "")):
        classifier = Classifier(backbone, task, config, method, params)
        classifier.save(tmp_path / method)
        evaluate.main([str(tmp_path / method), "--file", str(tmp_path / "pairs.jsonl")])
        said = capsys.readouterr().out.splitlines()
        accuracy, f1 = (100 * classifier.score(pairs)[name] for name in ("accuracy", "f1"))
        how = f"with the {what}" if what else "without a prompt"
        assert said[0] == f"{tmp_path / 'pairs.jsonl'}, {how}: accuracy {accuracy:.2f}, F1 {f1:.2f}, n = 40"
        assert len(said) == (3 if what else 1)
        assert not what or said[-1].startswith(f"The {what} changes ")


def test_a_cell_of_ones_own_task_takes_columns_of_any_name(tmp_path, capsys):
    write_backbone(tmp_path / "t5", 1)
    backbone = load_backbone(BackboneConfig(str(tmp_path / "t5")), Placement.on(1))
    Classifier(backbone, REVIEWS).save(tmp_path / "cell")
    for name, text in (("reviews", "opinion,label\na boy runs .,good\nno boy runs .,bad\n"),
                       ("stars", "day,opinion,verdict\nmonday,a boy runs .,good\nsunday,no boy runs .,bad\n"),
                       ("none", "text,label\na boy runs .,-1\n")):
        (tmp_path / f"{name}.csv").write_text(text)
    evaluate.main([str(tmp_path / "cell"), "--file", str(tmp_path / "reviews.csv")])
    evaluate.main([str(tmp_path / "cell"), "--file", str(tmp_path / "stars.csv"), "--columns", "opinion", "--label",
                   "verdict"])
    first, second = capsys.readouterr().out.splitlines()
    assert first.partition(": ")[2] == second.partition(": ")[2] and first.endswith("n = 2")
    for name, message in (("stars", "stars.csv:2: no field 'label' .fields there: day, opinion, verdict"),
                          ("none", "none.csv: none of its 1 rows has a label in 'label'")):
        with pytest.raises(UserError, match=message):
            evaluate.main([str(tmp_path / "cell"), "--file", str(tmp_path / f"{name}.csv")])
