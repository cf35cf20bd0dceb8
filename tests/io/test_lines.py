"""Lines and JSON lines: numbers in errors, compression, byte order marks, broken files."""

import gzip
import math

import pytest

from dawgen_jax.errors import UserError
from dawgen_jax.io.files import read_json, write_json
from dawgen_jax.io.lines import json_lines, text_lines
from dawgen_jax.io.metrics_log import MetricsLog


def test_numbers_and_byte_order_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    assert list(text_lines(path)) == [(1, "one\r\n"), (2, "two")]


def test_gzip(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'\n{"a": 1}\n'))
    assert list(json_lines(path)) == [(2, {"a": 1})]


@pytest.mark.parametrize(("content", "line", "word"), [
    (b'{"a": 1}\n\n{"a": \n', 3, "not JSON"),
    (b'{"a": 1}\n[1]\n', 2, "the value = \\[1\\]: must be an object"),
    (b'{"a": 1}\n{"a": "\xff"}\n', 2, "not UTF-8"),
])
def test_broken_line_is_named(tmp_path, content, line, word):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"a.jsonl:{line}: {word}"):
        list(json_lines(path))


def test_cut_off_gzip(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"one\n" * 10000)[:-12])
    with pytest.raises(UserError, match=r"a.txt.gz:\d+: cannot be read"):
        list(text_lines(path))


def test_corrupt_gzip(tmp_path):
    path = tmp_path / "a.txt.gz"
    whole = bytearray(gzip.compress(b"".join(b"%d\n" % (i * i) for i in range(10000))))
    whole[2000:2100] = bytes(100)
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"a.txt.gz:\d+: cannot be read"):
        list(text_lines(path))
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"a.txt.gz:1: cannot be read \(it is empty\)"):
        list(text_lines(path))
    path.write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"a.txt.gz:1: cannot be read"):
        list(text_lines(path))


def test_deep_json(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": ' + "[" * 100_000)
    with pytest.raises(UserError, match=r"a.jsonl:1: not JSON"):
        list(json_lines(tmp_path / "a.jsonl"))


def test_folders_and_names_that_none_can_have(tmp_path):
    for read in (text_lines, json_lines):
        with pytest.raises(UserError, match=rf"{tmp_path.name}: is a folder; name a file in it\."):
            list(read(tmp_path))
        for name in ("a" * 300, "a\0b"):
            with pytest.raises(UserError, match=r":1: cannot be read \((.|\n)*\); fetch the file again"):
                list(read(tmp_path / name))


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"b.txt: no such file\."):
        list(text_lines(tmp_path / "b.txt"))


@pytest.mark.parametrize(("text", "reason"), [
    ('{"a": 1, "b": {"c": 1, "c": 2}}', "the name 'c' is used twice in one object"),
    ('{"a": "\\ud800"}', "unexpected end of hex escape at line 1 column 14"),
    ('{"a": ' + "1" * 5000 + "}", "number out of range at line 1 column .*"),
    ('{"a": NaN}', "NaN is not a JSON number; write a finite number, or null"),
    ('{"a": [-Infinity]}', "-Infinity is not a JSON number; write a finite number, or null"),
    ('{"a": -1e999}', "'-1e999' is not a JSON number; write a finite number, or null"),
    ('{"a": ' + "[" * 210 + "]" * 210 + "}", "recursion limit exceeded at line 1 column .*"),
])
def test_json_that_two_programs_could_read_differently(tmp_path, text, reason):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(UserError, match=rf"a.jsonl:1: not JSON \({reason}\); fix or drop the line\."):
        list(json_lines(tmp_path / "a.jsonl"))
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=rf"a.json: cannot be read \({reason}\)"):
        read_json(tmp_path / "a.json")


def test_whole_pairs_and_brackets_in_text_are_taken(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": "\\ud83d\\ude00", "b": "%s"}' % ("[" * 100))
    assert list(json_lines(tmp_path / "a.jsonl")) == [(1, {"a": "\U0001f600", "b": "[" * 100})]


def test_what_is_not_finite_is_written_as_null(tmp_path):
    write_json(tmp_path / "a.json", {"a": [math.nan, 1.5], "b": (math.inf,)})
    assert read_json(tmp_path / "a.json") == {"a": [None, 1.5], "b": [None]}
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.record([{"step": 1, "loss": [math.nan, 2.0]}])
    assert log.of_seed(1) == [{"step": 1, "loss": 2.0}] and log.of_seed(0) == [{"step": 1, "loss": None}]


def test_metrics_without_a_step_are_named(tmp_path):
    for line in ('{"loss": 1}', '{"step": "1"}', '{"step": null}'):
        (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n' + line + "\n")
        with pytest.raises(UserError, match=r"metrics\.jsonl:2: .* must have a number as 'step'; remove its folder"):
            MetricsLog(tmp_path / "metrics.jsonl").forget(1)
