"""The built wheel: what is in it, and that it works away from the repository, in an environment of its own."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

from dawgen_jax.cli.__main__ import COMMANDS

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
                    "--wheel-dir", str(folder), str(ROOT)], check=True, timeout=120)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The bin folder of a virtual environment with this wheel, and the packages of the one that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, system_site_packages=True)
    inner = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    pathlib.Path(inner, "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")  # whose own .pth are not read
    subprocess.run([sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet",
                    "--no-deps", "--no-index", "--ignore-installed", str(wheel)], check=True, timeout=120)
    return folder / "bin"


def test_everything_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (facts,) = (name for name in names if name.endswith("METADATA"))
        metadata, entries = (file.read(facts.replace("METADATA", name)).decode() for name in (
            "METADATA", "entry_points.txt"))
    here = {str(path.relative_to(ROOT)) for package in ("dawgen_jax",)
            for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert here <= names
    assert {"dawgen_jax/py.typed", "dawgen_jax/cli/run.py", "dawgen_jax/tasks/samples/MR/test.jsonl",
            "dawgen_jax/miniworld/backbones/mini-t5/model.safetensors"} <= here
    assert {f"dawgen_jax/{path.relative_to(ROOT)}" for path in (ROOT / "configs").glob("*.py")} <= names
    assert "Project-URL: Paper, https://arxiv.org/abs/2410.10865" in metadata
    assert "dawgen = dawgen_jax.cli.__main__:command" in entries
    assert {name.split("/")[0] for name in names} == {"dawgen_jax", facts.split("/")[0]}
    assert "License-Expression: Apache-2.0" in metadata and "License-File: LICENSE" in metadata
    assert f"{facts.split('/')[0]}/licenses/LICENSE" in names


def run(installed, folder, *words):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([str(installed / words[0]), *words[1:]], cwd=folder, capture_output=True, text=True,
                          timeout=120, env=environment | {"JAX_PLATFORMS": "cpu", "COLUMNS": "200"})


def test_the_command_lists_its_programs_and_knows_shipped_configs(installed, tmp_path):
    shown = run(installed, tmp_path, "dawgen", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert all(f"\n  {name} " in shown.stdout for name in COMMANDS)
    assert "Shipped configurations: english, mini, " in shown.stdout
    differs = run(installed, tmp_path, "dawgen", "diff", "mini")
    assert differs.returncode == 0 and "classifier.prompt_length" in differs.stdout, differs.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_is_this_wheel_and_says_what_is_wrong(installed, tmp_path):
    text = "import dawgen_jax as d; from dawgen_jax.config import load_config; print(d.__file__, load_config('mini'))"
    where, config = run(installed, tmp_path, "python", "-c", text).stdout.split(" ", 1)
    assert pathlib.Path(where).is_relative_to(installed.parent) and "name='mini'" in config
    for name in ("train.py", "configs/__init__.py"):  # a user's own files of these names are not imported
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('imported')")
    planned = run(installed, tmp_path, "dawgen", "run", "mini_evidence", "--dry-run")
    assert planned.returncode == 0 and "mini-qqp" in planned.stdout, planned.stderr
    for words, message in ((["rnu", "mini"], "error: 'rnu': unknown command; the nearest is run (dawgen --help lists"),
                           (["run", "mimi"], "error: mimi: no such configuration file; shipped are english, mini, ")):
        refused = run(installed, tmp_path, "dawgen", *words)
        assert refused.returncode == 2 and refused.stderr.startswith(message) and len(refused.stderr.splitlines()) == 1
    assert run(installed, tmp_path, "dawgen").returncode == 2
    assert run(installed, tmp_path, "dawgen", "--version").stdout.strip() == "0.1.0"
