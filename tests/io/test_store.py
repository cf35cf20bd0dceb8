"""Files and artefacts: whole or not at all, one maker at a time."""

import errno
import functools
import subprocess
import sys
import threading

import pytest

from dawgen_jax.errors import UserError
from dawgen_jax.io import store
from dawgen_jax.io.files import read_json, replacing, write_file, write_json
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.io.store import artefact, build, claim, finish


def test_a_file_is_replaced_whole_or_left(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"ä": [1]})
    assert read_json(path) == {"ä": [1]} and read_json(tmp_path / "b.json", missing_ok=True) is None
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    write_file(tmp_path / "deep" / "surrogate", "\ud800")
    assert read_json(path) == {"ä": [1]} and (tmp_path / "deep" / "surrogate").read_bytes() == b"?"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["a.json", "surrogate"]
    path.write_text("{")
    for broken in (path, tmp_path / "b.json"):
        with pytest.raises(UserError, match=rf"{broken.name}: cannot be read"):
            read_json(broken)
    path.write_bytes(b"\xff\x00")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for broken in (path, tmp_path, tmp_path / ("a" * 300), tmp_path / "deep.json"):
        with pytest.raises(UserError, match=rf"{broken.name}: cannot be read \(.*\); remove its folder"):
            read_json(broken, missing_ok=True)
    path.write_text("[1]")
    with pytest.raises(UserError, match=r"a.json: the value = \[1\]: must be an object; remove its folder"):
        read_json(path)
    assert read_json(path, list[int]) == [1]


def test_an_artefact_appears_whole_once(tmp_path):
    folder = artefact(tmp_path, "cells", "a: (b, c) + d", "0123")
    assert folder.name == "a_b_c_+_d-0123"

    def stop(missing, work):
        (work / "state").write_text("unfinished")
        yield lambda fresh: 1 / 0

    with pytest.raises(ZeroDivisionError):
        build([folder], stop)
    assert not folder.exists()

    def resume(missing, work):
        assert missing == [0] and (work / "state").read_text() == "unfinished"
        yield lambda fresh: (fresh / "x").write_text("1")

    build([folder], resume)
    build([folder], lambda *_: pytest.fail("made again"))
    finish(folder, lambda fresh: pytest.fail("filled again"))
    assert sorted(entry.name for entry in folder.parent.iterdir()) == [".claims", folder.name]


def test_a_group_that_is_killed_while_it_publishes_resumes_as_a_whole(tmp_path):
    folders, asked = [artefact(tmp_path, "cells", name, "0") for name in "abc"], []

    def make(missing, work, last=3):
        asked.append((missing, (work / "state").exists()))
        (work / "state").touch()
        for _ in missing[:last]:
            yield lambda fresh: (fresh / "x").write_text(str(len(asked)))
        if last < len(missing):
            raise ZeroDivisionError

    group = artefact(tmp_path, "cells", "group", "all")
    with pytest.raises(ZeroDivisionError):
        build(folders[:2], functools.partial(make, last=1), group=group)
    assert [folder.exists() for folder in folders] == [True, False, False]
    build(folders[:2], make, group=group)
    build(folders, make, group=group)
    assert asked == [([0, 1], False), ([0, 1], True), ([2], False)]
    assert [(folder / "x").read_text() for folder in folders] == ["1", "2", "3"]
    assert not list(tmp_path.rglob(".*.partial"))


def test_two_makers_of_one_artefact_leave_one(tmp_path):
    folder = artefact(tmp_path, "cells", "a", "0")

    def meanwhile(fresh):
        (fresh / "x").write_text("second")
        finish(folder, lambda other: (other / "x").write_text("first"))

    finish(folder, meanwhile)
    assert (folder / "x").read_text() == "first" and len(list(folder.parent.iterdir())) == 1


def test_a_claim_is_held_by_one_process_and_dies_with_it(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(store, "_SILENT", 0.1)
    folder = artefact(tmp_path, "cells", "a", "0")
    hold = ("import pathlib, sys, time; from dawgen_jax.io.store import claim\n"
            "with claim(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)")
    process = subprocess.Popen([sys.executable, "-c", hold, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    entered = threading.Event()

    def wait():
        with claim(folder):
            entered.set()

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    assert not entered.wait(0.5)  # as long as the other process lives
    assert caplog.messages == [f"{folder}: waiting for another process that works on it."]
    process.kill()
    process.communicate()
    assert entered.wait(30)


def test_a_file_system_without_locks_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(store.fcntl, "flock", refuse)
    with pytest.raises(UserError, match=r"a-0: cannot be locked \(No locks available\); give a run directory"), claim(
            artefact(tmp_path, "cells", "a", "0")):
        pass


def test_a_folder_that_cannot_be_published_is_an_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = artefact(tmp_path, "cells", "a", "0")
    monkeypatch.setattr(store.os, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        finish(folder, lambda fresh: (fresh / "x").write_text("1"))
    assert not list(folder.parent.iterdir())


def test_a_torn_line_of_metrics_is_left_out(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.record([{"step": 1, "loss": [0.5, 0.25]}, {"step": 2, "loss": [0.125, 1.0]}])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert [line["step"] for line in log.lines()] == [1, 2] and log.of_seed(1)[0] == {"step": 1, "loss": 0.25}
    log.forget(1)
    assert [line["step"] for line in log.lines()] == [1]
    log.forget(0)
    assert log.lines() == []


def test_long_names_are_cut_and_told_apart(tmp_path):
    names = ["x" * 300 + end for end in ("a", "b")]
    folders = [artefact(tmp_path, "cells", name, "k") for name in names]
    assert folders[0] != folders[1] and all(len(folder.name) < 200 for folder in folders)
    with claim(folders[0]):
        finish(folders[0], lambda folder: write_file(folder / "a", ""))
    assert folders[0].is_dir()


@pytest.mark.parametrize("name", ["../../x", "..", ".", "", "/etc/passwd", "a/../../b", "\\..\\x", "a\0b", "~", "$HOME",
                                  "\u2025/x", "\uff0e\uff0e/x", "\n", "-rf"])
def test_no_name_leads_out_of_the_run_directory(tmp_path, name):
    folder = artefact(tmp_path, "cells", name, "k")
    assert folder.resolve().parent == tmp_path / "cells" and folder.name.endswith("-k")

    def make(missing, work):
        write_file(work / "a", "")
        yield lambda fresh: write_file(fresh / "a", "")

    build([folder], make)
    assert [entry.name for entry in tmp_path.iterdir()] == ["cells"] and (folder / "a").is_file()


def test_unfinished_work_is_not_written_through_a_symbolic_link(tmp_path):
    folder, elsewhere = artefact(tmp_path / "run", "cells", "a", "0"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    folder.parent.mkdir(parents=True)
    works = []

    def stop(missing, work):
        works.append(work)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build([folder], stop)
    works[0].rmdir()
    works[0].symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"\.partial: is a symbolic link, but unfinished work is kept inside the run"):
        build([folder], stop)
    finish(folder, lambda fresh: write_file(fresh / "x", ""))
    build([folder], stop)  # finds the artefact, and does not follow the link
    assert [entry.name for entry in elsewhere.iterdir()] == ["kept"]
    target = tmp_path / "target"
    target.write_text("whole")
    (tmp_path / "link").symlink_to(target)
    write_file(tmp_path / "link", "new")  # the link is replaced, not what it leads to
    assert target.read_text() == "whole" and not (tmp_path / "link").is_symlink()


FULL = """
import resource, sys
import numpy as np
import pathlib
from dawgen_jax import prompts
from dawgen_jax.io.files import write_file
from dawgen_jax.training.checkpoint import Checkpoints
from dawgen_jax.cli import process

def main(argv):
    folder, what = argv
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    array = np.random.default_rng(0).normal(size=(100, 100)).astype(np.float32)
    if what == "text":
        write_file(pathlib.Path(folder) / "a", "a" * 10_000)
    elif what == "prompt":
        prompts.save(folder + "/a", {"prompt": array})
    else:
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(1, {"prompt": array})

process.guard(main, sys.argv[1:])
"""


@pytest.mark.parametrize("what", ["text", "prompt", "checkpoint"])
def test_a_full_disk_is_one_sentence(tmp_path, what):
    folder = tmp_path / "out"
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", FULL, str(folder), what], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "Traceback (most recent call last)" not in done.stderr.split("error: ")[-1]
    assert done.stderr.splitlines()[-1] == ("error: File too large: free some space, or name another path; the same "
                                            "command resumes.")
    assert what == "checkpoint" or not list(folder.iterdir())
