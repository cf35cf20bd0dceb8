"""Two processes over loopback give one process's results; stopped or killed, they all end, and go on."""

import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from dawgen_jax import prompts
from dawgen_jax.config import BackboneConfig, UserError
from dawgen_jax.io import world
from dawgen_jax.pipeline import main
from dawgen_jax.pipeline.job import Job
from tests.pipeline import grids
from tests.pipeline.conftest import small_config, write_backbone
from train import cli

STOPPED = "stopped; the same command goes on"
ENDS = 60.0
"""Seconds in which the others end once one is killed: they are found out by a broken connection, or after
``world.HEARTBEAT``."""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """(config file, config) of a job with every stage, whose first arm has many short steps."""
    root = tmp_path_factory.mktemp("two")
    write_backbone(root / "random0", 0)
    config = small_config([BackboneConfig(str(root / "random0"))])
    config = dataclasses.replace(
        config, seeds=(13,), devices=0, arms=("Prompt Tuning", "FewGen: Syn only"),
        classifier=dataclasses.replace(config.classifier, real_steps=24, real_eval_every=12))
    grids.write_config(root / "short.py", config)
    return root / "short.py", config


def start(config: pathlib.Path, out: pathlib.Path, *more: str) -> list[subprocess.Popen]:
    """``python -m train.run`` in two processes of one device; their compiled programs are kept for the next start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_COMPILATION_CACHE_DIR": str(config.parent / "programs")}
    words = [sys.executable, "-m", "train.run", str(config), "--out", str(out), "--coordinator", f"127.0.0.1:{port}",
             "--num-processes", "2", "--initialization-timeout", "120", *more, "--process-id"]
    return [subprocess.Popen([*words, str(number)], cwd=grids.REPOSITORY, env=environment, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True) for number in range(2)]


def ended(processes: list[subprocess.Popen], within: float = 300.0) -> list[tuple[int, str, str]]:
    """Status, output and errors of each."""
    try:
        outputs = [process.communicate(timeout=within) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def checkpoint(processes: list[subprocess.Popen], out: pathlib.Path, but: list[str]) -> list[str]:
    """Wait for a checkpoint of another step than ``but``."""
    while not (there := [path.parts[-3] for path in out.glob("cells/.*.partial/*/[0-9]*/default/_METADATA")]
               ) or there == but:
        assert all(process.poll() is None for process in processes), ended(processes)
        time.sleep(0.01)
    return there


def contents(root: pathlib.Path) -> dict[str, bytes]:
    names = ("prompts.safetensors", "prompt.safetensors", "train.jsonl", "predictions.json", "metrics.jsonl")
    return {str(path.relative_to(root)): path.read_bytes() for name in names for path in root.rglob(name)}


def lines(content: bytes) -> list[dict]:
    return [json.loads(line) for line in content.decode().splitlines()]


def test_two_processes_stopped_and_killed_give_the_results_of_one(job, tmp_path):
    file, config = job
    one, two, again = tmp_path / "one", tmp_path / "two", tmp_path / "again"
    (status, output, errors), (other_status, other_output, other_errors) = ended(start(file, two))
    assert (status, other_status) == (0, 0), errors + other_errors
    assert errors.startswith("2 processes, 2 devices of cpu (1, 1)\n") and "results.jsonl" in "".join(output.split())
    assert other_errors == "" and not [line for line in other_output.splitlines() if "[Gloo]" not in line]

    main.run(Job.start(dataclasses.replace(config, devices=2), one))
    whole, both = contents(one), contents(two)
    assert whole.keys() == both.keys() and len(whole) == 9
    for path, content in whole.items():
        if path.endswith(("train.jsonl", "predictions.json")):
            assert both[path] == content, path
        elif path.endswith(".safetensors"):
            arrays, others = prompts.load(one / path), prompts.load(two / path)
            for name in arrays:
                np.testing.assert_allclose(others[name], arrays[name], rtol=1e-5, atol=1e-5)
        else:
            for line, twin in zip(lines(content), lines(both[path]), strict=True):
                for name, value in line.items():
                    np.testing.assert_allclose(twin[name], value, rtol=1e-4, atol=1e-5, err_msg=f"{path} {name}")

    arm = ("--arms", "Prompt Tuning")
    stopped = start(file, again, *arm)
    checkpoint(stopped, again, [])
    stopped[1].send_signal(signal.SIGTERM)
    (status, _, errors), (other_status, _, other_errors) = ended(stopped)
    assert (status, other_status) == (0, 0), errors + other_errors
    assert STOPPED in errors and STOPPED not in other_errors and not (again / "results.jsonl").exists()

    killed = start(file, again, *arm)
    checkpoint(killed, again, [path.parts[-3] for path in again.glob("cells/.*.partial/*/[0-9]*/default/_METADATA")])
    killed[1].kill()
    begin = time.monotonic()
    (status, _, errors), _ = ended(killed)
    assert status != 0 and time.monotonic() - begin < ENDS, errors
    assert not (again / "results.jsonl").exists()

    for status, _, errors in ended(start(file, again, *arm)):
        assert status == 0, errors
    assert contents(again) == {path: content for path, content in both.items() if "Prompt_Tuning" in path}


def test_a_process_that_finds_no_other_ends_with_a_sentence():
    words = ["--coordinator", "127.0.0.1:9", "--num-processes", "2", "--process-id", "1", "--initialization-timeout"]
    result = subprocess.run([sys.executable, "-m", "train.tables", "nowhere", *words, "2"], cwd=grids.REPOSITORY,
                            capture_output=True, text=True, timeout=60, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1
    assert "the processes have not met within 2 s (--coordinator 127.0.0.1:9, --num-proc" in result.stderr


def test_what_is_told_of_other_processes_may_stand_anywhere():
    told, rest = cli.take_processes(["x.py", "--process-id", "1", "--seeds", "1", "2", "--coordinator=a:1",
                                     "--local-device-ids", "2,3", "--num-processes", "4", "--", "--process-id", "7"])
    assert told == world.Processes("a:1", 4, 1, (2, 3))
    assert rest == ["x.py", "--seeds", "1", "2", "--", "--process-id", "7"]
    assert cli.take_processes(["x.py"]) == (world.Processes(), ["x.py"])
    with pytest.raises(UserError, match="--num-processes: invalid int value: 'x'; give one"):
        cli.take_processes(["--num-processes", "x"])


def test_processes_that_do_not_fit_together_are_refused_and_one_alone_joins_nothing():
    world.initialize(world.Processes(num_processes=1, coordinator="nowhere:1"))
    with pytest.raises(UserError, match=r"the processes cannot meet: .* \(--coordinator 127.0.0.1:9, --num-"):
        world.initialize(world.Processes("127.0.0.1:9", 2, 2))
    assert world.count() == 1 and world.leads() and world.led(lambda: 3) == 3
