"""Own tasks: columns and labels are found, one file is divided, and what is not clear is told with its place."""

import json
from collections import Counter

import pytest

from dawgen_jax.config import Config, OwnTask
from dawgen_jax.data.own import own_task, read_own, read_own_task
from dawgen_jax.data.pools import Example
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.pipeline.inputs import labelled_examples

HEADER = "id,review,label\n"


def reviews(number, labels=("good", "bad")):
    """Lines of ``number`` different reviews a class."""
    return "".join(f"{i},text {i} of {label},{label}\n" for i in range(number) for label in labels)


@pytest.fixture
def single(tmp_path):
    (tmp_path / "single.csv").write_text(HEADER + reviews(16))
    return str(tmp_path / "single.csv")


def write(tmp_path, text, name="own.csv"):
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def counts(examples):
    return dict(Counter(example.label for example in examples))


def test_sixteen_texts_per_class_give_six_shots_six_for_dev_and_four_to_test_on(single, caplog):
    caplog.set_level("INFO", "dawgen_jax")
    task, pools, k, columns = read_own(OwnTask(data=single), 0)
    assert (task.labels, task.label_words, task.fields, task.test_split) == (("bad", "good"),) * 2 + (("text",), "test")
    assert (k, columns) == (6, ("review",)) and not [one for one in caplog.records if one.levelname == "WARNING"]
    assert counts(pools.train) == {"bad": 12, "good": 12} and counts(pools.test) == {"bad": 4, "good": 4}
    assert not set(pools.train) & set(pools.test)
    assert all(example.sentence1 == "" and example.sentence2.startswith("text") for example in pools.train)
    assert "32 examples (bad 16, good 16); 8 are held out" in caplog.text
    assert "samples 6 per class to tune on and 6 for dev" in caplog.text
    assert read_own(OwnTask(data=single), 0).pools == pools


@pytest.mark.parametrize(("number", "k", "shots", "tested"), [(3, 0, 1, 1), (40, 0, 15, 10), (44, 0, 16, 11),
                                                             (400, 0, 16, 100), (16, 7, 7, 2), (33, 16, 16, 1)])
def test_as_many_shots_as_fit_at_most_16(tmp_path, number, k, shots, tested):
    found = read_own(OwnTask(data=write(tmp_path, HEADER + reviews(number))), k)
    assert found.k == shots and counts(found.pools.test) == {"bad": tested, "good": tested}
    assert min(counts(found.pools.train).values()) >= 2 * shots


@pytest.mark.parametrize(("number", "k", "message"), [
    (16, 16, r"class 'bad' has 16 different example\(s\), but data.k = 16 needs 33 of each class \(16 to tune on, 16 "
             r"for dev, 1 or more to test on\): lower data.k to 6 \(0 takes as many as fit\) or add examples or name"),
    (2, 0, r"class 'bad' has 2 different example\(s\), but data.k = 0 needs 3 of each class \(1 to tune on, 1 for "
           r"dev, 1 or more to test on\): add examples or name a test file"),
])
def test_too_few_examples_are_told_with_the_numbers(tmp_path, number, k, message):
    with pytest.raises(UserError, match=message):
        read_own(OwnTask(data=write(tmp_path, HEADER + reviews(number))), k)


def test_a_test_file_leaves_everything_else_to_sample_from(tmp_path, single, caplog):
    other = write(tmp_path, "review,label\nanother one,good\ntext 3 of bad,bad\n", "test.csv")
    found = read_own(OwnTask(data=single, test=other), 0)
    assert found.k == 7 and [example.sentence2 for example in found.pools.test] == ["another one", "text 3 of bad"]
    assert len(found.pools.train) == 31  # what is tested on is not tuned on
    assert "1 repeated row(s) are left out (1 of the train split are in another one)" in caplog.text
    with pytest.raises(UserError, match=r"test\.csv:2: label 'fine' is not a class of own; the classes are bad, good"):
        read_own(OwnTask(data=single, test=write(tmp_path, "review,label\nx,fine\n", "test.csv")), 0)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_kind_of_file(tmp_path, suffix):
    rows = [{"body": f"text {i}", "label": label} for i in range(4) for label in ("b", "a")]
    path = tmp_path / f"own{suffix}"
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        mark = "," if suffix == ".csv" else "\t"
        path.write_text(f"body{mark}label\n" + "".join(f"{row['body']}{mark}{row['label']}\n" for row in rows))
    found = read_own(OwnTask(data=str(path)), 0)
    assert found.columns == ("body",) and sorted(found.pools.train + found.pools.test) == sorted(
        Example("", row["body"], row["label"]) for row in rows)


@pytest.mark.parametrize(("header", "columns"), [
    ("premise,hypothesis,label", ("premise", "hypothesis")), ("label,text,author", ("text",)),
    ("frage,antwort,label", ("frage", "antwort")), ("idx,kritik,label", ("kritik",)),
    ("sentence1,other,sentence2,label", ("sentence1", "sentence2")), ("sentence,gold_label", ("sentence",)),
])
def test_columns_are_found(tmp_path, header, columns):
    names = header.split(",")
    lines = [",".join(label if "label" in name else f"{name} {i}" for name in names) for i in range(6)
             for label in ("a", "b")]
    found = read_own(OwnTask(data=write(tmp_path, "\n".join([header, *lines]))), 0)
    assert found.columns == columns and len(found.task.fields) == len(columns)
    texts = [f"{name} 0" for name in columns]
    assert Example(*["", *texts][-2:], "a") in found.pools.train + found.pools.test


@pytest.mark.parametrize(("text", "own", "message"), [
    ("a,b,c,label\nx,y,z,l\n", {}, r"own\.csv:2: which columns hold the texts is not clear \(columns there: a, b, c"),
    ("text,stars\nx,1\n", {}, r"no field 'label' \(fields there: text, stars\); .* or --label \(own\.col"),
    ("text,stars\nx,1\n", {"label": "star"}, r"no field 'star' \(fields there: text, stars\)"),
    ("text,label\nx,a\n", {"columns": ("body",)}, r"own\.csv:2: no field 'body' \(fields there: text, label\)"),
    ("text,label\nx,a\n ,b\n", {}, r"own\.csv:3: field 'text' is empty"),
    ("text,label\nx,a\ny,a\n", {}, r"1 labels \(a\), but a task has 2 to 100 classes"),
    ("text,label\nx,a\ny,A\nz,b\n", {}, r"labels differ by nothing but case, spaces or Unicode form \(A, a, b\)"),
    ("text,label\n", {}, r"own\.csv: holds no row"),
    ("text,label\n" + "".join(f"x {i},{i}\n" for i in range(101)), {}, r"101 labels \(.*name another column"),
    ("text,label\nx,a\ny,c\n", {"labels": ("a", "b")}, r"own\.csv:3: label 'c' is not a class of own; the classes are"),
])
def test_what_is_not_clear_is_told_with_its_place(tmp_path, text, own, message):
    with pytest.raises(UserError, match=message):
        read_own(OwnTask(data=write(tmp_path, text), **own), 0)


def test_long_names_and_labels_of_other_kinds_are_told_in_a_short_sentence(tmp_path):
    long = "x" * 100_000
    for text, own in ((f"{long},text\na,b\n", {}), (f"{long},b,c,label\na,b,c,d\n", {}),
                      ("text,label\na,b\n", {"label": long}), (f"text,label\na,{long}\n", {}),
                      (f"text,label\na,{long}\na,{long.upper()}\n", {}),
                      ("text,label\na,b\na,c\n", {"labels": ("b", "x" * 50)})):
        with pytest.raises(UserError) as caught:
            read_own(OwnTask(data=write(tmp_path, text), **own), 0)
        assert len(str(caught.value)) < 700
    for name in ("9" * 5000, "b\0", "\x1b[31mb"):
        with pytest.raises(UserError, match="is not the name of a class, which has at most 100 printable characters"):
            read_own(OwnTask(data=write(tmp_path, HEADER + reviews(4, ("a", name)))), 0)
    for label in ([1], {"a": "b"}, []):
        rows = [{"text": f"x {i}", "label": value} for i, value in enumerate(["a", "b", label] * 4)]
        path = write(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "own.jsonl")
        with pytest.raises(UserError, match=r"own\.jsonl:3: field 'label' is .*; it must be text or a number"):
            read_own(OwnTask(data=path), 0)


def test_no_data_and_data_that_no_task_reads():
    with pytest.raises(UserError, match=r"own\.data is empty: name the file .*--data FILE\.csv"):
        read_own_task(OwnTask())
    with pytest.raises(ConfigError, match=r"own\.data = '1{55}\.\.\. \(3002 characters\): no task of this"):
        Config(own=OwnTask(data="1" * 3000))
    with pytest.raises(ConfigError, match=r"own\.data = 'x\.csv': no task of this configuration reads it"):
        Config(own=OwnTask(data="x.csv"))


def test_the_hub_that_gives_nothing_is_told_of_the_field_that_named_it(monkeypatch):
    import datasets

    def load(*args, **kwargs):
        raise ConnectionError("Couldn't reach it")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError, match=r"^own\.data = 'hub:me/mine': the hub did not give me/mine \(Couldn't reach it"
                       r"\); check the name and the network, or name a local file or folder there\.$"):
        read_own(OwnTask(data="hub:me/mine"), 0)
    with pytest.raises(UserError, match=r"^own\.data = 'hub:' has no default for own; write 'hub:NAME'"):
        read_own(OwnTask(data="hub:"), 0)


def test_repeated_rows_and_texts_with_two_labels_are_counted(tmp_path, caplog):
    text = HEADER + reviews(6) + "7,text 0 of good,good\n8,text 1 of good,bad\n"
    found = read_own(OwnTask(data=write(tmp_path, text)), 0)
    assert len(found.pools.train) + len(found.pools.test) == 13
    assert "1 repeated row(s) are left out" in caplog.text
    assert "1 text(s) have two labels, for instance 'text 1 of good'." in caplog.text


def test_labels_are_numbers_in_order_or_what_the_file_calls_its_integers(tmp_path):
    numbers = "text,label\n" + "".join(f"x {i},{label}\n" for i in range(4) for label in (10, 2, "1.0", -1))
    assert read_own_task(OwnTask(data=write(tmp_path, numbers))).labels == ("1", "2", "10")
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    rows = {"text": [f"x {i}" for i in range(8)], "label": [0, 1] * 4}
    data = datasets.Dataset.from_dict(rows, features=features)
    data.to_parquet(tmp_path / "named.parquet")
    datasets.DatasetDict({"train": data, "test": data.select(range(2))}).save_to_disk(tmp_path / "saved")
    assert read_own_task(OwnTask(data=str(tmp_path / "named.parquet"))).labels == ("neg", "pos")
    found = read_own(OwnTask(data=str(tmp_path / "saved")), 0)
    assert found.task.labels == ("neg", "pos") and len(found.pools.test) == 2


def test_a_folder_with_splits(tmp_path):
    write(tmp_path, HEADER + reviews(6), "train.csv")
    write(tmp_path, HEADER + "1,t,good\n", "dev.csv")
    found = read_own(OwnTask(data=str(tmp_path)), 0)
    assert found.k == 3 and [example.sentence2 for example in found.pools.test] == ["t"]
    (tmp_path / "train.csv").unlink()
    with pytest.raises(UserError, match=r"own\.data = '.*': no train split \(but: validation\); add train\.jsonl"):
        read_own(OwnTask(data=str(tmp_path)), 0)


def test_a_template_may_name_the_columns_and_defaults_are_filled_in():
    own = OwnTask(template="{review} It was <mask>.", label_words=("terrible", "great"), positive="good")
    task = own_task(own, ("very_bad", "good"), ("review",))
    assert task.template == "{text} It was <mask>." and task.label_words == ("terrible", "great")
    assert task.phrases == (("very bad :", "text :"), ("good :", "text :")) and task.positive == "good"
    pair = own_task(OwnTask(template="{q}? <mask>, {a}"), ("x", "y"), ("q", "a"))
    assert (pair.template, pair.fields, pair.bare) == ("{sentence1}? <mask>, {sentence2}",
                                                       ("sentence1", "sentence2"), "{sentence1} {sentence2}")
    with pytest.raises(ConfigError, match=r"Task\.template = "):
        own_task(OwnTask(template="{other} <mask>"), ("x", "y"), ("review",))


def test_tabs_with_quotes_of_a_spreadsheet_are_refused_where_only_some_rows_have_them(tmp_path):
    text = "id\treview\tlabel\n" + reviews(6).replace(",", "\t")
    plain = OwnTask(data=write(tmp_path, text, "own.tsv"))
    task = read_own_task(plain)
    quoted = write(tmp_path, text.replace("text 3 of good", '"say ""no"" to it"'), "quoted.tsv")
    for read in (lambda: read_own(OwnTask(data=quoted), 0), lambda: labelled_examples(quoted, task)):
        with pytest.raises(UserError, match=r"quoted\.tsv:8: a value is in quotes and has doubled quotes inside, but"):
            read()
    text = text.replace("text 3 of good", '"no" is "no"')  # quotes of a text, not of a program
    assert read_own_task(OwnTask(data=write(tmp_path, text, "own.tsv"))) == task


def test_another_file_of_the_task(tmp_path, single):
    own = OwnTask(data=single)
    task = read_own_task(own)
    more = write(tmp_path, "review,label\nx,GOOD\n", "more.csv")
    assert labelled_examples(more, task) == [Example("", "x", "good")]
    pairs = write(tmp_path, "premise,hypothesis,label\nx,y,good\n", "pairs.csv")
    with pytest.raises(UserError, match=r"not clear \(columns there: premise, hypothesis, label\); name the text's"):
        labelled_examples(pairs, task)
    with pytest.raises(UserError, match=r"2 column\(s\) of texts \(premise, hypothesis\), but the task has 1; name as"):
        labelled_examples(pairs, task, ("premise", "hypothesis"))
