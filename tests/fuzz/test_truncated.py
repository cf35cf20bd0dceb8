"""A file that is cut off anywhere is never taken for a whole one."""

import gzip
import json
import pathlib

import pyarrow
import pyarrow.parquet
import pytest

from dawgen_jax.backbones.t5 import convert
from dawgen_jax.data.pools import read_examples
from tests.fuzz import properties, stored
from tests.fuzz.runner import IN, examine, put
from tests.fuzz.strategies import PAIR


def _pairs(name):
    def read(files):
        read_examples(put(name, files[name]), properties.TASK)

    return read


def _checkpoint(files):
    for name, content in files.items():
        put(name, content)
    convert.load(IN)


def _parquet(folder):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([PAIR] * 3), folder / "a.parquet")
    return (folder / "a.parquet").read_bytes()


def _case(kind, folder: pathlib.Path):
    """(files, how they are read, those that are cut)."""
    rows = gzip.compress("".join(json.dumps(PAIR | {"index": i}) + "\n" for i in range(20)).encode(), mtime=0)
    if kind == "checkpoint":
        config, weights = properties.checkpoint()
        files = {"config.json": json.dumps(config).encode(), "model.safetensors": stored.save(weights)}
        return files, _checkpoint, files
    if kind == "pairs":
        files = {"a.jsonl.gz": rows, "a.parquet": _parquet(folder)}
        return files, None, files
    read = {"prompts": stored.read_prompts, "adapter": stored.read_adapter}.get(kind, stored.read_stored)
    return stored.whole(kind), read, stored.whole(kind)


@pytest.mark.parametrize("kind", ["prompts", "adapter", "LoRA", "pairs", "checkpoint"])
def test_a_file_that_is_cut_off_anywhere_is_refused(kind, tmp_path):
    files, read, names = _case(kind, tmp_path)
    alone = kind in ("prompts", "pairs")  # files that are read by themselves, not as a folder
    for name in names:
        content = files[name].rstrip()  # JSON without its last line break is whole
        size, read_it = len(content), read or _pairs(name)
        cuts = {*range(0, min(size, 120), 4), *range(0, size, max(1, size // 30)), *range(max(0, size - 15), size)}
        for cut in sorted(cuts):
            given = ({} if alone else files) | {name: content[:cut]}
            assert examine(read_it, given) == "refused", (name, cut)
        assert examine(read_it, {name: files[name]} if alone else files) == "accepted"
