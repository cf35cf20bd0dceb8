"""Processes that write a synthetic set together: each its own samples, and together the set that one process writes."""

import collections
import dataclasses
import json
import os
import runpy
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from dawgen_jax import prompts
from dawgen_jax.backbones.base import AXES, Work
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.config import BackboneConfig, MeshConfig
from dawgen_jax.pipeline import inputs, sets
from dawgen_jax.pipeline.generators import start_prompts
from dawgen_jax.pipeline.job import Job
from dawgen_jax.training.placement import Placement, Team, disjoint
from tests import tiny
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


def alone(root, name, out):
    """What one process of two devices writes, or finishes."""
    config = dataclasses.replace(runpy.run_path(str(root / f"{name}.py"))["get_config"](), devices=2)
    given = inputs.read_task("mini-snli", config, generates=True)
    sets.synthesize(Job.start(config, out), given, "FewGen", [root])
    return content(out)


def test_a_set_that_two_processes_begin_and_one_finishes_is_that_of_one(root, tmp_path):
    """Process 1 is gone when it has written its part of the second shard."""
    whole = alone(root, "copies", tmp_path / "one")
    status, printed = write(root, "copies", tmp_path / "two", end="shard-00001.part1.jsonl")
    assert status[0] != 0 and status[1] == 9
    assert [lines.pop(0) for lines in printed] == 2 * [["1 fails.", [0, 1]]]

    (begun,) = tmp_path.glob("two/synthetic/.*.partial")
    assert (begun / "shard-00001.part1.jsonl").is_file() and not (begun / "shard-00001.jsonl").exists()
    made = [{name: {tuple(one) for one in samples} for name, samples in lines} for lines in printed]
    joined = made[0].pop("shard-00000.jsonl")
    assert made[0].keys() >= {"shard-00000.part0.jsonl"} and made[1].keys() == {
        "shard-00000.part1.jsonl", "shard-00001.part1.jsonl"}
    own = made[0]["shard-00000.part0.jsonl"], made[1]["shard-00000.part1.jsonl"]
    assert own[0] | own[1] == joined and not own[0] & own[1] and len(joined) == 9

    shard = (begun / "shard-00000.jsonl").stat().st_mtime_ns, (begun / "shard-00000.jsonl").read_bytes()
    os.link(begun / "shard-00000.jsonl", tmp_path / "kept")
    assert alone(root, "copies", tmp_path / "two") == whole
    assert ((tmp_path / "kept").stat().st_mtime_ns, (tmp_path / "kept").read_bytes()) == shard, "made again"


def test_processes_that_share_parameters_write_the_set_of_one_together(root, tmp_path):
    status, printed = write(root, "cut", tmp_path / "two")
    assert status == [0, 0] and content(tmp_path / "two") == alone(root, "cut", tmp_path / "one")
    assert [[name for name, _ in lines[1:]] for lines in printed] == [["shard-00000.jsonl", "shard-00001.jsonl"], []]


def test_teams_share_no_process_and_a_process_has_one_team():
    assert disjoint([{0}]) == disjoint([{5}]) == [[0]]
    assert disjoint([{process} for process in range(4) for _ in range(2)]) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert disjoint([{0, 1}, {2, 3}, {0, 1}, {2, 3}]) == [[0, 2], [1, 3]]  # rows of chips that cross hosts
    assert disjoint([{0}, {1}, {0, 2}, {1, 3}, {2}, {3}]) == [[0, 2, 4], [1, 3, 5]]
    assert disjoint([{0, 1}, {1, 2}, {2, 3}]) == [[0, 1, 2]]  # each shares with the next
    assert disjoint([{0}, {1}, {1}]) == [[0, 1, 2]]  # no equal parts
    placement = Placement.on(8, MeshConfig(fsdp=2))
    assert placement.team() == Team(0, 1, placement)


@pytest.mark.parametrize("teams", [1, 2, 3, 4, 6])
def test_every_sample_is_one_teams_and_each_has_as_many_of_every_label(teams):
    owners = {(label, index): [number for number in range(teams) if Team(number, teams, None).shares(label, index)]
              for label in range(3) for index in range(12)}
    assert {len(own) for own in owners.values()} == {1}
    each = collections.Counter((label, own[0]) for (label, _), own in owners.items())
    assert set(each.values()) == {12 // teams} and len(each) == 3 * teams


def test_decoders_of_teams_give_the_bits_of_one_on_all_devices():
    random, prompt = np.random.default_rng(3), np.random.default_rng(4).normal(size=(3, 2, 16)).astype(np.float32)
    work = [Work(i % 3, i, random.integers(2, 38, 8), None, Sampling(temperature=i % 2, max_new_tokens=8))
            for i in range(40)]
    wide = Placement.on(2)
    theta = wide.put(tiny.theta(), tiny.MODEL)

    def embed(theta, label_prompts, rows):
        return prompts.insert(theta, rows.source, rows.mask, label_prompts[rows.label], model=tiny.MODEL)

    def made(placement, work, teams):
        decoder = Decoder(tiny.MODEL, embed, eos_id=1, banned=(0,), slots=10, widths=(8,), max_new_tokens=8,
                          mesh=placement.mesh, teams=teams)
        own = placement.narrowed(theta)
        samples = sorted(decoder.generate(own, prompt, work, jax.random.key(0)), key=lambda one: one.index)
        items = {item.index: item for item in work}
        scores = decoder.score(own, prompt, [(items[one.index], one) for one in samples], 3)
        texts = {one.index: (one.tokens.tolist(), one.finished, score.tolist())
                 for one, score in zip(samples, scores, strict=True)}
        return texts, (teams * decoder.slots, teams * decoder.group(8))

    whole, shapes = made(wide, work, 1)
    halves = [Placement(Mesh(wide.mesh.devices[[number]], AXES)) for number in range(2)]
    parts = [made(half, [item for item in work if Team(number, 2, half).shares(item.label, item.index)], 2)
             for number, half in enumerate(halves)]
    assert parts[0][0] | parts[1][0] == whole and len(whole) == len(work)
    assert shapes == parts[0][1] == parts[1][1] == (10, 10)


def test_a_teams_parameters_are_the_parts_that_its_devices_hold():
    wide = Placement.on(8, MeshConfig(fsdp=2, tensor=2))
    theta = wide.put({"theta": tiny.theta()}, tiny.MODEL)["theta"]
    half = Placement(Mesh(wide.mesh.devices[[1]], AXES))
    for own, leaf in zip(jax.tree.leaves(half.narrowed(theta)), jax.tree.leaves(theta), strict=True):
        assert own.sharding.mesh == half.mesh and own.sharding.spec == leaf.sharding.spec
        np.testing.assert_array_equal(own, leaf)
        there = {shard.device: shard.data.unsafe_buffer_pointer() for shard in leaf.addressable_shards}
        here = {shard.device: shard.data.unsafe_buffer_pointer() for shard in own.addressable_shards}
        assert here.items() <= there.items() and len(here) == 4, "a copy"
    assert jax.tree.leaves(wide.narrowed(theta))[0] is jax.tree.leaves(theta)[0]
