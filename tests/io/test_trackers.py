"""Trackers: what TensorBoard's event files hold, what wandb and trackio are called with, and what may go wrong."""

import pathlib
import struct
import sys
import types

import pytest

from dawgen_jax.config import Config
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.io.trackers import TrackedRun, Trackers
from dawgen_jax.pipeline.job import Job
from dawgen_jax.training.placement import Placement

LINES = [{"step": 0, "dev_accuracy": [0.25, 0.5], "histogram": [[1, 2], [3, 0]]},
         {"step": 4, "loss": [1.5, 2.5], "note": "text"}, {"step": 8, "loss": 3.0}]
SHOWN = [(0, "dev_accuracy/13", 0.25), (0, "dev_accuracy/21", 0.5), (4, "loss/13", 1.5), (4, "loss/21", 2.5),
         (8, "loss", 3.0)]


def events(folder: pathlib.Path) -> list[tuple[int, str, float]]:
    """(step, figure, value) of every scalar in the event files of a folder, the oldest file first."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for path in sorted(folder.glob("events.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack_from("<Q", content)
            event = proto.Event.FromString(content[12:12 + length])
            if event.session_log.status == 1:  # a start: what is not before its step is dropped
                found = [one for one in found if one[0] < event.step]
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            content = content[16 + length:]
    return found


def test_tensorboard_shows_each_seeds_figures_and_after_a_restart_each_once(tmp_path):
    pytest.importorskip("tensorboardX")
    folder = tmp_path / "tensorboard" / "cells" / "one"
    for number, lines in enumerate((LINES, LINES[1:])):
        run = TrackedRun(Trackers(["tensorboard"], tmp_path), "cells/one", {"rate": 0.3}, (13, 21))
        run.record(lines[:1])
        run.record(lines[1:])
        run.close()
        (path,) = folder.glob("events.out.*")
        path.rename(folder / f"events.{number}")  # files of one second have one name
    assert events(folder) == SHOWN


class Fake:
    """wandb or trackio, as far as they are used."""

    def __init__(self, broken=""):
        self.calls, self.broken = [], broken

    def init(self, **options):
        self.calls.append(("init", options))
        if self.broken == "init":
            raise RuntimeError("not logged in\nsecond line")
        return self

    def log(self, data, step):
        if self.broken == "log":
            raise OSError("no network")
        self.calls.append((step, data))

    def finish(self):
        self.calls.append("finish")


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_the_others_get_a_run_with_its_settings(name, tmp_path, monkeypatch):
    fake = Fake()
    monkeypatch.setitem(sys.modules, name, fake)
    run = TrackedRun(Trackers([name], tmp_path / "my run"), "cells/one", {"a": 1}, (13,))
    log = MetricsLog(tmp_path / "metrics.jsonl", run)
    log.record([{"step": 1, "loss": [0.5]}])
    log.record([{"step": 2, "loss": [0.25]}])
    log.close(test_accuracy=[0.75])
    (what, options), *calls = fake.calls
    assert what == "init" and calls == [(1, {"loss/13": 0.5}), (2, {"loss/13": 0.25}), (2, {"test_accuracy/13": 0.75}),
                                        "finish"]
    assert options["project"] == "my-run" and options["name"] == "cells/one" and options["config"] == {"a": 1}
    assert options["resume"] == "allow"


@pytest.mark.parametrize("broken", ["init", "log"])
def test_a_tracker_that_fails_is_left_with_one_warning(broken, tmp_path, monkeypatch, caplog):
    fake = Fake(broken)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    trackers = Trackers(["wandb"], tmp_path)
    for name in ("one", "two"):
        log = MetricsLog(tmp_path / f"{name}.jsonl", TrackedRun(trackers, name, {}, ()))
        log.record([{"step": 1, "loss": 0.5}])
        log.record([{"step": 2, "loss": 0.5}])
        log.close()
        assert len(log.lines()) == 2
    (message,) = caplog.messages
    assert message.startswith("wandb failed (") and "second line" not in message and "metrics.jsonl has all" in message
    assert len(fake.calls) == 1


@pytest.mark.parametrize("module", [None, types.ModuleType("wandb")])  # not there; a folder of that name
def test_a_missing_extra_is_one_sentence_before_anything_is_made(module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", module)
    with pytest.raises(UserError, match=r"^--track wandb: wandb cannot be .*: pip install 'dawgen-jax\[wandb\]'"):
        Job.start(Config(track=("wandb",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"Config.track\[0\] = 'mlflow': must be 'tensorboard', "):
        Config(track=("mlflow",))


def test_only_the_process_that_writes_shows_anything(tmp_path, monkeypatch):
    fake = Fake()
    monkeypatch.setitem(sys.modules, "trackio", fake)
    job, folder = Job.start(Config(track=("trackio",), devices=1), tmp_path), tmp_path / "cells" / ".one-abc.partial"
    folder.mkdir(parents=True)
    for writes in (False, True):
        monkeypatch.setattr(Placement, "writes", writes)
        job.metrics_log(folder, {}).record([{"step": 1, "loss": 0.5}])
        assert bool(fake.calls) is writes
    assert fake.calls[0][1]["name"] == "cells/one-abc"
