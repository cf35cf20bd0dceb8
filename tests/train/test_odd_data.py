"""Data files as other people write them, through the programs: nothing that is given is dropped without a word."""

import csv
import dataclasses
import json
import re
import shutil
import unicodedata

import numpy as np
import pytest

from dawgen_jax import Classifier, Task, UserError, load_backbone
from dawgen_jax.cli import check as check_task
from dawgen_jax.cli import evaluate, predict, quality, run
from dawgen_jax.config import Config, DataConfig
from dawgen_jax.data.batches import class_balanced
from dawgen_jax.pipeline.inputs import read_task

OWN = "configs/own_task.py"
WHO = ("boy", "girl", "dog", "cat", "man", "woman")
TEXTS = [f"a {who} {does} ." for does in ("runs", "sits", "sleeps") for who in WHO]
LABELS = ("happy", "sad")  # which mini-t5 knows


def table(path, header, rows):
    """Write a .csv file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def reviews(path, texts=TEXTS, labels=LABELS):
    """A file of single texts, with labels in turn."""
    return table(path, ("review", "label"), [(text, labels[i % len(labels)]) for i, text in enumerate(texts)])


def pairs(path, rows):
    return table(path, ("sentence1", "sentence2", "label"), rows)


@pytest.fixture
def check(monkeypatch, capsys, caplog):
    """Run check_task on a custom task without the backbone's scores; returns all that it says."""
    monkeypatch.setattr(check_task, "zero_shot", lambda *_: "")

    def checked(data, *words):
        caplog.clear()
        with caplog.at_level("INFO", "dawgen_jax"):
            check_task.main([OWN, "--arms", "Prompt Tuning", "--data", str(data), *map(str, words)])
        return "".join(capsys.readouterr()) + caplog.text

    return checked


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """A classifier of single texts that nothing was tuned for; its rows have at most 20 tokens."""
    folder = tmp_path_factory.mktemp("cell")
    task = Task("reviews", LABELS, "{text} it is <mask> .", LABELS, (("", ""),) * 2, (1.0, 1.0))
    made = Classifier(load_backbone("mini-t5", devices=1), task)
    dataclasses.replace(made, config=dataclasses.replace(made.config, max_tokens=20, eval_batch_size=8)).save(folder)
    return str(folder)


# What is given and not used is counted.


@pytest.mark.parametrize(("texts", "label"), [(TEXTS[:6], ""), (TEXTS[:6], "-1"), ([], "")])
def test_a_test_file_without_labels_is_an_error(check, tmp_path, texts, label):
    with pytest.raises(UserError, match=r"given\.csv: (none of its 6 rows has a label|holds no row)"):
        check(reviews(tmp_path / "train.csv"), "--own.test", reviews(tmp_path / "given.csv", texts, [label]))


def test_rows_without_a_label_are_counted(check, tmp_path):
    data = reviews(tmp_path / "train.csv", [f"{text} {i}" for i in (1, 2) for text in TEXTS], (*LABELS, ""))
    assert "12 of 36 rows have no label" in check(data)


def test_a_test_split_without_labels_is_counted(check, tmp_path):
    reviews(tmp_path / "train.csv")
    reviews(tmp_path / "dev.csv", ["a boy makes noise .", "no girl sings ."])
    reviews(tmp_path / "test.csv", ["a dog sings .", "a cat sings ."], [""])
    said = check(tmp_path)
    assert re.search(r"test\.csv: 2 of 2 rows have no label", said) and "validation split are the test set" in said


def test_splits_that_are_not_used_are_reported(check, tmp_path):
    reviews(tmp_path / "train.csv")
    for name, text in (("dev", "a boy makes noise ."), ("test", "no girl sings .")):
        reviews(tmp_path / f"{name}.csv", [text])
    assert "1 of its validation split are not used" in check(tmp_path)
    assert "its test split is not used" in check(tmp_path, "--own.test", reviews(tmp_path / "other.csv", ["a boy ."]))


def test_evaluation_counts_rows_without_a_label(cell, tmp_path, capsys, caplog):
    evaluate.main([cell, "--file", reviews(tmp_path / "file.csv", TEXTS[:4], ("happy", ""))])
    assert "2 of 4 rows have no label" in "".join(capsys.readouterr()) + caplog.text


@pytest.mark.parametrize("option", ["--heldout", "--test"])
def test_real_pairs_without_labels_are_not_taken_for_none(tmp_path, option):
    rows = [(f"a {who} runs .", f"a {who} moves .", "entailment") for who in WHO]
    made, none = pairs(tmp_path / "made.csv", rows), pairs(tmp_path / "none.csv", [(*row[:2], "-") for row in rows])
    with pytest.raises(UserError, match=r"none\.csv: none of its 6 rows has a label"):
        quality.main([made, "--task", "mini-snli", "--real", made, option, none])


def test_unlabelled_rows_of_a_known_task_are_counted(tmp_path, caplog):
    rows = [(f"a {who} runs .", f"a {who} moves .", label) for who in WHO for label in ("entailment", "not_entailment")]
    pairs(tmp_path / "RTE/train.csv", rows)
    pairs(tmp_path / "RTE/dev.csv", [(f"a {who} sits .", "a girl .", "-1" if i % 3 else 0) for i, who in
                                     enumerate(WHO)])
    config = Config(tasks=("RTE",), data=DataConfig(root=str(tmp_path), k=2), seeds=(13,))
    assert len(read_task("RTE", config, generates=False).test) == 2
    assert re.search(r"dev\.csv: 4 of 6 rows have no label", caplog.text)


# A column is used as a text only if it can be one, and the columns that are used are printed.


def test_the_index_of_a_pandas_table_is_no_text(check, tmp_path):
    import pandas

    frame = pandas.DataFrame({"words": TEXTS, "label": LABELS * 9})[2:]
    for index in (frame.index, [f"row number {i}" for i in frame.index]):
        frame.index = index
        frame.to_parquet(tmp_path / "a.parquet")
        said = check(tmp_path / "a.parquet")
        assert "template     {text} <mask>" in said and "texts from 'words'" in said


@pytest.mark.parametrize("other", [
    range(7, 25), [f"{i}.5" for i in range(18)], [f"2024-01-{i:02}" for i in range(10, 28)],
    [f"2024-01-{i:02}T10:00:00Z" for i in range(10, 28)], [f"March {i}, 2024" for i in range(10, 28)],
    [f"r-{i}" for i in range(18)], ["en"] * 18, ["glad", "not glad"] * 9, ["glad", "not glad", "merry", "not glad"] * 5,
    [""] * 18])
def test_a_column_that_holds_no_texts_is_not_used_as_one(check, tmp_path, other):
    rows = list(zip(other, TEXTS, LABELS * 9, strict=False))
    for header in (("other", "words", "label"), ("text", "words", "label")):
        said = check(table(tmp_path / "a.csv", header, rows))
        assert "template     {text} <mask>" in said  # a single text
        assert f"texts from '{header[1]}', labels from 'label'; not used: {header[0]}" in said


def test_columns_of_a_pair_are_printed_and_what_is_not_clear_is_asked(check, tmp_path):
    rows = [(text, text.replace("a ", "the "), f"{text} !", LABELS[i % 2]) for i, text in enumerate(TEXTS)]
    said = check(table(tmp_path / "a.csv", ("frage", "antwort", "label"), [(row[0], *row[2:]) for row in rows]))
    assert "texts from 'frage' and 'antwort'" in said
    data = table(tmp_path / "b.csv", ("day", "a", "b", "c", "label"), [(i, *row) for i, row in enumerate(rows)])
    with pytest.raises(UserError, match=r"not clear \(columns there: day \(numbers\), a, b, c, label\).* --columns"):
        check(data)
    assert "texts from 'b'" in check(data, "--columns", "b")


def test_names_of_columns_may_differ_in_form(check, tmp_path):
    rows = list(zip(TEXTS, LABELS * 9, strict=True))
    data = table(tmp_path / "a.csv", (unicodedata.normalize("NFD", "Café "), " Label"), rows)
    assert "labels from ' Label'" in check(data)
    assert "1 per class" in check(data, "--columns", unicodedata.normalize("NFC", "café"), "--data.k", 1)


def test_predictions_print_their_columns(cell, tmp_path, capsys, caplog):
    with caplog.at_level("INFO", "dawgen_jax"):
        predict.main([cell, table(tmp_path / "a.csv", ("day", "text"), [(1, "a boy runs .")])])
    assert "texts from 'text'; not used: day" in caplog.text


# Texts and labels are compared in one form.


def test_texts_of_train_and_test_are_compared_in_one_form(check, tmp_path):
    texts = [f"{text} é {i}" for i, text in enumerate(TEXTS * 2)]
    forms = (str.upper, lambda text: text.replace(" ", "  "), lambda text: unicodedata.normalize("NFD", text))
    tested = [forms[i % 3](text) for i, text in enumerate(texts[:12])] + ["no boy .", "no girl .", "no dog ."]
    test = reviews(tmp_path / "test.csv", tested)
    said = check(reviews(tmp_path / "train.csv", texts), "--own.test", test)
    assert "12 repeated row(s) are left out (12 of the train split are in another one)" in said
    assert "pool         24 examples" in said and "test         15 examples" in said


def test_repeats_in_one_file_are_compared_in_one_form(check, tmp_path):
    said = check(reviews(tmp_path / "a.csv", [*TEXTS, TEXTS[0].upper(), TEXTS[0].replace(" ", "  ")]))
    assert "1 repeated row(s) are left out" in said and "1 text(s) have two labels" in said


def test_labels_of_two_unicode_forms_are_one_class(check, tmp_path):
    labels = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    said = check(reviews(tmp_path / "a.csv", labels=(labels[0], "sad", labels[1], "sad")),
                 "--own.label-words", "happy", "sad", "--own.positive", labels[1])
    assert re.search(r"18 examples \(café 9, sad 9\)", said)
    said = check(reviews(tmp_path / "a.csv", labels=(labels[0], "sad")), "--own.labels", labels[1], "sad",
                 "--own.label-words", "happy", "sad")
    assert re.search(r"18 examples \(\S+ 9, sad 9\)", said)


@pytest.fixture
def known(tmp_path):
    """RTE in a folder: a pool of 24, whose first 8 pairs are the test set too, in other forms."""
    rows = [(f"a {who} runs {i} .", f"A {who} moves .", label) for i in (1, 2) for who in WHO
            for label in ("entailment", "not_entailment")]
    rows = [(one, f"{two} {i}", label) for i, (one, two, label) in enumerate(rows)]
    pairs(tmp_path / "RTE/train.csv", rows)
    pairs(tmp_path / "RTE/dev.csv", [(one.upper(), two.replace(" ", "  "), label) for one, two, label in rows[:8]]
          + [("no", "yes", "entailment")])
    return tmp_path, rows


def test_overlap_of_a_known_task_is_counted(known, caplog):
    config = Config(tasks=("RTE",), data=DataConfig(root=str(known[0]), k=2), seeds=(13,))
    read_task("RTE", config, generates=False)
    assert "RTE: 8 of 9 test examples have the texts of a training example" in caplog.text


def test_shots_and_dev_examples_are_compared_in_one_form(known):
    folder, rows = known
    twice = [(one.upper(), two, label) for one, two, label in rows]
    pairs(folder / "RTE/train.csv", [row for both in zip(rows, twice, strict=True) for row in both])
    for seed in range(5):
        config = Config(tasks=("RTE",), data=DataConfig(root=str(folder), k=6), seeds=(seed,))
        given = read_task("RTE", config, generates=False)
        texts = [one.sentence1.casefold() + one.sentence2 for one in given.splits[seed].train + given.splits[seed].dev]
        assert len(set(texts)) == 24
        assert len(given.full[seed].train) == 24  # the pool without the dev set in any form


def test_fixed_splits_are_compared_in_one_form(known):
    folder, rows = known
    split = folder / "kshot/RTE/1-13"
    split.mkdir(parents=True)
    for name, texts in (("train", rows[:2]), ("dev", [(rows[0][0].upper(), *rows[0][1:]), rows[3]])):
        (split / f"{name}.jsonl").write_text("".join(
            json.dumps(dict(zip(("sentence1", "sentence2", "label"), row, strict=True))) + "\n" for row in texts))
    config = Config(tasks=("RTE",), data=DataConfig(root=str(folder), kshot=str(folder / "kshot"), k=1), seeds=(13,))
    with pytest.raises(UserError, match=r"dev\.jsonl:1: repeats the example of .*train\.jsonl:1"):
        read_task("RTE", config, generates=False)


# Texts that are cut, and empty ones.


def test_predictions_count_texts_that_are_cut_or_empty(cell, tmp_path, capsys, caplog):
    texts = ["a boy runs . " * 200, "a girl runs .", " ", "a dog runs . " * 5]
    predict.main([cell, table(tmp_path / "a.csv", ("text",), [(text,) for text in texts])])
    assert "2 of 4 examples are longer than classifier.max_tokens = 20 tokens (up to 805)" in caplog.text
    assert "1 of 4 examples have an empty text" in caplog.text
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_scores_count_texts_that_are_cut(cell, tmp_path, caplog):
    evaluate.main([cell, "--file", reviews(tmp_path / "a.csv", ["a boy runs . " * 200, *TEXTS[:3]])])
    assert "1 of 4 examples are longer than classifier.max_tokens = 20" in caplog.text


@pytest.mark.parametrize(("column", "row"), [("frage", 0), ("antwort", 1)])
def test_both_texts_of_a_pair_must_be_there(check, tmp_path, column, row):
    rows = [[text, f"{text} !", label] for text, label in zip(TEXTS, LABELS * 9, strict=True)]
    rows[4][row] = " "
    with pytest.raises(UserError, match=rf"a\.csv:6: field '{column}' is empty"):
        check(table(tmp_path / "a.csv", ("frage", "antwort", "label"), rows))


def test_empty_texts_of_a_known_task_are_counted(known, caplog):
    pairs(known[0] / "RTE/dev.csv", [("", "a", "entailment"), ("b", "", "entailment"), ("c", "d", "entailment")])
    read_task("RTE", Config(tasks=("RTE",), data=DataConfig(root=str(known[0]), k=2), seeds=(13,)), generates=False)
    assert re.search(r"dev\.csv: 2 of 3 rows have an empty text", caplog.text)


# Paths, sizes and characters.

ODD = ("[16-shot]", "a*b", "a?b", "{a,b}", "100%", "a#b", "k=16", "two words", "[!a]")


@pytest.mark.parametrize("name", ODD)
def test_paths_are_never_patterns(check, known, tmp_path, name):
    import datasets

    folder = tmp_path / name
    data = datasets.Dataset.from_dict({"review": TEXTS, "label": list(LABELS) * 9})
    (folder / "hub/data").mkdir(parents=True)
    data.to_parquet(folder / "hub/data/train-00000-of-00001.parquet")
    data.to_parquet(folder / "a.parquet")
    datasets.DatasetDict({"train": data}).save_to_disk(folder / "saved")
    reviews(folder / "split/train.csv")
    # What a pattern would match in place of the folder, or besides it.
    for other in ("1", "axb", "a", "b", "16-shot", "[16-shot"):
        (tmp_path / other / "hub/data").mkdir(parents=True)
        wrong = datasets.Dataset.from_dict({"review": ["one .", "two ."], "label": list(LABELS)})
        wrong.to_parquet(tmp_path / other / "hub/data/train-00000-of-00001.parquet")
    for place in ("hub", "saved", "split", "a.parquet"):
        said = check(folder / place)
        assert "18 examples (happy 9, sad 9)" in said and "not used" not in said
    shutil.copytree(known[0] / "RTE", folder / "RTE")
    (folder / "first.txt").write_text("\n".join(f"{who} {does} " + "a " * 20 for who in WHO for does in "xyz"))
    data = DataConfig(root=str(folder), corpus=str(folder / "first.txt"), k=2)
    config = Config(tasks=("RTE",), data=data, seeds=(1,))
    assert len(read_task("RTE", config, generates=True).sentences) == 18


def test_a_run_may_be_in_any_folder(tmp_path, monkeypatch):
    data = reviews(tmp_path / "[a b]/k=1 {100%}.csv")
    out = tmp_path / "[out] 50% #1"
    run.main([OWN, "--data", data, "--arms", "Prompting (zero-shot)", "--seeds", "13", "--out", str(out), "--quiet"])
    assert len((out / "results.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_long_text_is_read(check, tmp_path, kind):
    texts = ["a boy runs . " * 11_000, *TEXTS[1:]]
    assert len(texts[0]) == 143_000
    path = tmp_path / f"a.{kind}"
    rows = list(zip(texts, LABELS * 9, strict=True))
    if kind == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(("review", "label"), row, strict=True))) + "\n" for row in rows))
    else:
        mark = "," if kind == "csv" else "\t"
        path.write_text("".join(mark.join(row) + "\n" for row in [("review", "label"), *rows]))
    assert "1 of 18 examples in the template are longer" in check(path)


@pytest.mark.parametrize("label", ["می\u200cخواهم", "👩\u200d🔬"])
def test_labels_may_have_joiners(check, tmp_path, label):
    data = reviews(tmp_path / "a.csv", labels=(label, "sad"))
    for words in ((), ("--own.labels", label, "sad")):
        assert f"{label} 9" in check(data, "--own.label-words", *(LABELS if words else LABELS[::-1]), *words)


# Advice stays in its own range.


def test_advice_for_a_class_without_examples(check, tmp_path):
    data = reviews(tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"class 'calm' has 0 different example\(s\)") as caught:
        check(data, "--own.labels", "happy", "sad", "calm")
    assert "lower data.k" not in str(caught.value) and "leave 'calm' out of own.labels" in str(caught.value)
    with pytest.raises(UserError, match=r"lower data\.k to 3 \(0") as caught:
        check(data, "--data.k", 16)
    assert "3 per class" in check(data, "--data.k", 3)


def test_advice_for_a_known_task_with_few_examples(known):
    folder, rows = known

    def read(pool, k):
        pairs(folder / "RTE/train.csv", pool)
        return read_task("RTE", Config(tasks=("RTE",), data=DataConfig(root=str(folder), k=k), seeds=(13,)),
                         generates=False)

    for pool, advice in ((rows[:7], "lower data.k to 1 or add"), (rows[:3], ": add examples")):
        with pytest.raises(UserError, match=rf"of RTE has .*{re.escape(advice)}"):
            read(pool, 4)
    assert read(rows[:7], 1).k == 1


def test_advice_on_a_known_task_names_no_field_of_custom_tasks(monkeypatch, capsys):
    monkeypatch.setattr(check_task, "zero_shot", lambda *_: "")
    check_task.main(["configs/mini.py", "--tasks", "mini-rte", "--data.max_test", "30", "--arms", "Prompt Tuning"])
    said = capsys.readouterr().out
    assert "The test set has 30 examples" in said and "own." not in said and "No errors; 1 warning." in said


def test_check_says_that_nothing_is_wrong_only_without_a_warning(monkeypatch, capsys):
    monkeypatch.setattr(check_task, "zero_shot", lambda *_: "")
    check_task.main(["configs/mini.py", "--tasks", "mini-mrpc", "--arms", "Prompt Tuning"])
    said = capsys.readouterr().out
    assert said.endswith("Nothing is wrong.\n") and "warning" not in said


def test_advice_on_small_classes_is_possible():
    for number, advice in ((1, "raise data.k."), (2, "raise data.k or lower generator.examples_per_label to 2.")):
        with pytest.raises(UserError, match=f": {re.escape(advice)}$"):
            class_balanced(np.array([0] * number + [1] * 4), 3, 13, 0)
