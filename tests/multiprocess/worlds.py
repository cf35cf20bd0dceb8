"""A small main job run by several processes over loopback, for tests and scripts that stop and kill them."""

import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np

from dawgen_jax import prompts
from dawgen_jax.config import BackboneConfig, Config
from dawgen_jax.io import world
from tests.pipeline import grids
from tests.pipeline.conftest import small_config, write_backbone

ENDS = 3.0 * world.HEARTBEAT
"""Seconds in which the others end once one is killed: a broken connection ends them at once, its silence after
``world.HEARTBEAT``, and those that are done wait twice as long for it at their end."""


def write_job(root: pathlib.Path) -> tuple[pathlib.Path, Config]:
    """(config file, config) of a job with every stage, whose first arm has many short steps."""
    write_backbone(root / "random0", 0)
    config = small_config([BackboneConfig(str(root / "random0"))])
    config = dataclasses.replace(
        config, seeds=(13,), devices=0, arms=("Prompt Tuning", "FewGen: Syn only"),
        classifier=dataclasses.replace(config.classifier, real_steps=24, real_eval_every=12))
    grids.write_config(root / "short.py", config)
    return root / "short.py", config


def start(config: pathlib.Path, out: pathlib.Path, *more: str, count: int = 2, devices: int = 1
          ) -> list[subprocess.Popen]:
    """``python -m train.run`` in processes of so many devices each; compiled programs are kept for the next start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_COMPILATION_CACHE_DIR": str(config.parent / "programs")}
    words = [sys.executable, "-m", "train.run", str(config), "--out", str(out), "--coordinator", f"127.0.0.1:{port}",
             "--num-processes", str(count), "--initialization-timeout", "120", *more, "--process-id"]
    return [subprocess.Popen([*words, str(number)], cwd=grids.REPOSITORY, env=environment, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True) for number in range(count)]


def ended(processes: list[subprocess.Popen], within: float = 300.0) -> list[tuple[int, str, str]]:
    """Status, output and errors of each."""
    try:
        outputs = [process.communicate(timeout=within) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def contents(root: pathlib.Path) -> dict[str, bytes]:
    names = ("prompts.safetensors", "prompt.safetensors", "train.jsonl", "predictions.json", "metrics.jsonl")
    return {str(path.relative_to(root)): path.read_bytes() for name in names for path in root.rglob(name)}


def assert_alike(one: pathlib.Path, other: pathlib.Path, count: int = 9) -> None:
    """Two runs of the job have so many files of results: the same samples and predictions, and prompts and metrics that
    differ by rounding."""
    whole, both = contents(one), contents(other)
    assert whole.keys() == both.keys() and len(whole) == count
    for path, content in whole.items():
        if path.endswith(("train.jsonl", "predictions.json")):
            assert both[path] == content, path
        elif path.endswith(".safetensors"):
            arrays, others = prompts.load(one / path), prompts.load(other / path)
            for name in arrays:
                np.testing.assert_allclose(others[name], arrays[name], rtol=1e-5, atol=1e-5)
        else:
            for line, twin in zip(_lines(content), _lines(both[path]), strict=True):
                for name, value in line.items():
                    np.testing.assert_allclose(twin[name], value, rtol=1e-4, atol=1e-5, err_msg=f"{path} {name}")


def _lines(content: bytes) -> list[dict]:
    return [json.loads(line) for line in content.decode().splitlines()]
