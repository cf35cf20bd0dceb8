"""Pools: every kind of file gives the same pairs, aliases and integers are understood, mistakes are named."""

import gzip
import json

import pytest

from dawgen_jax.config import digest
from dawgen_jax.data.fewshot import few_shot, read_split
from dawgen_jax.data.pools import Example, load_pools, read_examples
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import SEVEN

MNLI = SEVEN["MNLI"]
PAIRS = [
    Example("A dog runs.", 'It said "no, never".', "entailment"),
    Example("Ein Hund läuft, bellt.", "x", "neutral"),
    Example("a", "b", "contradiction"),
]


def jsonl(pairs, keys=("sentence1", "sentence2", "label")):
    return "".join(json.dumps(dict(zip(keys, pair, strict=True))) + "\n" for pair in pairs)


def separated(pairs, mark, quote):
    rows = [("id", "sentence1", "sentence2", "label"), *(("7", *pair) for pair in pairs)]
    return "".join(mark.join(quote(value) for value in row) + "\n" for row in rows)


def write_parquet(path, columns, metadata=None):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), path)


def columns(pairs):
    return dict(zip(("sentence1", "sentence2", "label"), map(list, zip(*pairs, strict=True)), strict=True))


@pytest.fixture
def files(tmp_path):
    """The same pairs in every kind of file."""
    texts = {
        ".jsonl": jsonl(PAIRS),
        ".csv": separated(PAIRS, ",", lambda value: '"' + value.replace('"', '""') + '"'),
        ".tsv": separated(PAIRS, "\t", str),
    }
    for suffix, text in texts.items():
        (tmp_path / f"a{suffix}").write_text(text, encoding="utf-8")
        (tmp_path / f"a{suffix}.gz").write_bytes(gzip.compress(text.encode()))
    write_parquet(tmp_path / "a.parquet", columns(PAIRS))
    return tmp_path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".jsonl.gz", ".csv.gz", ".tsv.gz", ".parquet"])
def test_every_kind_of_file(files, suffix):
    assert read_examples(files / f"a{suffix}", MNLI) == PAIRS


@pytest.mark.parametrize("keys", [
    ("premise", "hypothesis", "label"), ("question1", "question2", "is_duplicate"), ("question", "sentence", "label"),
    ("sentence_A", "sentence_B", "entailment_judgment"), ("#1 String", "#2 String", "Quality"),
    ("sentence1", "sentence2", "gold_label"),
])
def test_field_names_of_the_originals(tmp_path, keys):
    (tmp_path / "a.jsonl").write_text(jsonl(PAIRS, keys))
    assert read_examples(tmp_path / "a.jsonl", MNLI) == PAIRS


@pytest.mark.parametrize(("task", "names"), [
    ("MNLI", ["entailment", "neutral", "contradiction"]), ("SNLI", ["entailment", "neutral", "contradiction"]),
    ("SICK", ["entailment", "neutral", "contradiction"]), ("RTE", ["entailment", "not_entailment"]),
    ("QNLI", ["entailment", "not_entailment"]), ("MRPC", ["not_equivalent", "equivalent"]),
    ("QQP", ["not_duplicate", "duplicate"]),
])
def test_integers_are_in_the_order_of_the_hub(tmp_path, task, names):
    pairs = [("a", "b", value) for value in (*range(len(names)), "0", 1.0, -1)]
    (tmp_path / "a.jsonl").write_text(jsonl(pairs))
    assert [e.label for e in read_examples(tmp_path / "a.jsonl", SEVEN[task])] == [*names, names[0], names[1]]


def test_case_of_labels_and_pairs_without_gold_label(tmp_path):
    (tmp_path / "a.jsonl").write_text(jsonl([("a", "b", "NEUTRAL"), ("a", "b", "-"), ("a", "b", "-1")]))
    assert read_examples(tmp_path / "a.jsonl", MNLI) == [Example("a", "b", "neutral")]


def test_parquet_integers_go_by_the_names_stored_beside_them(tmp_path):
    names = ["contradiction", "entailment", "neutral"]
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    write_parquet(tmp_path / "a.parquet", columns([("a", "b", 0), ("a", "b", 2)]),
                  {"huggingface": json.dumps({"info": {"features": features}})})
    assert [e.label for e in read_examples(tmp_path / "a.parquet", MNLI)] == ["contradiction", "neutral"]


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.jsonl", jsonl([*PAIRS, ("a", "b", "maybe")]),
     r"a\.jsonl:4: label 'maybe' is not a class of MNLI; the classes are entailment, neutral, contradiction"),
    ("a.jsonl", jsonl([("a", "b", 3)]), r"a\.jsonl:1: label '3' is not a class"),
    ("a.jsonl", jsonl([("a", "b", True)]), r"a\.jsonl:1: label 'True' is not a class"),
    ("a.jsonl", '{"sentence1": "a", "label": "neutral"}\n',
     r"a\.jsonl:1: no field 'sentence2' \(fields there: sentence1, label\); it may also .*; rename a column\."),
    ("a.jsonl", '{"sentence1": "a", "sentence2": "b"}\n', r"a\.jsonl:1: no field 'label'"),
    ("a.jsonl", jsonl([("a", None, "neutral")]), r"a\.jsonl:1: field 'sentence2' is None; it must be text"),
    ("a.jsonl", jsonl(PAIRS) + '{"sentence1": "a', r"a\.jsonl:4: not JSON"),
    ("a.csv", "sentence1,sentence2,label\na,b,neutral\na,b\n", r"a\.csv:3: 2 values, but the header names 3"),
    ("a.csv", 'sentence1,sentence2,label\na,"b" c,neutral\n', r"a\.csv:2: .*fix the line"),
    ("a.csv", 'sentence1,sentence2,label\na,"b,neutral\nc,d,neutral\n', r"a\.csv:3: .*fix the line"),
    ("a.tsv", "sentence1\tsentence2\tlabel\na\tb\tc\tneutral\n", r"a\.tsv:2: 4 values"),
    ("a.parquet", "no parquet", r"a\.parquet: not a parquet file"),
    ("a.jsonl", jsonl([("a", "b", "1" * 5000)]), r"a\.jsonl:1: label '1+\.\.\. \(5002 characters\) is not a class"),
    ("a.jsonl", jsonl([("a", "b", "\u0661")]), "label '\u0661' is not a class"),
    ("a.jsonl", '{"sentence1": "a", "sentence2": "b", "label": 0, "gold_label": "neutral"}\n',
     r"a\.jsonl:1: fields 'label' and 'gold_label' disagree \('entailment' and 'neutral'\); keep one"),
    ("a.jsonl", '{"sentence1": "a", "premise": "c", "sentence2": "b", "label": 0}\n',
     "'sentence1' and 'premise' disagree"),
    ("a.csv", "sentence1,sentence2,label,label\na,b,0,1\n", r"a\.csv:1: the header names 'label' twice"),
    ("a.tsv", 'sentence1\tsentence2\tlabel\n"a"\t"b"\t0\n"c"\t"d"\t1\n', 
     r"a\.tsv:2: 2 of 2 rows have a value in quotes, but \.tsv files are read without quoting; save the file as \.csv"),
    ("a.tsv", 'sentence1\tsentence2\tlabel\nx\ty\t1\n"a"\tb\t0\n"c ""d"""\td\t1\n',
     r"a\.tsv:3: 2 of 3 rows have a value in quotes"),
    ("a.pkl", "", r"a\.pkl: unknown type of file; known are \.jsonl"),
])
def test_mistakes_name_file_and_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_examples(tmp_path / name, MNLI)
    assert str(tmp_path) in str(caught.value)


def test_parquet_mistakes_name_the_row(tmp_path):
    write_parquet(tmp_path / "a.parquet", columns([("a", "b", "neutral"), ("a", "b", "odd")]))
    with pytest.raises(UserError, match=r"a\.parquet, row 2: label 'odd'"):
        read_examples(tmp_path / "a.parquet", MNLI)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "MNLI").mkdir()
    (tmp_path / "MNLI" / "train.jsonl").write_text(jsonl(PAIRS))
    (tmp_path / "MNLI" / "dev_matched.tsv").write_text(separated(PAIRS[:2], "\t", str))
    return tmp_path


def test_folder_of_splits(folder):
    pools = load_pools(MNLI, str(folder))
    assert (pools.train, pools.validation, pools.test) == (PAIRS, PAIRS[:2], [])
    assert pools.scored(MNLI) == PAIRS[:2] and pools.source == str(folder)


def test_folder_mistakes(folder):
    with pytest.raises(UserError, match=r"SNLI: no such folder; data\.root must hold SNLI/train\.jsonl"):
        load_pools(SEVEN["SNLI"], str(folder))
    with pytest.raises(UserError, match=r"data\.root is empty"):
        load_pools(MNLI, "")
    (folder / "MNLI" / "train.csv").write_text("")
    with pytest.raises(UserError, match=r"train\.jsonl and train\.csv are both the train split"):
        load_pools(MNLI, str(folder))
    (folder / "MNLI" / "train.jsonl").unlink()
    with pytest.raises(UserError, match=r"train\.csv: holds no row of examples"):
        load_pools(MNLI, str(folder))
    (folder / "MNLI" / "train.csv").unlink()
    with pytest.raises(UserError, match=r"MNLI': no train split \(but: validation\); add train\.jsonl"):
        load_pools(MNLI, str(folder))


def hub(monkeypatch, splits, names=None):
    import datasets

    calls = []

    def load(*args, **kwargs):
        calls.append((args, kwargs))
        loaded = datasets.DatasetDict()
        for split, rows in splits.items():
            features = datasets.Features({field: datasets.Value("string") for field in rows if field != "label"} | {
                "label": datasets.ClassLabel(names=names) if names else datasets.Value("int64")})
            loaded[split] = datasets.Dataset.from_dict(rows, features=features)
        return loaded

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def test_hub_reads_class_labels_and_drops_unlabelled(monkeypatch):
    rows = {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [1, -1]}
    calls = hub(monkeypatch, {"train": rows, "validation_matched": rows, "test": {**rows, "label": [-1, -1]}},
                ["neutral", "contradiction", "entailment"])
    pools = load_pools(MNLI, "hub:nyu-mll/glue")
    assert pools.train == pools.validation == [Example("a", "c", "contradiction")] and pools.test == []
    assert calls == [(("nyu-mll/glue", "mnli"), {"revision": None})]


@pytest.mark.parametrize(("root", "task", "name", "config", "revision"), [
    ("hub:glue/mnli", "MNLI", "glue", "mnli", None),
    ("hub:nyu-mll/glue/mnli", "MNLI", "nyu-mll/glue", "mnli", None),
    ("hub:stanfordnlp/snli", "SNLI", "stanfordnlp/snli", None, None),
    ("hub:snli", "SNLI", "snli", None, None),
    ("hub:", "SICK", "RobZamp/sick", None, "refs/convert/parquet"),
    ("hub:", "QQP", "nyu-mll/glue", "qqp", None),
])
def test_hub_names(monkeypatch, root, task, name, config, revision):
    rows = {"premise": ["a"], "hypothesis": ["b"], "label": [0]}
    calls = hub(monkeypatch, dict.fromkeys(("train", "validation", "test"), rows))
    load_pools(SEVEN[task], root)
    assert calls == [((name, config), {"revision": revision})]


def test_hub_without_a_network(monkeypatch):
    import datasets

    def load(*args, **kwargs):
        raise ConnectionError("Couldn't reach it\nsecond line")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError, match=r"^data\.root = 'hub:.*': the hub did not give nyu-mll/glue \(Couldn't reach it"
                       r"\); check the name and the network, or name a local file or folder there\.$"):
        load_pools(MNLI, "hub:nyu-mll/glue")


@pytest.mark.shared
@pytest.mark.parametrize(("task", "train", "scored"), [
    ("QQP", 8999, 999), ("MRPC", 3668, 1725), ("MNLI", 9999, 9815), ("SNLI", 9999, 9842), ("QNLI", 9999, 5463),
    ("RTE", 2490, 277), ("SICK", 4500, 4927),
])
def test_real_sizes(shared, task, train, scored):
    pools = load_pools(SEVEN[task], str(shared / "data"))
    assert (len(pools.train), len(pools.scored(SEVEN[task]))) == (train, scored)


@pytest.mark.shared
def test_pools_and_splits_of_the_papers_tasks_are_pinned(shared):
    found = {}
    for name, task in SEVEN.items():
        pools = load_pools(task, str(shared / "data"))
        splits = [few_shot(pools.train, task, 16, seed) for seed in (13, 21, 42, 87, 100)]
        fixed = [] if name == "SICK" else [read_split(shared / "data/kshot", task, 16, seed) for seed in (13, 100)]
        found[name] = digest([pools.train, pools.validation, pools.test, splits, fixed])
    assert found == {"QQP": "07ff4277279d", "MRPC": "35e8f54bd284", "MNLI": "e21b44596f6d", "SNLI": "7e4a330e84eb",
                     "QNLI": "865df6d70086", "RTE": "c7f75c92e24d", "SICK": "036e391a2377"}


@pytest.mark.shared
@pytest.mark.parametrize(("task", "label", "percent"), [
    ("MRPC", "not_equivalent", 33.51), ("SNLI", "contradiction", 33.31), ("SICK", "contradiction", 14.61),
    ("QNLI", "entailment", 49.46),
])
def test_real_class_shares(shared, task, label, percent):
    scored = load_pools(SEVEN[task], str(shared / "data")).scored(SEVEN[task])
    share = 100 * sum(example.label == label for example in scored) / len(scored)
    assert round(share, 2) == percent


def test_fields_that_agree_and_quotes_that_belong_to_the_text(tmp_path, caplog):
    (tmp_path / "a.jsonl").write_text(
        '{"sentence1": "a", "premise": " a", "sentence2": "b", "label": 0, "gold_label": "entailment"}\n')
    assert read_examples(tmp_path / "a.jsonl", MNLI) == [Example("a", "b", "entailment")]
    (tmp_path / "a.tsv").write_text('sentence1\tsentence2\tlabel\n"a"\tb\t0\n"a" c\tb\t0\n')
    assert [example.sentence1 for example in read_examples(tmp_path / "a.tsv", MNLI)] == ['"a"', '"a" c']
    assert "a.tsv:2: 1 of 2 rows have a value in quotes" in caplog.text
    caplog.clear()
    (tmp_path / "a.tsv").write_text('sentence1\tsentence2\tlabel\na\tb\t0\n"a ""b"" c"\tb\t0\n')  # as in GLUE's QQP
    assert read_examples(tmp_path / "a.tsv", MNLI)[1].sentence1 == '"a ""b"" c"'
    assert "a.tsv:3: 1 of 2 rows have a value in quotes" in caplog.text


@pytest.mark.parametrize("notes", [
    b"{", b"[]", b"null", b"\xff", b'{"info": 3}', b'{"info": {"features": {"label": 3}}}',
    b'{"info": {"features": {"label": {"names": [1, 2]}}}}', b'{"info": {"features": {"label": {"names": "ab"}}}}',
    b'{"info": {"features": {"label": {"names": ["neutral", "neutral"]}}}}', b"[" * 10_000])
def test_odd_notes_in_parquet_are_told(tmp_path, notes):
    pair = {"sentence1": ["a"], "sentence2": ["b"], "label": [0]}
    write_parquet(tmp_path / "a.parquet", pair, {b"huggingface": notes})
    with pytest.raises(UserError, match=r"a\.parquet: cannot read the names of integer labels in its metadata"):
        read_examples(tmp_path / "a.parquet", MNLI)


def test_parquet_text_that_is_not_utf8_is_told(tmp_path):
    import pyarrow

    ends = pyarrow.array([0, 2], pyarrow.int32()).buffers()[1]
    text = pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, ends, pyarrow.py_buffer(b"\xff\xfe")])
    write_parquet(tmp_path / "a.parquet", {"sentence1": text, "sentence2": ["b"], "label": [0]})
    with pytest.raises(UserError, match=r"a\.parquet: not a parquet file that can be read \('utf-8' codec"):
        read_examples(tmp_path / "a.parquet", MNLI)


def test_a_folder_with_a_name_that_none_can_have():
    with pytest.raises(UserError, match="no such folder"):
        load_pools(MNLI, "a" * 300)
