"""A task of one's own through all stages: single texts and pairs from a CSV, with a tiny random backbone."""

import dataclasses
import itertools
import json

import pytest
from rich.console import Console

from dawgen_jax.cli import check as check_task
from dawgen_jax.cli import evaluate, options, run
from dawgen_jax.config import BackboneConfig, OwnTask, load_config
from dawgen_jax.errors import UserError
from dawgen_jax.pipeline import inputs, main
from dawgen_jax.pipeline.checks import examine
from dawgen_jax.pipeline.job import Job
from dawgen_jax.results.rows import SyntheticRow, read_rows
from dawgen_jax.synthesis import files
from dawgen_jax.training.placement import Placement

TEXTS = [f"a {adjective} {who} {does} ." for adjective in ("happy", "sad") for who, does in
         itertools.product(("boy", "girl", "dog", "cat"), ("runs", "sits", "sleeps"))]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A CSV of single texts and one of pairs, 12 examples a class."""
    folder = tmp_path_factory.mktemp("own")
    labels = ["glad" if "happy" in text else "sad" for text in TEXTS]
    (folder / "single.csv").write_text("review,label\n" + "".join(map("{},{}\n".format, TEXTS, labels)))
    (folder / "pairs.csv").write_text("premise,hypothesis,label\n" + "".join(
        f"{text},{text.replace('a ', 'the ', 1)},{label}\n" for text, label in zip(TEXTS, labels, strict=True)))
    return folder


@pytest.fixture(scope="module")
def own(config, data):
    """The small main job on single texts."""
    return dataclasses.replace(
        config, tasks=("own",), own=OwnTask(data=str(data / "single.csv"), metric="f1", language="de"),
        arms=("Prompting (zero-shot)", "Prompt Tuning", "DawGen: (Real, Syn) + GS"),
        data=dataclasses.replace(config.data, k=0, corpus="pool", max_test=0),
        synthesis=dataclasses.replace(config.synthesis, temperature=1.0))


@pytest.fixture(scope="module")
def finished(own, tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    main.run(Job.start(own, root))
    return root


def test_single_texts_go_through_all_stages(finished, own, capsys):
    rows = read_rows(finished / "results.jsonl")
    assert {(row.task, row.n_test, row.k_shot, row.split_source) for row in rows if row.seed} == {
        ("own", 6, 4, "resampled")}
    assert {row.variant for row in rows} == {"", "cut"}  # no first sentence is anybody's
    for row in read_rows(finished / "synthetic.jsonl", SyntheticRow):
        assert row.n == 12 and row.copies == 0
    main.print_tables(Job.start(own, finished), rows, Console(width=60))
    printed, best = capsys.readouterr().out, (finished / "best").read_text().strip()
    assert "main results, f1" in printed and len(best) > 60
    assert f"dawgen predict {best} FILE\n" in printed  # to copy: not broken at the terminal's width
    assert f"results: {finished / 'results.jsonl'}, report: {finished / 'report.html'}\n" in printed
    report = (finished / "report.html").read_text()
    assert report.index("main results, f1") < report.index("main results, accuracy") and "% F1 on own" in report


def test_a_synthetic_text_is_a_text_and_a_label_and_none_comes_twice(finished):
    folders = list(finished.glob("synthetic/[!.]*"))
    assert len(folders) == 2
    for folder in folders:
        rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
        assert all(list(row) == ["text", "label", "index", "cut"] for row in rows)
        assert len({(row["text"], row["label"]) for row in rows}) == len(rows) == 12
        samples = files.read_set(folder)
        assert {sample.example.sentence1 for sample in samples} == {""}
        card = (folder / "README.md").read_text()
        assert "texts. Text and label were written" in card and "\nlanguage:\n- de\n" in card
        import pyarrow.parquet

        assert pyarrow.parquet.read_table(folder / "train.parquet").column_names[:2] == ["text", "label"]


def test_a_second_run_makes_nothing_and_another_batch_the_same_texts(finished, own, tmp_path, monkeypatch):
    whole = {path.parent.name: path.read_bytes() for path in finished.glob("synthetic/[!.]*/train.jsonl")}
    other = dataclasses.replace(own, arms=("DawGen: (Real, Syn) + GS",), synthesis=dataclasses.replace(
        own.synthesis, shard_size=5))
    monkeypatch.setattr(main, "run_arm", lambda *_: [])
    main.run(Job.start(other, tmp_path))
    assert {path.parent.name: path.read_bytes() for path in tmp_path.glob("synthetic/[!.]*/train.jsonl")} == whole


def test_greedy_decoding_of_single_texts_is_refused_before_anything_starts(own, tmp_path):
    greedy = dataclasses.replace(own, synthesis=dataclasses.replace(own.synthesis, temperature=0.0))
    with pytest.raises(UserError, match=r"synthesis\.temperature = 0: own is a task of single texts, .* above 0"):
        main.run(Job.start(greedy, tmp_path))
    assert not list(tmp_path.glob("*/"))
    assert inputs.read_task("own", greedy, generates=False).sentences == []


def test_pairs_walk_again_through_their_few_first_sentences(own, data, tmp_path):
    pairs = dataclasses.replace(
        own, own=OwnTask(data=str(data / "pairs.csv"), columns=("premise", "hypothesis"),
                         template="{premise} <mask> {hypothesis}"),
        arms=("DawGen: Syn only",), seeds=(13,), synthesis=dataclasses.replace(own.synthesis, samples_per_label=30))
    (made,) = main.Work(Job.start(pairs, tmp_path), main.units_of(pairs)).sets("own", "DawGen")
    assert made.variants == ("cut", "pool") and len(set(made.examples)) == len(made.examples) == 60
    assert {example.sentence1 for example in made.examples} <= set(TEXTS)  # the pool has 18 of them


def test_a_model_with_a_head_of_its_own_reads_the_text_alone(own, backbones):
    given = inputs.read_task("own", own, generates=False)
    encoded = inputs.Encoded(given.task, inputs.load_backbone(backbones[0], Placement.on(1)), own.classifier)
    bare, template = (encoded.arrays(given.test, "test", bare=bare) for bare in (True, False))
    decode = encoded.backbone.format.tokenizer.decode
    assert decode(bare.tokens[0][bare.mask[0]]) == given.test[0].sentence2 + " </s>"
    assert decode(template.tokens[0][template.mask[0]]) == given.test[0].sentence2 + " <extra_id_0> </s>"


@pytest.mark.parametrize(("change", "message"), [
    ({"label_words": ("yes", "wonderful")}, r"the label word 'wonderful' of 'sad' has no usable token .* Set own\."
                                            r"label_words to one word per label, in the order glad, sad \(--own\."),
    ({"label_words": ("yes", "yes ")}, r"and 'yes ' of 'sad' begin with the same token 'yes' .* Set own\."),
    ({"template": "{text}"}, r"has no <mask>, where the label word is read; put it into own\.template"),
    ({"name": "mini-snli"}, r"own\.name = 'mini-snli': is the name of a task that is there already"),
    ({"data": "nothing.csv"}, r"nothing\.csv: no such file"),
])
def test_what_is_wrong_is_told_before_anything_is_trained(own, tmp_path, change, message):
    changed = dataclasses.replace(own.own, **change)
    wrong = dataclasses.replace(own, own=changed, tasks=(changed.name,))
    with pytest.raises(UserError, match=message):
        main.run(Job.start(wrong, tmp_path), main.units_of(wrong))
    assert not list(tmp_path.glob("*/"))


def test_text_of_another_world_and_too_few_shots_are_problems(own, tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("text,label\n" + "".join(f"Größe {i},{label}\n" for i in range(3) for label in ("glad", "sad")))
    other = dataclasses.replace(own, own=OwnTask(data=str(path)))
    with pytest.raises(UserError, match=r"100 % of the pieces of own's texts are unknown to .*; give a backbone of "
                                        r"their language \(--backbone DIR\)\.$"):
        main.run(Job.start(other, tmp_path / "run"))
    embedded = dataclasses.replace(other, classifier=dataclasses.replace(
        other.classifier, backbone=BackboneConfig("mini-t5")))
    assert examine(inputs.read_task("own", embedded, generates=False), embedded).problems == (
        "100 % of the pieces of own's texts are unknown to mini-t5; mini-t5 reads the mini world only. Get a language "
        "model: `dawgen backbone fetch smollm2-135m-q4`, then run the same command with `--backbone smollm2-135m-q4`.",)
    few = dataclasses.replace(own, own=OwnTask(data=str(path)))
    path.write_text("text,label\n" + "".join(f"a {who} runs .,{label}\n" for who in ("boy", "girl", "dog")
                                             for label in ("glad", "sad")))
    with pytest.raises(UserError, match=r"A generator of own is tuned on 1 example\(s\) a class, but a batch takes"):
        main.run(Job.start(few, tmp_path / "run"))


def test_the_model_to_get_is_told_before_the_plan(own, tmp_path, caplog):
    (tmp_path / "other.csv").write_text("text,label\n" + "".join(f"Größe {i},{i % 2}\n" for i in range(30)))
    with caplog.at_level("INFO", "dawgen_jax"), pytest.raises(UserError, match="dawgen backbone fetch smollm2-135m-q4"):
        run.main(["configs/own_task.py", "--data", str(tmp_path / "other.csv"), "--out", str(tmp_path / "run")])
    assert not any("stage" in message or "label word" in message for message in caplog.messages)


def test_labels_that_the_vocabulary_does_not_know_are_told_of(own, tmp_path):
    path = tmp_path / "unknown.csv"
    path.write_text("text,label\n" + "".join(
        f"{text},{'grand' if 'happy' in text else 'dire'}\n" for text in TEXTS))
    unknown = dataclasses.replace(own, own=OwnTask(data=str(path)))
    with pytest.raises(UserError, match=r"the label word 'dire' of 'dire' has no usable token in .*; choose words "
                                        r"of one token each, for instance no yes\. Set own\.label_words"):
        main.run(Job.start(unknown, tmp_path / "run"), main.units_of(unknown))
    assert examine(inputs.read_task("own", unknown, generates=False), unknown).proposed == ("no", "yes")
    several = dataclasses.replace(own, own=OwnTask(data=str(path), label_words=("the dog", "sad boy")))
    (told,) = (warning for warning in examine(inputs.read_task("own", several, generates=False), several).warnings
               if "first tokens" in warning)
    assert told.endswith("by their first tokens: 'the dog' by 'the', 'sad boy' by 'sad'.")
    worded = dataclasses.replace(own, own=OwnTask(data=str(path), label_words=("no", "yes")))
    (told,) = (warning for warning in examine(inputs.read_task("own", worded, generates=True), worded).warnings
               if "phrases" in warning)
    assert told.startswith("The phrases of dire, grand are the same pieces to ")
    phrased = dataclasses.replace(worded, own=dataclasses.replace(
        worded.own, phrases=(("a sad boy :", "text :"), ("a happy boy :", "text :"))))
    found = examine(inputs.read_task("own", phrased, generates=True), phrased)
    assert not found.problems and not any("phrases" in warning for warning in found.warnings)


@pytest.fixture
def config_file(own, tmp_path):
    """A config file of the job without data."""
    bare = dataclasses.replace(own, own=dataclasses.replace(own.own, data=""))
    (tmp_path / "short.py").write_text("from dawgen_jax.config import *\nfrom dawgen_jax.config import DataConfig\n\n\n"
                                       f"def get_config():\n    return {bare!r}\n")
    return str(tmp_path / "short.py")


def test_check_task_shows_examples_words_counts_and_zero_shot_accuracy(config_file, data, capsys):
    check_task.main([config_file, "--data", str(data / "single.csv")])
    shown = capsys.readouterr().out
    for part in ("18 examples: glad 9, sad 9", "6 examples: glad 3, sad 3", "4 per class to tune on, 4 for dev",
                 "glad = 'glad' (token ", "example      sad, 7 tokens: a sad ", "<extra_id_0> </s>",
                 "zero-shot    accuracy", "on 24 examples (the largest class is 50.0 %)",
                 "60 samples per label are tried, from the label alone",
                 "The test set has 6 examples: at an accuracy of 75 % chance alone", "No errors; "):
        assert part in shown, part
    with pytest.raises(UserError, match=r"Set own\.label_words to one word per label"):
        check_task.main([config_file, f"--data={data / 'single.csv'}", "--own.label_words", "yes", "wonderful"])
    shown = capsys.readouterr().out
    assert "example      sad" in shown and "zero-shot    with glad sad: accuracy " in shown
    with pytest.raises(UserError, match=r"own\.data is empty"):
        check_task.main([config_file])


def test_evaluate_scores_a_file_and_needs_no_other(finished, config_file, data, capsys):
    prompt = str(next(finished.glob("cells/own-random0-Prompt_Tuning-13-*")) / "prompt.safetensors")
    evaluate.main([config_file, "--file", str(data / "single.csv"), "--prompt", prompt])
    assert "single.csv, with the prompt: accuracy " in (shown := capsys.readouterr().out) and "n = 24" in shown
    evaluate.main([config_file, "--data", str(data / "single.csv"), "--prompt", prompt])
    shown = capsys.readouterr().out
    (row,) = [row for row in read_rows(finished / "results.jsonl")
              if (row.method, row.seed, row.metric) == ("Prompt Tuning", 13, "accuracy")]
    assert f"own test, with the prompt: accuracy {100 * row.value:.2f}" in shown and "n = 6" in shown


def test_a_file_of_one_class_asks_for_the_task_of_the_prompt(tmp_path):
    (tmp_path / "one.csv").write_text("text,label\na boy runs .,x\nno boy runs .,x\n")
    with pytest.raises(UserError, match=r"1 labels \(x\).* name the file that it was tuned on with --data"):
        evaluate.filed_examples(load_config("own_task"), str(tmp_path / "one.csv"))


def test_evaluate_asks_for_no_train_split(config, tmp_path, capsys):
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / "validation.jsonl").write_text(
        '{"sentence1": "a boy runs .", "sentence2": "a boy moves .", "label": "entailment"}\n')
    asked = dataclasses.replace(config, tasks=("RTE",), data=dataclasses.replace(config.data, root=str(tmp_path)))
    evaluate.score(asked, evaluate.Arguments())
    assert "RTE validation, without a prompt: accuracy" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"RTE': no train split \(but: validation\); add train\.jsonl"):
        evaluate.score(asked, evaluate.Arguments(split="train"))
    with pytest.raises(UserError, match=r"--file x\.csv: needs a custom task, and Config\.tasks names none"):
        evaluate.score(asked, evaluate.Arguments(file="x.csv"))


def test_what_every_user_says_of_a_file_has_short_names():
    words = ["own_task", "--data", "a.csv", "--columns", "before", "after", "--label=verdict"]
    config = options.parse_config(words, "").config
    assert (config.own.data, config.own.columns, config.own.label) == ("a.csv", ("before", "after"), "verdict")


def test_the_config_that_ships_takes_a_file(data):
    config, out, _ = options.parse_config(["configs/own_task.py", "--data", str(data / "pairs.csv")], "")
    given = inputs.read_task("own", config, generates=True)
    assert (config.own.data, given.k, given.task.fields, out.name) == (
        str(data / "pairs.csv"), 4, ("sentence1", "sentence2"), "own_task")
    assert given.repeats and len(given.sentences) >= 1000
    with pytest.raises(UserError, match=r"own\.data = 'x\.csv': no task of this configuration reads it"):
        options.parse_config(["configs/mini.py", "--data", "x.csv"], "")
