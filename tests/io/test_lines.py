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


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"b.txt: no such file\."):
        list(text_lines(tmp_path / "b.txt"))
