"""Lines and JSON lines: numbers in errors, compression, byte order marks, broken files."""

import gzip

import pytest

from dawgen_jax.config import UserError
from dawgen_jax.io.lines import json_lines, text_lines


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
    (b'{"a": 1}\n[1]\n', 2, "not a JSON object"),
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
