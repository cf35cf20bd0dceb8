"""The main job end to end: rows, reuse, two backbones on one synthetic set, interruption, bad input."""

import dataclasses
import json
import shutil
from collections import Counter

import datasets
import jax
import numpy as np
import pytest

from dawgen_jax import prompts
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.config import BackboneConfig, FineTuningConfig
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.io import store
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.methods.arms import Arm
from dawgen_jax.pipeline import cells, inputs, main, sets
from dawgen_jax.pipeline.job import Job
from dawgen_jax.results.rows import Row, SyntheticRow, read_rows, write_rows
from dawgen_jax.training.placement import Placement
from tests.io.test_trackers import events


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    main.run(Job.start(config, root))
    return root


def numbers(root):
    """What must be equal between two runs: all but wall time."""
    return [dataclasses.replace(row, wall_seconds=0.0) for row in read_rows(root / "results.jsonl")]


def contents(root):
    """Bytes of the artefacts that hold numbers."""
    names = ("prompts.safetensors", "prompt.safetensors", "train.jsonl", "train.parquet", "counts.json",
             "predictions.json", "wrong_examples.json", "metrics.jsonl", "README.md")
    return {str(path.relative_to(root)): path.read_bytes() for name in names for path in root.rglob(name)}


def test_rows_say_what_was_measured(finished, config):
    rows = read_rows(finished / "results.jsonl")
    assert len(rows) == 2 * (1 + 3 * 2)  # accuracy and F1 of one zero-shot row and of three arms of two seeds
    synthetic_rows = [row for row in rows if row.generator]
    assert {row.variant for row in synthetic_rows} == {"cut"}
    assert {row.generator_backbone for row in synthetic_rows} == {"random0"} == {row.backbone for row in rows}
    assert all(row.n_test == 30 and row.config_hash and row.versions["jax"] for row in rows)
    (classifier,) = {row.settings["classifier.backbone.digest"] for row in rows}
    assert {row.settings["generator.backbone.digest"] for row in synthetic_rows} == {classifier}
    sets = read_rows(finished / "synthetic.jsonl", SyntheticRow)
    assert {row.settings["generator.backbone.digest"] for row in sets} == {classifier}
    assert len({row.data for row in (*rows, *sets)}) == 1 and rows[0].data
    assert {row.trainable_parameters for row in rows if row.method != "Prompting (zero-shot)"} == {3 * 16}
    for row in rows:
        if row.metric == "accuracy":
            (folder,) = {path.parent for path in finished.glob("cells/*/result.json")
                         if row.config_hash in path.parent.name}
            predicted = np.array(json.loads((folder / "predictions.json").read_text()))
            assert np.bincount(predicted, minlength=3).tolist() == row.extras["predicted_counts"]
            wrong = json.loads((folder / "wrong_examples.json").read_text())
            counts, examples = np.array(wrong["confusion"]), wrong["examples"]
            assert counts.sum(0).tolist() == row.extras["predicted_counts"] and wrong["labels"] == [*row.class_counts]
            assert counts.sum(1).tolist() == [*row.class_counts.values()] and np.trace(counts) == round(30 * row.value)
            kinds = Counter((example["label"], example["predicted"]) for example in examples)
            assert sum(kinds.values()) == np.minimum(counts, 3).sum() - np.minimum(np.diag(counts), 3).sum()
            assert all(example["sentence1"] and example["label"] != example["predicted"] for example in examples)
    assert (finished / "report.html").read_text().count("data:image/svg+xml,") >= 1
    assert not list(finished.rglob("*.partial")) and not list(finished.rglob(".*filling"))


def test_every_set_is_measured(finished):
    rows = read_rows(finished / "synthetic.jsonl", SyntheticRow)
    made = {(name, seed) for name in ("FewGen", "DawGen") for seed in (13, 21)}
    assert {(row.generator, row.seed) for row in rows} == made
    assert all(row.n == 18 and row.consistency is not None for row in rows)


def test_results_of_other_data_give_way_to_those_of_this_run(finished, tmp_path, caplog):
    rows = read_rows(finished / "results.jsonl")
    earlier, elsewhere = ([dataclasses.replace(row, **change) for row in rows]
                          for change in ({"data": "0a1b"}, {"data": "0a1b", "task": "another"}))
    write_rows(tmp_path / "results.jsonl", [*earlier, *elsewhere])
    groups, data = [rows, earlier[:3]], {rows[0].task: rows[0].data}  # cells of earlier data are still there
    for _ in range(2):
        main._merged(tmp_path / "results.jsonl", Row, groups, data)
        assert {row.key for row in read_rows(tmp_path / "results.jsonl")} == {row.key for row in (*rows, *elsewhere)}
    [message] = caplog.messages
    assert f": dropped {len(rows)} rows that were computed on different data or by an earlier revision;" in message
    unknown = [dataclasses.replace(row, data="") for row in rows]
    main._merged(tmp_path / "old" / "results.jsonl", Row, [unknown, rows[:1]], data)
    assert len(read_rows(tmp_path / "old" / "results.jsonl")) == len(rows) + 1  # what is not known stays


def test_cells_and_sets_of_other_data_are_others(finished, config, tmp_path):
    config = dataclasses.replace(config, arms=("Prompting (zero-shot)", "FewGen: Syn only"), seeds=(13,))
    job, units = Job.start(config, shutil.copytree(finished, tmp_path / "run")), main.units_of(config)
    work = main.Work(job, units)
    before = [folder for unit in units for folders in work.run(unit) for folder in folders]
    task = work.given["mini-snli"].task
    other = dataclasses.replace(task, positive=task.labels[0])
    work.given["mini-snli"] = dataclasses.replace(work.given["mini-snli"], task=other)
    work._memory.clear()
    after = [folder for unit in units for folders in work.run(unit) for folder in folders]
    assert len(before) == len(after) == 3 and not {*before} & {*after}


def test_prompts_are_there_for_peft_too(finished, config):
    for folder in finished.glob("cells/[!.]*/"):
        assert (folder / "peft" / "README.md").is_file() == (folder / "prompt.safetensors").is_file()
        if (folder / "peft").is_dir():
            np.testing.assert_array_equal(prompts.load(folder)["prompt"], prompts.load(folder / "peft")["prompt"])
            written = json.loads((folder / "peft" / "adapter_config.json").read_text())
            assert written["base_model_name_or_path"] == config.classifier.backbone.path
    for folder in finished.glob("generators/[!.]*/"):
        names = ("0-entailment", "1-neutral", "2-contradiction")
        assert sorted(path.name for path in (folder / "peft").iterdir()) == list(names)
        for name, prompt in zip(names, prompts.load(folder)["prompt"], strict=True):
            np.testing.assert_array_equal(prompts.load(folder / "peft" / name)["prompt"], prompt)


def test_every_set_is_a_folder_that_datasets_reads(finished, tmp_path):
    for folder in finished.glob("synthetic/[!.]*/"):
        splits = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
        assert {name: len(split) for name, split in splits.items()} == {"train": 18}
        card = (folder / "README.md").read_text()
        for fact in ("- synthetic", "- en", '"generator.learning_rate": 0.005', '"synthesis.max_new_tokens": 4',
                     '"generator_backbone": "random0"', "| diversity |", r"| consistency\_of neutral |"):
            assert fact in card


def test_tracking_shows_what_the_logs_hold_and_changes_no_number(finished, config, tmp_path):
    pytest.importorskip("tensorboardX")
    arms = dataclasses.replace(config, arms=("FewGen: (Real, Syn)",), track=("tensorboard",))
    rows = main.run(Job.start(arms, tmp_path))
    assert {row.config_hash for row in rows} < {row.config_hash for row in numbers(finished)}
    (cell,), (generator,) = (list(tmp_path.glob(f"tensorboard/{kind}/*")) for kind in ("cells", "generators"))
    shown = events(cell)
    for seed in (13, 21):
        (folder,) = tmp_path.glob(f"cells/*-{seed}-*")
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for name in ("loss_real", "conflict", "dev_accuracy"):
            wanted = [(line["step"], np.float32(line[name])) for line in lines if name in line]
            assert [(step, value) for step, tag, value in shown if tag == f"{name}/{seed}"] == wanted != []
        (accuracy,) = (row.value for row in rows if row.seed == seed and row.metric == "accuracy")
        assert [value for _, tag, value in shown if tag == f"test_accuracy/{seed}"] == [np.float32(accuracy)]
    assert {"loss_wgen/13", "loss_wgen/21"} <= {tag for _, tag, _ in events(generator)}


def test_counts_add_up(finished):
    for path in finished.glob("synthetic/*/counts.json"):
        for count in json.loads(path.read_text()).values():
            assert count["made"] == count["accepted"] + count["surplus"] + sum(count["rejected"].values())


def test_a_second_run_and_a_second_backbone_generate_nothing(finished, config, backbones, monkeypatch):
    before, rows = contents(finished), numbers(finished)
    monkeypatch.setattr(Decoder, "generate", lambda *_: pytest.fail("generated again"))
    monkeypatch.setattr(cells, "tune", lambda *_, **__: pytest.fail("tuned again"))
    main.run(Job.start(config, finished))
    assert numbers(finished) == rows and contents(finished) == before
    monkeypatch.undo()
    monkeypatch.setattr(Decoder, "generate", lambda *_: pytest.fail("generated again"))
    other = dataclasses.replace(config, arms=("DawGen: (Real, Syn) + GS",),
                                classifier=dataclasses.replace(config.classifier, backbone=backbones[1]))
    made = [row for row in main.run(Job.start(other, finished)) if row.backbone == "random1"]
    assert len(made) == 4 and {row.generator_backbone for row in made} == {"random0"}
    assert all(row in numbers(finished) for row in rows)


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def killing(function, calls: int):
    """``function``, killed after the so-many-th call."""
    left = [calls]

    def wrapper(*args, **kwargs):
        result = function(*args, **kwargs)
        left[0] -= 1
        if not left[0]:
            raise Killed
        return result
    return wrapper


@pytest.mark.parametrize(("owner", "name", "calls"), [
    pytest.param(MetricsLog, "record", 2, id="generator"),
    pytest.param(store, "finish", 1, id="generator published"),
    pytest.param(sets.files, "write_samples", 2, id="synthesis"),
    pytest.param(MetricsLog, "record", 4, id="prompt"),  # two lines of the generator, then step 0 and update 2
    pytest.param(store, "finish", 6, id="cell published"),  # after two generators and two sets
])
def test_interrupted_and_started_again_ends_with_the_same_bytes(owner, name, calls, finished, config, tmp_path,
                                                                monkeypatch):
    arms = dataclasses.replace(config, arms=("DawGen: (Real, Syn) + GS",))
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killing(getattr(owner, name), calls))
        with pytest.raises(Killed):
            main.run(Job.start(arms, tmp_path))
    assert not (tmp_path / "results.jsonl").exists()
    main.run(Job.start(arms, tmp_path))
    whole = contents(finished)
    for path, content in contents(tmp_path).items():
        assert content == whole[path], path


@pytest.mark.parametrize("calls", [2, 3, 4, 5])
def test_an_arm_of_two_stages_interrupted_anywhere_keeps_its_lines(calls, config, tmp_path, monkeypatch):
    two = dataclasses.replace(config, arms=("FewGen: Real -> Syn #stages",), classifier=dataclasses.replace(
        config.classifier, num_steps=8))
    main.run(Job.start(two, tmp_path / "whole"))
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "cells")
    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "record", killing(MetricsLog.record, calls))
        with pytest.raises(Killed):
            main.run(Job.start(two, tmp_path / "again"))
    main.run(Job.start(two, tmp_path / "again"))
    whole = contents(tmp_path / "whole")
    lines = [json.loads(line) for path, content in whole.items() if path.startswith("cells") and "metrics" in path
             for line in content.splitlines()]
    assert [line["step"] for line in lines] == 2 * list(range(9))
    assert contents(tmp_path / "again") == whole


def test_rows_name_another_aggregator(config, tmp_path):
    other = dataclasses.replace(
        config, arms=("FewGen: (Real, Syn)", "FewGen: (Real, Syn) + GS"), seeds=(13,),
        classifier=dataclasses.replace(config.classifier, aggregator="pcgrad", epsilon=0.5, surgery_scope="row"))
    rows = [row for row in main.run(Job.start(other, tmp_path)) if row.metric == "accuracy"]
    read = ("classifier.epsilon", "classifier.aggregator", "classifier.surgery_scope")
    assert {row.method: (row.variant, *(row.settings.get(field) for field in read)) for row in rows} == {
        "(Real, Syn)": ("cut", 0.5, None, None), "(Real, Syn) + GS": ("cut", 0.5, "pcgrad", "row")}


def test_a_missing_input_of_the_last_task_is_told_before_the_first_is_worked_on(config, tmp_path):
    with pytest.raises(UserError, match="'mini-snil' is an unknown task"):
        main.run(Job.start(dataclasses.replace(config, tasks=("mini-rte", "mini-snil")), tmp_path))
    assert not list(tmp_path.glob("*/"))


def test_a_generator_without_a_method_is_told_the_method_of_the_paper(config):
    with pytest.raises(ConfigError, match=r"'DawGen' is a generator; .*'DawGen: \(Real, Syn\) \+ GS'\."):
        main.units_of(dataclasses.replace(config, arms=("DawGen",)))


def test_what_arms_share_comes_first_in_the_order_of_the_stages(config):
    arms = dataclasses.replace(config, arms=("SPoT", "DawGen: Syn only", "FewGen: (Real, Syn)", "DawGen: (Real, Syn)"))
    assert main.shared_by(main.units_of(arms)) == [
        ("generators", "mini-snli", "DawGen"), ("generators", "mini-snli", "FewGen"), ("sets", "mini-snli", "DawGen"),
        ("sets", "mini-snli", "FewGen"), ("sources", "mini-snli", "SPoT")]


def test_another_tokenizer_is_another_backbone(backbones, tmp_path):
    placement = Placement.on(1)
    copy = shutil.copytree(backbones[0].path, tmp_path / "copy")
    before = inputs.load_backbone(BackboneConfig(str(copy)), placement).digest
    assert before == inputs.load_backbone(backbones[0], placement).digest
    (copy / "tokenizer_config.json").write_text((copy / "tokenizer_config.json").read_text() + "\n")
    assert inputs.load_backbone(BackboneConfig(str(copy)), placement).digest != before


def test_a_set_without_finished_sentences_ends_with_the_way_out(config, tmp_path):
    # Sentences of one token cannot be both finished and not empty.
    (tmp_path / "first.txt").write_text("a boy runs .\na girl sings .\n")
    rejecting = dataclasses.replace(
        config, arms=("FewGen: Syn only",), data=dataclasses.replace(config.data, corpus=str(tmp_path / "first.txt")),
        synthesis=dataclasses.replace(config.synthesis, unfinished="reject", max_new_tokens=1))
    with pytest.raises(UserError, match=r"no sample of label 'entailment' .*2 made, .*synthesis\.unfinished"):
        main.run(Job.start(rejecting, tmp_path / "run"))
    assert not list((tmp_path / "run").glob("synthetic/[!.]*"))


def test_a_loss_that_is_not_finite_stops_with_the_update_and_publishes_nothing(config, tmp_path):
    wild = dataclasses.replace(config, arms=("Prompt Tuning",), classifier=dataclasses.replace(
        config.classifier, learning_rate=1e38, clip_norm=1e38, weight_decay=1.0, real_steps=6))
    with pytest.raises(UserError, match=r"not finite at update \d of 6 \(seed"):
        main.run(Job.start(wild, tmp_path))
    assert not list(tmp_path.glob("cells/[!.]*"))


def test_fine_tuning_the_full_pool_and_the_control_are_cells_too(config, tmp_path):
    classifier = dataclasses.replace(config.classifier, full_steps=2, full_eval_every=2, fine_tuning=FineTuningConfig(
        learning_rates=(1e-3,), num_steps=2, batch_size=4, eval_every=2))
    other = dataclasses.replace(config, arms=("FT", "Prompt Tuning @full", "Prompt Tuning #same-T"),
                                classifier=classifier)
    rows = [row for row in main.run(Job.start(other, tmp_path)) if row.metric == "accuracy"]
    assert [(row.method, row.k_shot, row.variant) for row in rows[::2]] == [
        ("FT", 4, ""), ("Prompt Tuning", 4, "same-T"), ("Prompt Tuning", "full", "")]
    counts = {row.method: row.trainable_parameters for row in rows}
    theta = inputs.load_backbone(classifier.backbone, Placement.on(1)).theta
    assert counts["FT"] == sum(leaf.size for leaf in jax.tree.leaves(theta)) + 3 * theta["embedding"].shape[1]
    assert counts["Prompt Tuning"] == 3 * theta["embedding"].shape[1]


def test_a_cell_does_not_depend_on_the_seeds_beside_it(config, tmp_path):
    def prompt_of_21(seeds, root):
        classifier = dataclasses.replace(config.classifier, prompt_init="sampled")
        job = Job.start(dataclasses.replace(config, seeds=seeds, classifier=classifier), root)
        unit = main.Unit("mini-snli", Arm.parse("Prompt Tuning"))
        folders, _ = main.Work(job, [unit]).run(unit)
        return folders[-1].name, prompts.load(folders[-1] / "prompt.safetensors")["prompt"]

    name, alone = prompt_of_21((21,), tmp_path / "alone")
    beside_13, together = prompt_of_21((13, 21), tmp_path / "together")
    assert name == beside_13
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_runs_with_other_shots_or_another_corpus_of_the_same_name_keep_each_others_rows(config, tmp_path):
    split = inputs.read_task("mini-snli", config, generates=False).splits[13]
    for name, halves in (("a", (split.train, split.dev)), ("b", (split.dev, split.train))):
        folder = tmp_path / name / "mini-snli" / "4-13"
        folder.mkdir(parents=True)
        for file, examples in zip(("train", "dev"), halves, strict=True):
            (folder / f"{file}.jsonl").write_text("".join(json.dumps(one._asdict()) + "\n" for one in examples))
        (tmp_path / name / "first.txt").write_text("".join(f"{name} {who} runs .\n" for who in ("boy", "girl", "dog")))

    def rows(shots, corpus):
        data = dataclasses.replace(config.data, kshot=str(tmp_path / shots),
                                   corpus=str(tmp_path / corpus / "first.txt"))
        return main.run(Job.start(dataclasses.replace(
            config, seeds=(13,), arms=("Prompt Tuning", "FewGen: Syn only"), data=data), tmp_path / "run"))

    first = rows("a", "a")
    both = rows("b", "b")
    assert len(first) == 4 and len(both) == 8 and all(row in both for row in first)
    assert len(rows("a", "b")) == 10  # the prompt's rows are those of the first run, the generator read another corpus
    assert len(read_rows(tmp_path / "run" / "synthetic.jsonl", SyntheticRow)) == 3
