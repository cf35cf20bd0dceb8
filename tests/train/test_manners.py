"""What all programs have in common: help, mistakes, --quiet, --seed, --device, the first screen, a closed pipe."""

import dataclasses
import importlib
import io
import logging
import math
import os
import pathlib
import subprocess
import sys

import pytest

from dawgen_jax.config import BackboneConfig, Config
from dawgen_jax.errors import UserError
from dawgen_jax.pipeline import main as pipeline
from dawgen_jax.pipeline.plan import outline, plan, product_rate, time_left
from tests.pipeline.conftest import small_config, write_backbone
from tests.pipeline.grids import write_config
from train import __main__ as command
from train import cli, run

REPOSITORY = pathlib.Path(__file__).parents[2]
PROGRAMS = sorted(command.programs())


def module(name):
    return importlib.import_module(f"train.{name.replace('-', '_')}")


@pytest.fixture(autouse=True)
def loud():
    """The level of the project's logger as a program sets it, and as it was afterwards."""
    logger = logging.getLogger("dawgen_jax")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield logger
    logger.setLevel(before)


def test_every_module_with_a_main_is_a_program():
    assert {"run", "grid", "predict", "check-backbone", "tables", "evaluate"} <= set(PROGRAMS)
    assert {path.stem for path in (REPOSITORY / "train").glob("[a-z]*.py")} - {"cli"} == {
        name.replace("-", "_") for name in PROGRAMS}


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_says_what_a_program_does_and_its_exit_statuses(name, capsys):
    with pytest.raises(SystemExit) as ended:
        module(name).main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert module(name).__doc__.splitlines()[0].partition(":")[0] in shown and cli.EXITS in shown


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("words", [[], ["nowhere/nothing", "nowhere/else"], ["nowhere/nothing", "--colour", "red"]])
def test_a_mistake_is_told_without_a_traceback(name, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as ended:
        module(name).main(words)
    assert str(ended.value).strip() and "\n" not in str(ended.value) and capsys.readouterr().err == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("line", "message"), [
    ("predict a b --colour red", "Unrecognized options: --colour, red"),
    ("predict a b c", "Unrecognized options: c"),
    ("predict a b --quite", "Unrecognized options: --quite; Perhaps you meant: --quiet"),
    ("predict a b --device tpx",
     "invalid choice 'tpx' for argument '--device', expected one of ('', 'cpu', 'gpu', 'tpu')"),
    ("predict a", "Missing from PROGRAM: FILE"),
    ("export", "Missing from PROGRAM: PATH, PATH"),
    ("quality set --rael file", "Missing from PROGRAM: --real PATH; Unrecognized options: --rael, file"),
    ("quality set --real", "Missing value for argument '--real', expected 1 values"),
    ("quality set --real file --seed x", "--seed: invalid literal for int() with base 10: 'x'"),
    ("run mini more", "Unrecognized options: more"),
    ("run mini --classifier.epsilon x", "--classifier.epsilon: could not convert string to float: 'x'"),
    ("run mini --classifier.epsilon -3", "config.classifier: ClassifierConfig.epsilon = -3.0: must be 0 or more"),
])
@pytest.mark.parametrize("screen", ["a terminal", "a file", "ASCII alone"])
def test_options_that_do_not_fit_are_one_sentence(line, message, screen, monkeypatch):
    name, *words = line.split()
    monkeypatch.setattr(sys, "argv", ["PROGRAM"])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii" if screen == "ASCII alone" else "utf-8"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: screen == "a terminal", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(UserError) as ended:
        module(name).main(words)
    assert str(ended.value) == f"{message} (--help lists all)."
    with pytest.raises(UserError, match=r"^Unrecognized options: .{370,390}\.\.\. \(--help lists all\)\.$"):
        module("run").main(["mini", "more" * 200])


def test_such_a_sentence_ends_a_program_with_status_2():
    result = program(f"{sys.executable} -m train.predict a b --device tpx")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == ("error: invalid choice 'tpx' for argument '--device', expected one of ('', 'cpu', 'gpu', "
                             "'tpu') (--help lists all).\n")


def program(line):
    """A command line in bash, whose status is that of the first program in it; Python buffers what is printed."""
    return subprocess.run(["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"], cwd=REPOSITORY, capture_output=True,
                          text=True, timeout=120, env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": ""})


@pytest.mark.parametrize("line", ["train.run --help | head -1", "train --help | true", "train.diff mini | true"])
def test_a_reader_that_has_enough_is_no_fault(line):
    result = program(f"{sys.executable} -m {line}")
    assert result.stderr == "" and result.returncode in (0, 141)  # 0 where all was written before it ended


def test_a_fault_is_told_though_nobody_reads_standard_output():
    result = program(f"{sys.executable} -c 'import train.cli, time; train.cli.guard(lambda words: (print(1), "
                     "time.sleep(0.5), print(1 / 0)))' | true")
    assert result.returncode == 1 and "ZeroDivisionError" in result.stderr
    result = program(f"{sys.executable} -c 'import train.cli, time\ndef main(words):\n    time.sleep(0.5)\n"
                     "    print(1, flush=True)\ntrain.cli.guard(main)' | true")
    assert (result.returncode, result.stderr) == (141, "")


def test_a_device_that_is_not_there_is_one_sentence():
    result = program(f"{sys.executable} -m train.evaluate mini --device tpu")
    assert result.returncode == 2 and result.stderr.startswith("error: --device tpu: JAX finds none here; install")
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A config file of two quick arms and two seeds on a random backbone."""
    root = tmp_path_factory.mktemp("small")
    write_backbone(root / "random0", 0)
    config = small_config([BackboneConfig(str(root / "random0"))])
    write_config(root / "small.py", dataclasses.replace(config, arms=("Prompt Tuning", "Prompting (zero-shot)")))
    return root / "small.py"


def test_one_seed_and_a_device_that_is_there(small):
    config, _ = cli.parse([str(small), "--seed", "5", "--device", "cpu"], "")
    assert config.seeds == (5,)
    assert cli.parse([str(small)], "")[0].seeds == (13, 21)
    with pytest.raises(UserError, match=r"Config\.seeds"):
        cli.parse([str(small), "--seed", "-1"], "")


def test_a_shipped_config_goes_by_its_name_and_a_file_of_that_name_is_named_as_a_path(tmp_path, monkeypatch):
    assert cli.parse(["mini"], "")[1] == pathlib.Path("runs/mini")
    monkeypatch.chdir(tmp_path)
    pathlib.Path("mini.py").write_text("from dawgen_jax.config import Config\ndef get_config():\n"
                                       "    return Config(name='mine')\n")
    assert cli.load_config("mini").name == "mini" and cli.load_config("mini.py").name == "mine"
    with pytest.raises(UserError, match=r"is a folder, not a config; give one first, for instance mini, and folders"):
        cli.load_config(str(tmp_path))


def test_a_run_begins_with_its_plan_and_says_what_it_waits_for(small, tmp_path, caplog, capsys, loud):
    caplog.set_level(logging.INFO, logger="dawgen_jax")
    run.main([str(small), "--out", str(tmp_path), "--seed", "13"])
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "mini-snli: 1 stage, 1 seed (13)"
    assert lines[1].startswith("  1. tune and score on random0: 2 arms, 2 cells (0 finished)")
    assert "is told when a first arm is tuned" in lines[2]
    assert str(tmp_path) in lines[3] and "compiler" in lines[3]
    (done,) = (place for place, line in enumerate(lines) if line.startswith("run Prompt Tuning: done in "))
    assert lines[done + 1] == "about 1 minute left, by the cells that are finished"
    assert "compiling" in capsys.readouterr().err
    caplog.clear()
    run.main([str(small), "--out", str(tmp_path), "--seed", "13", "--quiet"])
    shown = capsys.readouterr()
    assert (caplog.records, shown.err) == ([], "") and "Prompt Tuning" in shown.out
    caplog.clear()
    logging.getLogger("dawgen_jax").setLevel(logging.INFO)  # --quiet has set another
    run.main([str(small), "--out", str(tmp_path), "--seed", "13"])
    lines = [record.getMessage() for record in caplog.records]
    assert "2 cells (2 finished)" in lines[1] and "All of it is finished" in lines[2]
    assert not any("compiler" in line or " left" in line or "told" in line for line in lines)


def test_the_outline_has_a_line_a_stage():
    config = Config(arms=("Prompt Tuning", "DawGen: (Real, Syn) + GS", "SPoT"), seeds=(1, 2))
    planned = plan(config, pipeline.units_of(config))
    flops = sum(line.flops for line in planned)
    assert outline(config, planned, flops / 10)[5] == "  how long that takes is told when a first arm is tuned"
    lines = outline(config, planned, flops / 60)
    assert lines[0] == "mini-snli: 4 stages, 2 seeds (1, 2)"
    assert lines[1].startswith("  1. tune generators on mini-t5 (DawGen): 480 updates, 2 seeds")
    assert "5000 pairs a label and seed" in lines[2] and "(spot)" in lines[3].lower()
    assert "3 arms, 6 cells (0 finished)" in lines[4] and len(lines) == 6
    assert lines[5].startswith("  2 minutes for the updates of the last stage, as a rough guess: ")
    assert 1e8 < product_rate("bfloat16", 64) < 1e16


@pytest.mark.parametrize(("seconds", "finished", "said"), [
    (3.0, 0, "about 1 minute left, by the cells that are finished; generators and synthetic sets come on top"),
    (400.0, 1, "about 3 minutes left, by the cells that are finished"), (400.0, 2, ""), (math.nan, 0, "")])
def test_the_time_left_is_told_from_measured_cells(seconds, finished, said):
    config = Config(arms=("DawGen: (Real, Syn)",), seeds=(1, 2))
    (line,) = plan(config, pipeline.units_of(config))
    assert time_left([line._replace(seconds=seconds, finished=finished)]) == said


def test_no_field_of_a_difference_is_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    module("diff").main(["mini", "paper"])
    assert " synthesis.samples_per_label " in capsys.readouterr().out


WITHOUT_TORCH = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else find(name, package)
import train
from dawgen_jax.backbones.tokens import read_tokenizer
read_tokenizer("dawgen_jax/miniworld/backbones/mini-t5")
import transformers
assert not transformers.is_torch_available()
"""


def test_nothing_is_said_about_pytorch_where_it_is_missing():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], cwd=REPOSITORY, capture_output=True, text=True,
                          timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")
