"""What all programs have in common: help, mistakes, --quiet, --seed, --device, the first screen, a closed pipe."""

import dataclasses
import importlib
import logging
import os
import pathlib
import runpy
import subprocess
import sys

import pytest

from dawgen_jax.cli import __main__ as command
from dawgen_jax.cli import options, process, run
from dawgen_jax.config import BackboneConfig, Config, load_config
from dawgen_jax.errors import UserError
from dawgen_jax.pipeline import main as pipeline
from dawgen_jax.pipeline.plan import outline, plan, steps
from tests.pipeline.conftest import small_config, write_backbone
from tests.pipeline.grids import write_config

REPOSITORY = pathlib.Path(__file__).parents[2]
COMMANDS = sorted(set(command.COMMANDS) - {"backbone"})


def module(name):
    return importlib.import_module(f"dawgen_jax.cli.{name}")


@pytest.fixture(autouse=True)
def loud():
    """The level of the project's logger as a program sets it, and as it was afterwards."""
    logger = logging.getLogger("dawgen_jax")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield logger
    logger.setLevel(before)


OLD_NAMES = {
    "run": "run", "grid": "run", "tune_generator": "run", "synthesize": "run", "tune_prompt": "run",
    "predict": "predict", "evaluate": "evaluate", "quality": "quality", "tables": "tables", "diff": "diff",
    "export": "export", "compile": "compile", "check_task": "check", "check_backbone": "backbone check",
    "convert": "backbone convert"}


def test_every_old_name_is_a_shim_of_a_command(monkeypatch, capsys):
    assert {path.stem for path in (REPOSITORY / "train").glob("[a-z]*.py")} == {*OLD_NAMES, "pretrain", "launch"}
    for old, new in OLD_NAMES.items():
        monkeypatch.setattr(sys, "argv", [old, "--help"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(f"train.{old}", run_name="__main__")
        assert ended.value.code == 0 and f"dawgen {new}" in capsys.readouterr().out, old


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_command_does_and_its_exit_statuses(name, capsys):
    with pytest.raises(SystemExit) as ended:
        module(name).main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0 and "None" not in shown.partition("options")[0]
    assert module(name).__doc__.splitlines()[0] in shown and process.EXITS[:60] in shown
    assert shown.count(" --") < 40


def test_help_of_every_field():
    shown = program(f"{sys.executable} -m dawgen_jax.cli run mini --help-all").stdout
    assert "--classifier.prompt-length" in shown and "--help-all" not in program(
        f"{sys.executable} -OO -m dawgen_jax.cli run mini --help-all").stdout
    assert "\nNone" not in program(f"{sys.executable} -OO -m dawgen_jax.cli run --help").stdout


@pytest.mark.parametrize("line", [
    "predict a b --colour red", "predict a b c", "predict a b --device tpx", "predict a", "export",
    "quality set --real", "quality set --real file --seed x", "run mini more", "run mini --classifier.epsilon x",
    "run mini --classifier.epsilon -3", "run mini --clasifier.num_steps 3", "run mini --out"])
def test_options_that_do_not_fit_end_with_status_2_and_name_the_option(line, capsys):
    name, *words = line.split()
    with pytest.raises(SystemExit) as ended:
        module(name).main(words)
    told = capsys.readouterr()
    assert ended.value.code == 2 and "Traceback" not in told.err and told.out == ""
    assert any(word.lstrip("-") in told.err for word in words) or "required" in told.err


def program(line):
    """A command line in bash, whose status is that of the first program in it; Python buffers what is printed."""
    return subprocess.run(["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"], cwd=REPOSITORY, capture_output=True,
                          text=True, timeout=120, env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": ""})


@pytest.mark.parametrize("line", [
    "train.run --help | head -1", "dawgen_jax.cli --help | true", "train.diff mini | true"])
def test_a_reader_that_has_enough_is_no_fault(line):
    result = program(f"{sys.executable} -m {line}")
    assert result.stderr == "" and result.returncode in (0, 141)  # 0 where all was written before it ended


def test_a_fault_is_told_though_nobody_reads_standard_output():
    result = program(f"{sys.executable} -c 'import time; from dawgen_jax.cli import process; process.guard("
                     "lambda words: (print(1), time.sleep(0.5), print(1 / 0)), [])' | true")
    assert result.returncode == 1 and "ZeroDivisionError" in result.stderr
    result = program(f"{sys.executable} -c 'import time\nfrom dawgen_jax.cli import process\ndef main(words):\n"
                     "    time.sleep(0.5)\n    print(1, flush=True)\nprocess.guard(main, [])' | true")
    assert (result.returncode, result.stderr) == (141, "")


def test_a_device_that_is_not_there_is_one_sentence():
    result = program(f"{sys.executable} -m train.evaluate mini --device tpu")
    assert result.returncode == 2 and result.stderr.startswith("error: --device tpu: JAX finds no such device; install")
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A config file of two quick arms and two seeds on a random backbone."""
    root = tmp_path_factory.mktemp("small")
    write_backbone(root / "random0", 0)
    config = small_config([BackboneConfig(str(root / "random0"))])
    write_config(root / "small.py", dataclasses.replace(config, arms=("Prompt Tuning", "Prompting (zero-shot)")))
    return root / "small.py"


@pytest.mark.parametrize("variable", ["JAX_PLATFORMS=cuda", "JAX_PLATFORMS=tpu", "JAX_PLATFORM_NAME=gpu"])
def test_a_platform_of_the_environment_that_is_not_there_is_one_sentence(variable):
    result = program(f"env -u JAX_PLATFORMS {variable} {sys.executable} -m dawgen_jax.cli run mini --dry-run")
    assert result.returncode == 2 and "error: JAX_PLATFORMS: JAX cannot start the platform" in result.stderr
    assert "Traceback" not in result.stderr


def test_one_seed_and_a_device_that_is_there(small):
    config = options.parse_config([str(small), "--seed", "5", "--device", "cpu"], "").config
    assert config.seeds == (5,)
    assert options.parse_config([str(small)], "")[0].seeds == (13, 21)
    with pytest.raises(UserError, match=r"Config\.seeds"):
        options.parse_config([str(small), "--seed", "-1"], "")


def test_a_shipped_config_goes_by_its_name_and_a_file_of_that_name_is_named_as_a_path(tmp_path, monkeypatch):
    assert options.parse_config(["mini"], "")[1] == pathlib.Path("runs/mini")
    monkeypatch.chdir(tmp_path)
    pathlib.Path("mini.py").write_text("from dawgen_jax.config import Config\ndef get_config():\n"
                                       "    return Config(name='mine')\n")
    assert load_config("mini").name == "mini" and load_config("mini.py").name == "mine"
    with pytest.raises(UserError, match=r"is a folder, not a configuration; name a configuration first"):
        load_config(str(tmp_path))
    pathlib.Path("reviews.csv").write_text("text,label\n")
    with pytest.raises(UserError, match=r"is a Python file .*own_task --data reviews\.csv"):
        load_config("reviews.csv")


def test_a_run_begins_with_its_plan_and_says_what_it_waits_for(small, tmp_path, caplog, capsys, loud):
    caplog.set_level(logging.INFO, logger="dawgen_jax")
    run.main([str(small), "--out", str(tmp_path), "--seed", "13"])
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "mini-snli: 1 stage, 1 seed (13)"
    assert lines[1].startswith("  1. tune and score on random0: 2 arms, 2 cells (0 finished)")
    assert str(tmp_path) in lines[3] and "once the first updates are timed" in lines[3]
    assert any(line.startswith("run Prompt Tuning: done in ") for line in lines)
    told = capsys.readouterr().err
    assert "stage 1/1, arm 1/2: mini-snli Prompt Tuning: 0 of 4 updates, compiling\n" in told and "\r" not in told
    caplog.clear()
    run.main([str(small), "--out", str(tmp_path), "--seed", "13", "--quiet"])
    shown = capsys.readouterr()
    assert (caplog.records, shown.err) == ([], "") and "Prompt Tuning" in shown.out
    caplog.clear()
    logging.getLogger("dawgen_jax").setLevel(logging.INFO)  # --quiet has set another
    run.main([str(small), "--out", str(tmp_path), "--seed", "13"])
    lines = [record.getMessage() for record in caplog.records]
    assert "2 cells (2 finished)" in lines[1] and "Everything is finished" in lines[3]
    assert not any("compiler" in line or " left" in line or "told" in line for line in lines)


def test_the_outline_has_a_line_per_stage_and_the_steps_follow_it():
    config = Config(arms=("Prompt Tuning", "DawGen: (Real, Syn) + GS", "SPoT"), seeds=(1, 2))
    planned = plan(config, pipeline.units_of(config))
    lines = outline(config, planned)
    assert lines[0] == "mini-snli: 4 stages, 2 seeds (1, 2)" and len(lines) == 6
    assert lines[5] == "  prompts: 100 vocabulary rows before the text, adafactor at 0.3"
    assert lines[1].startswith("  1. tune generators on mini-t5 (DawGen): 480 updates, 2 seeds")
    assert "5000 samples per label and seed" in lines[2] and "(SPoT)" in lines[3]
    assert "3 arms, 6 cells (0 finished)" in lines[4]
    found = steps(config, planned)
    assert {key: step.place for key, step in found.items()} == {
        ("generators", "mini-snli", "DawGen"): "stage 1/4", ("sets", "mini-snli", "DawGen"): "stage 2/4",
        ("sources", "mini-snli", "SPoT"): "stage 3/4", ("cells", "mini-snli", "Prompt Tuning"): "stage 4/4, arm 1/3",
        ("cells", "mini-snli", "DawGen: (Real, Syn) + GS"): "stage 4/4, arm 2/3",
        ("cells", "mini-snli", "SPoT"): "stage 4/4, arm 3/3"}
    assert found["generators", "mini-snli", "DawGen"].units == 480
    assert found["sets", "mini-snli", "DawGen"].units == 2 * 3 * 5000
    assert all(step.operations > 0 and step.units > 0 for step in found.values())


def test_finished_cells_cost_nothing_and_the_generator_is_charged_for_its_losses():
    config = Config(arms=("FewGen: (Real, Syn)", "DawGen: (Real, Syn)"), seeds=(1, 2))
    planned = plan(config, pipeline.units_of(config))
    whole = steps(config, planned)
    left = steps(config, [line._replace(finished=1) for line in planned])
    for key, step in left.items():
        assert step.operations == whole[key].operations * (0.5 if key[0] == "cells" else 1)
    assert whole["generators", "mini-snli", "DawGen"].operations > whole["generators", "mini-snli", "FewGen"].operations


def test_no_field_of_a_difference_is_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    module("diff").main(["mini", "paper"])
    assert " synthesis.samples_per_label " in capsys.readouterr().out


WITHOUT_TORCH = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else find(name, package)
import dawgen_jax
from dawgen_jax.backbones.tokens import read_tokenizer
read_tokenizer("dawgen_jax/miniworld/backbones/mini-t5")
import transformers
assert not transformers.is_torch_available()
"""


def test_nothing_is_said_about_pytorch_where_it_is_missing():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], cwd=REPOSITORY, capture_output=True, text=True,
                          timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")
