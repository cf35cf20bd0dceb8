"""Processes that write a synthetic set together: each its own samples, and together the set that one process writes."""

import collections
import dataclasses
import json
import os
import socket
import subprocess
import sys

import pytest

from dawgen_jax import prompts
from dawgen_jax.config import BackboneConfig, MeshConfig
from dawgen_jax.pipeline import inputs, sets
from dawgen_jax.pipeline.generators import start_prompts
from dawgen_jax.pipeline.job import Job
from dawgen_jax.training.placement import Placement, Team, apart
from tests.pipeline import grids
from tests.pipeline.conftest import small_config, write_backbone


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The folder of a generator that was not tuned and of config files: copies of the model, or one that is cut."""
    root = tmp_path_factory.mktemp("generation")
    write_backbone(root / "random0", 0)
    config = small_config([BackboneConfig(str(root / "random0"))])
    config = dataclasses.replace(config, seeds=(13,), devices=0, synthesis=dataclasses.replace(
        config.synthesis, temperature=0.8, score=True))
    backbone = inputs.load_backbone(config.generator.backbone, Placement.on(1))
    prompts.save(root / "prompts.safetensors", start_prompts(inputs.find_task("mini-snli"), backbone, 3, seed=13))
    for name, mesh in (("copies", MeshConfig()), ("cut", MeshConfig(fsdp=2))):
        grids.write_config(root / f"{name}.py", dataclasses.replace(config, mesh=mesh))
    return root


def write(root, name, out, count=2, end=""):
    """The status and the printed lines of each of the processes, of one device each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_COMPILATION_CACHE_DIR": str(root / "programs")}
    words = [sys.executable, "-m", "tests.multiprocess.writer", root / f"{name}.py", out, str(port), str(count)]
    processes = [subprocess.Popen([*words, str(number), *[end] * (number == count - 1)], cwd=grids.REPOSITORY,
                                  env=environment, stdout=subprocess.PIPE, text=True) for number in range(count)]
    try:
        outputs = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], [
        [json.loads(line) for line in output if "[Gloo]" not in line] for output in outputs]


def content(out):
    (path,) = out.glob("synthetic/[!.]*/train.jsonl")
    return path.read_bytes()


def test_processes_write_their_own_samples_and_together_the_set_of_one(root, tmp_path):
    import runpy

    config = runpy.run_path(str(root / "copies.py"))["get_config"]()
    given = inputs.read_task("mini-snli", config, generates=True)
    sets.synthesize(Job.start(dataclasses.replace(config, devices=2), tmp_path / "one"), given, "FewGen", [root])
    whole = content(tmp_path / "one")

    status, _ = write(root, "copies", tmp_path / "two", end="shard-00001.part1.jsonl")
    assert status[0] != 0 and status[1] == 9
    (partial,) = tmp_path.glob("two/synthetic/.*.partial")
    assert sorted(path.name for path in partial.iterdir())[:2] == ["shard-00000.jsonl", "shard-00001.part0.jsonl"]
    (tmp_path / "alone").symlink_to(tmp_path / "two")
    status, printed = write(root, "copies", tmp_path / "two")
    assert status == [0, 0] and content(tmp_path / "two") == whole
    assert [lines.pop() for lines in printed] == 2 * ["no memory of 1."]
    names = [[name for name, _ in lines] for lines in printed]
    assert names[1] == ["shard-00001.part1.jsonl"], names
