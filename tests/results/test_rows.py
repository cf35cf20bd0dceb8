"""Rows survive files, replace each other by key, and bad files are refused with file and line."""

import dataclasses
import json
import os
import pathlib

import pytest

from dawgen_jax.errors import UserError
from dawgen_jax.results.arms import arm_names, disagreements
from dawgen_jax.results.measures import conflict_table
from dawgen_jax.results.rows import (
    Row,
    SyntheticRow,
    merge,
    read_cell,
    read_rows,
    versions,
    write_cell,
    write_rows,
)
from dawgen_jax.results.tables import result_tables

RESULTS = pathlib.Path(__file__).parents[2] / "results"
ROW = Row(task="mini-snli", backbone="mini-t5", method="(Real, Syn) + GS", metric="accuracy", value=0.5, n_test=6,
          seed=13, generator="DawGen", generator_backbone="mini-t5", class_counts={"yes": 2, "no": 4},
          split_source="drawn \u2028 by <seed>", trainable_parameters=1024, wall_seconds=1.5, config_hash="0a",
          versions={"python": "3.11"}, settings={"classifier.epsilon": 1.0}, extras={"conflict_rate": 0.25})


def change(**fields):
    return dataclasses.replace(ROW, **fields)


def test_files_return_what_was_written(tmp_path):
    rows = [ROW, change(metric="f1", value=0.25), change(k_shot="full"), change(generator="", method="FT")]
    write_rows(tmp_path / "results.jsonl", rows)
    assert set(map(str, read_rows(tmp_path / "results.jsonl"))) == set(map(str, rows))
    write_cell(tmp_path / "cells" / "a" / "result.json", rows)
    assert read_cell(tmp_path / "cells" / "a" / "result.json") == merge(rows)
    assert {path.name for path in tmp_path.iterdir()} == {"cells", "results.jsonl"}  # nothing half-written stays


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("*.jsonl")), ids=lambda path: str(path.relative_to(RESULTS)))
def test_recorded_rows_are_read_with_all_their_fields_and_values(path):
    kind = SyntheticRow if "synthetic" in path.name else Row
    rows, lines = read_rows(path, kind), path.read_text(encoding="utf-8").splitlines()
    assert len(rows) == len(lines) > 0
    for row, line in zip(rows, lines, strict=True):
        assert json.loads(line).items() <= dataclasses.asdict(row).items()


def test_same_rows_in_any_order_give_the_same_bytes(tmp_path):
    rows = [change(seed=seed, metric=metric) for seed in (100, 13) for metric in ("f1", "accuracy")]
    write_rows(tmp_path / "a", rows)
    write_rows(tmp_path / "b", reversed(rows))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert [(row.seed, row.metric) for row in read_rows(tmp_path / "a")] == [
        (13, "accuracy"), (13, "f1"), (100, "accuracy"), (100, "f1")]


def test_a_later_row_replaces_an_earlier_one_of_the_same_key():
    others = [change(**{name: value}) for name, value in dict(
        task="t", backbone="b", generator_backbone="g", generator="FewGen", method="Syn only", k_shot=8, variant="cut",
        seed=1, metric="f1", settings={"classifier.epsilon": 0.5}).items()]
    merged = merge([ROW, *others], [change(value=0.75, config_hash="0b")])
    assert len(merged) == len(others) + 1
    assert [row.value for row in merged if row.key == ROW.key] == [0.75]


def test_an_undefined_extra_becomes_null(tmp_path):
    write_rows(tmp_path / "a", [change(extras={"cosine": float("nan"), "steps": [1, float("inf")]})])
    assert read_rows(tmp_path / "a")[0].extras == {"cosine": None, "steps": [1, None]}


@pytest.mark.parametrize(("fields", "message"), [
    (dict(value=56.1), "Row.value = 56.1: must be at most 1"),
    (dict(value=float("nan")), "Row.value = nan"),
    (dict(metric="bleu"), "'accuracy' or 'f1'"),
    (dict(n_test=0), "Row.n_test = 0"),
    (dict(seed=True), "Row.seed = True: must be an integer"),
    (dict(k_shot="all"), "Row.k_shot = 'all'"),
    (dict(class_counts={"yes": 1}), "sum to n_test = 6"),
])
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        change(**fields)


@pytest.mark.parametrize(("line", "message"), [
    ('{"task": "a"', "results.jsonl:2: not JSON"),
    ("[1]", r"results.jsonl:2: Row = \[1\]: must be an object"),
    (json.dumps(dataclasses.asdict(ROW) | {"sed": 1}),
     "results.jsonl:2: Row.sed: unknown field; the nearest is 'seed'; fix or drop"),
    (json.dumps({"task": "a"}), "results.jsonl:2: Row.backbone: is missing"),
    (json.dumps(dataclasses.asdict(ROW) | {"value": "0.5"}), "results.jsonl:2: Row.value = '0.5': must be a number"),
    (json.dumps(dataclasses.asdict(ROW)), "results.jsonl:2: repeats the row of line 1"),
])
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(dataclasses.asdict(ROW)) + "\n" + line + "\n")
    with pytest.raises(UserError, match=message):
        read_rows(path)


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.jsonl: no such file"):
        read_rows(tmp_path / "nowhere.jsonl")
    for wrong, message in (("{}", "must be an array"), ("[]", "at least 1 item"),
                           ("[1]", r"\[0\] = 1: must be an object")):
        (tmp_path / "result.json").write_text(wrong)
        with pytest.raises(UserError, match=f"result.json: .*{message}.*; remove the folder to compute the cell again"):
            read_cell(tmp_path / "result.json")
    (tmp_path / "result.json").write_text("[")
    with pytest.raises(UserError, match=r"result.json: cannot be read"):
        read_cell(tmp_path / "result.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="binary:1: not UTF-8"):
        read_rows(tmp_path / "binary")


def test_synthetic_rows(tmp_path):
    row = SyntheticRow("mini-snli", "mini-t5", "DawGen", 13, 100, diversity=0.5, distance=0.2, copies=0.1)
    few = dataclasses.replace(row, generator="FewGen", consistency=0.6)
    write_rows(tmp_path / "synthetic.jsonl", [row, few])
    assert read_rows(tmp_path / "synthetic.jsonl", SyntheticRow) == [few, row]
    assert len({row.key, *(dataclasses.replace(row, **{field: value}).key for field, value in (
        ("settings", {"generator.num_steps": 9}), ("data", "0a1b"), ("seed", 21)))}) == 4
    with pytest.raises(UserError, match=r"SyntheticRow.consistency = 1.5"):
        dataclasses.replace(row, consistency=1.5)


def test_versions_name_python_jax_and_the_processor():
    found = versions()
    assert {"python", "jax", "dawgen-jax"} <= found.keys()
    model, _, threads = found["device"].rpartition(", ")
    assert model and threads == f"{len(os.sched_getaffinity(0))} threads"


def test_settings_are_json_and_part_of_the_key(tmp_path):
    row = change(settings={"generator.layers": (1, 2), "classifier.epsilon": 1.0})
    write_rows(tmp_path / "a", [row])
    assert read_rows(tmp_path / "a") == [row] and row.settings["generator.layers"] == [1, 2]
    assert row.key == change(settings={"classifier.epsilon": 1.0, "generator.layers": [1, 2]}).key != ROW.key
    assert change(settings={}).key not in (ROW.key, row.key)


def test_a_task_of_other_data_is_another_row_of_the_same_arm():
    assert change(data="0a1b").key != ROW.key and change(data="0a1b").arm_key == ROW.arm_key
    for bad in (float("nan"), {1, 2}):
        with pytest.raises(UserError, match=r"Row.settings = .*: must be finite JSON values"):
            change(settings={"a": bad})


def test_a_torn_last_line_is_left_out_with_a_warning(tmp_path, caplog):
    path = tmp_path / "results.jsonl"
    write_rows(path, [ROW, change(seed=14)])
    whole = path.read_bytes()
    assert len(read_rows(path)) == 2 and not caplog.records
    path.write_bytes(whole.removesuffix(b"\n"))
    assert len(read_rows(path)) == 2 and not caplog.records  # the last line lacks nothing but its end
    second = whole.index(b"\n") + 1
    inside = whole.index("\u2028".encode(), second) + 1  # in the middle of a character
    for cut in (second + 1, second + 40, inside, len(whole) - 2):
        caplog.clear()
        path.write_bytes(whole[:cut])
        assert read_rows(path) == [ROW]
        assert f"{path}:2: the last line is torn" in caplog.text
        with pytest.raises(UserError, match=r"results.jsonl:2: not "):
            read_rows(path, torn_ok=False)
    path.write_bytes(whole[:40] + b"\n" + whole)  # torn, but not the last
    with pytest.raises(UserError, match=r"results.jsonl:1: not JSON"):
        read_rows(path)
    path.write_bytes(whole + whole[:40] + b"\n")  # ended by a newline: no line that was being written
    with pytest.raises(UserError, match=r"results.jsonl:3: not JSON"):
        read_rows(path)


def test_one_name_of_an_arm_says_what_departs_from_the_usual():
    assert ROW.arm == "DawGen: (Real, Syn) + GS"
    assert change(variant="cut", generator_backbone="big", k_shot=8).arm == (
        "DawGen: (Real, Syn) + GS #cut by big, 8 shots")
    plain = dict(generator="", generator_backbone="")
    assert change(method="Prompt Tuning", k_shot="full", **plain).arm == "Prompt Tuning @full"
    assert change(method="Prompting (zero-shot)", k_shot=8, **plain).arm == "Prompting (zero-shot)"


def test_arms_of_one_name_carry_the_fields_in_which_they_differ():
    rows = [change(settings={"a": 1, "b": 2}), change(settings={"a": 1, "b": 3}), change(settings={"a": 1}),
            change(settings={}), change(settings={"a": 9}, method="Syn only"), change(settings={}, method="FT")]
    names = arm_names(rows)
    assert [names[row.arm_key].removeprefix("DawGen: ") for row in rows] == [
        "(Real, Syn) + GS [b=2]", "(Real, Syn) + GS [b=3]", "(Real, Syn) + GS [b=unset]",
        "(Real, Syn) + GS [settings unknown]", "Syn only", "FT"]
    assert disagreements(rows[0], rows[1]) == ["b"] and disagreements(rows[0], rows[2]) == []
    assert disagreements(rows[0], rows[3]) == ["settings"]


@pytest.mark.parametrize(("fields", "message"), [
    ({"class_counts": {"a": None}}, "Row.class_counts"), ({"class_counts": {"a": 8, "b": -2}}, "Row.class_counts"),
    ({"versions": {"jax": 1}}, "Row.versions"), ({"trainable_parameters": -1}, "Row.trainable_parameters"),
    ({"wall_seconds": 10**400}, "Row.wall_seconds"), ({"seed": 2**64}, "Row.seed"), ({"k_shot": True}, "Row.k_shot"),
    ({"task": "x" * 300 + "1"}, None),
])
def test_fields_of_a_row_hold_what_is_said_of_them(tmp_path, fields, message):
    (tmp_path / "results.jsonl").write_text(json.dumps(dataclasses.asdict(ROW) | fields) + "\n")
    if message is None:
        assert read_rows(tmp_path / "results.jsonl") == [change(**fields)]
        return
    with pytest.raises(UserError, match=rf"results\.jsonl:1: {message}\S* = .*: must"):
        read_rows(tmp_path / "results.jsonl")


def test_fields_of_a_synthetic_row_too():
    for fields in ({"seed": -1}, {"n": 0}):
        with pytest.raises(UserError, match=f"SyntheticRow.{next(iter(fields))}"):
            SyntheticRow(**{"task": "t", "backbone": "b", "generator": "g", "seed": 1, "n": 1, "diversity": 0.1,
                            "distance": 0.1, "copies": 0.1} | fields)


@pytest.mark.parametrize("odd", ["a", None, [], {}, True, 10**400])
def test_odd_extras_are_left_out_of_tables(odd):
    extras = {"conflict_rate": odd, "cosine": 0.1, "accuracy_words_exchanged": odd}
    row = change(task="RTE", extras=extras)
    assert conflict_table([row]).rows == ()
    assert not any("exchanged" in note for table in result_tables([row]) for note in table.notes)
