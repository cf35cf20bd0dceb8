"""JAX's global switches change no result: commands with all of them set, beside commands with none."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

from dawgen_jax.config import BackboneConfig
from tests.pipeline.conftest import small_config, write_backbone
from tests.pipeline.grids import write_config

REPOSITORY = pathlib.Path(__file__).parents[2]
SWITCHES = {"JAX_ENABLE_X64": "1", "JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise",
            "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16", "JAX_DEFAULT_PRNG_IMPL": "rbg"}
TIMES = {"wall_seconds", "seconds", "train_seconds", "eval_seconds"}


def command(*words: str, **switches: str) -> str:
    """The output of ``dawgen WORDS``."""
    done = subprocess.run([sys.executable, "-m", "dawgen_jax.cli", *words], cwd=REPOSITORY, capture_output=True,
                          text=True, timeout=600, env=os.environ | {"JAX_PLATFORMS": "cpu"} | switches)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def without_times(value):
    """Parsed JSON without seconds and versions, which differ between any two runs or name the switches."""
    if isinstance(value, dict):
        return {name: without_times(part) for name, part in value.items() if name not in TIMES | {"versions"}}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def content(path: pathlib.Path):
    """What a file says, times apart."""
    if path.suffix not in (".json", ".jsonl"):
        return path.read_bytes()
    return [without_times(json.loads(line)) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else (
        without_times(json.loads(path.read_text())))


def test_a_run_has_the_same_results(tmp_path):
    write_backbone(tmp_path / "random0", 0)
    config = small_config([BackboneConfig(str(tmp_path / "random0"))])
    write_config(tmp_path / "short.py", dataclasses.replace(
        config, seeds=(13,), arms=("L_gen + L_dist: (Real, Syn) + GS",),
        generator=dataclasses.replace(config.generator, num_steps=2),
        # Drawn and truncated, so that random bits and every branch of sampling count.
        synthesis=dataclasses.replace(config.synthesis, samples_per_label=3, temperature=0.7, top_k=9, top_p=0.9),
        classifier=dataclasses.replace(config.classifier, num_steps=2)))
    plain, switched = tmp_path / "plain", tmp_path / "switched"
    command("run", str(tmp_path / "short.py"), "--out", str(plain), "--quiet")
    command("run", str(tmp_path / "short.py"), "--out", str(switched), "--quiet", **SWITCHES)
    files = {path.relative_to(plain) for path in plain.rglob("*") if path.is_file()}
    assert files == {path.relative_to(switched) for path in switched.rglob("*") if path.is_file()}
    compared = {path for path in files if path.name not in ("timings.json", "report.html")}
    assert {path.suffix for path in compared} >= {".safetensors", ".jsonl", ".json"}
    assert [str(path) for path in sorted(compared) if content(plain / path) != content(switched / path)] == []
    versions = [json.loads((run / "results.jsonl").read_text().splitlines()[0])["versions"]
                for run in (plain, switched)]
    assert versions[1] == versions[0] | {"matmul precision": "bfloat16"}  # GPUs and TPUs do round products to it


def test_a_backbone_passes_its_check(tmp_path):
    write_backbone(tmp_path, 0)
    report = json.loads(command("backbone", "check", str(tmp_path), "--json", **SWITCHES))
    assert report["passed"]
