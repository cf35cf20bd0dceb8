"""The programs' face: config files, overrides, and what a user's mistake looks like."""

import dataclasses
import logging
import os
import pathlib
import re
import runpy
import shlex
import signal
import subprocess
import sys

import jax
import pytest

from dawgen_jax.cli import options, process
from dawgen_jax.config import Config, load_config
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.pipeline.job import Job
from tools.pretrain import __main__ as pretrain
from tools.pretrain import pretraining

REPOSITORY = pathlib.Path(__file__).parents[2]
PRETRAIN_CONFIGS = sorted((REPOSITORY / "tools" / "pretrain").glob("mini_*.py"))
CONFIGS = sorted(set((REPOSITORY / "configs").glob("[a-z]*.py")) - set(PRETRAIN_CONFIGS))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_and_says_its_command(path):
    config = load_config(str(path))
    assert isinstance(config, Config) and config.name == path.stem  # its run directory is runs/NAME
    assert re.search(rf"(python -m train\.(run|grid) configs/{path.name}|dawgen run {path.stem}\b)", path.read_text())


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "short.py"
    path.write_text("from dawgen_jax.config import Config\n\ndef get_config():\n    return Config(seeds=(1, 2))\n")
    return str(path)


def test_overrides_reach_nested_fields_and_tuples(config_file):
    config, out, _ = options.parse_config([
        config_file, "--classifier.num-steps", "5", "--arms", "Prompt Tuning", "--seeds", "3",
        "--classifier.vmap_seeds", "False", "--out", "somewhere"], "")
    assert (config.classifier.num_steps, config.arms, config.seeds, out) == (
        5, ("Prompt Tuning",), (3,), pathlib.Path("somewhere"))
    assert not config.classifier.vmap_seeds
    config = options.parse_config([
        config_file, "--classifier.lora.targets", "key", "value", "--own.phrases", *"abcd",
        "--classifier.fine-tuning.learning-rates=0.1", "--generator.backbone.path", "x"], "").config
    assert (config.classifier.lora.targets, config.own.phrases) == (("key", "value"), (("a", "b"), ("c", "d")))
    assert (config.classifier.fine_tuning.learning_rates, config.generator.backbone.path) == ((0.1,), "x")
    assert options.parse_config([config_file], "")[1] == pathlib.Path("runs/short")
    assert options.parse_config([config_file, "--name", "other"], "")[1] == pathlib.Path("runs/other")


@pytest.mark.parametrize(("words", "message"), [
    (["--clasifier.num_steps", "3"], "--classifier.num-steps"),
    (["--out"], "--out"),
    (["--classifier.lora.rank", "8.5"], "--classifier.lora.rank"),
    (["--classifier.lora.targets", "q"], "--classifier.lora.targets"),
    (["--classifier.lora.rank", "0"], "LoraConfig.rank = 0"),
])
def test_wrong_words_are_refused(config_file, words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        options.parse_config([config_file, *words], "")
    assert ended.value.code == 2 and message in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"Config\.seeds = \(1, 1\): must have no repeats"):
        options.parse_config([config_file, "--seeds", "1", "1"], "")


@pytest.mark.parametrize(("text", "message"), [
    ("def get_config(:\n", ":1:"),
    ("x = 1\n", "no get_config"),
    ("def get_config():\n    return 3\n", "returned int"),
    ("from dawgen_jax.config import Config\ndef get_config():\n    return Config(sedes=(1,))\n", "sedes"),
    ("from dawgen_jax.config import Config\ndef get_config():\n    return Config(seeds=())\n", "py: Config.seeds"),
    ("def get_config():\n    return {}['x']\n", r"broken\.py:2: KeyError: 'x'; correct the file\."),
    ("get_config = 3\n", "no get_config"),
    ("import nothing_of_the_kind\n", r"broken\.py:1: ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
    ("def get_config():\n    raise ValueError('a\\nb')\n", r"broken\.py:2: ValueError: a b; correct"),
    ("\0", "broken.py"),
])
def test_a_broken_config_file_is_named(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_config(str(path))


def program(*words):
    """Run a program as a user does."""
    return subprocess.run([sys.executable, "-m", *words], cwd=REPOSITORY, capture_output=True, text=True,
                          env=os.environ | {"JAX_PLATFORMS": "cpu"}, timeout=120)


def test_a_users_mistake_is_one_sentence_and_status_2(tmp_path):
    result = program("train.run", "configs/mini.py", "--tasks", "mini-snil", "--out", str(tmp_path / "run"))
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "mini-snil" in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_a_path_that_cannot_be_used_and_an_escape_in_it_are_one_sentence():
    for path, message in (("a" * 300, "File name too long; correct that, or name another path."),
                          ("x\x1b[31m", r"x\x1b[31m: no such configuration file")):
        result = program("train.run", path)
        assert result.returncode == 2 and message in result.stderr and "\x1b" not in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("inside", ["", "run"])
def test_a_run_directory_cannot_be_a_file_or_in_one(config_file, inside):
    with pytest.raises(UserError, match=r"--out .*short\.py.*: cannot be used as a run directory \(.*\); name another"):
        Job.start(Config(devices=1), pathlib.Path(config_file) / inside)


def test_pretraining_reports_mistakes_alike_and_its_workers_import_no_jax():
    result = program("tools.pretrain", "configs/nothing.py")
    assert result.returncode == 2 and "Traceback" not in result.stderr and "configs/nothing.py" in result.stderr
    import_it = "import sys, tools.pretrain.__main__; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", import_it], cwd=REPOSITORY, timeout=60).returncode == 0


@pytest.mark.parametrize("path", PRETRAIN_CONFIGS, ids=lambda path: path.stem)
def test_every_pretraining_config_builds_and_says_its_command(path):
    config = runpy.run_path(str(path))["get_config"]()
    assert isinstance(config, pretraining.PretrainConfig) and (REPOSITORY / config.start).is_dir()
    assert f"python -m tools.pretrain tools/pretrain/{path.name}" in path.read_text()


def test_the_cards_command_gives_the_backbone_again(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(pretraining, "pretrain", lambda *_: {"documents": 3200})
    monkeypatch.setattr(pretraining, "planned", lambda config, *_: dataclasses.replace(
        config, minutes=0.0, documents=3200 if config.minutes else config.documents))
    monkeypatch.setattr(pretraining, "save_backbone", lambda folder, config, facts, command: seen.append(
        (config, command)))
    pretrain.main([str(REPOSITORY / "tools" / "pretrain" / "mini_t5.py"), "--minutes", "1", "--corpus.word_rate", "0.2",
                   "--corpus.seed", "7", "--out", str(tmp_path)])
    (config, command), = seen
    assert (config.minutes, config.documents, config.corpus.seed, config.corpus.word_rate) == (0.0, 3200, 7, 0.2)
    pretrain.main(shlex.split(command))
    assert seen[1][0] == config


@pytest.fixture
def no_compilation_cache():
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_keep_a_compilation_cache_and_leave_one_that_is_set(no_compilation_cache, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(logging.getLogger("dawgen_jax"), "setLevel", lambda level: None)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    process.start()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "dawgen_jax" / "xla")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    process.start()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")


def test_log_lines_of_a_program_are_plain_whatever_libraries_set_up():
    text = ("import logging, dawgen_jax.cli.evaluate\nfrom dawgen_jax.cli import process\n"
            "def main(argv):\n    process.start(argv)\n"
            "    logging.getLogger('dawgen_jax.a').warning('odd \\x1b[31m')\nprocess.guard(main, [])\n")
    done = subprocess.run([sys.executable, "-c", text], cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
                          env=os.environ | {"JAX_PLATFORMS": "cpu"})
    assert done.stderr.splitlines()[-1] == r"odd \x1b[31m"


STOPPED = "stopped; the same command resumes from what is finished or checkpointed.\n"
SLEEPING = "time.sleep(60)"
CAUGHT = """
    try:
        time.sleep(60)
    except BaseException as error:
        raise RuntimeError("lost") from error
"""
SAVING = """
    from dawgen_jax.io import world
    with world.listening():
        print("ready", flush=True)
        time.sleep(1)
        if world.stopping():
            raise world.Stopped
"""
POOL = """
    from tools.pretrain.corpus import CorpusConfig
    from tools.pretrain.pretraining import blocks
    for number, _ in enumerate(blocks(CorpusConfig(batch_size=8, block_batches=2), 0, 2)):
        if number == 5:
            print("ready", flush=True)
"""


def started(body):
    """A program with this body in a process group of its own, once it is at work."""
    text = f"import contextlib, time\nfrom dawgen_jax.cli import process\ndef main(argv):\n    {body.strip()}\n"
    if "ready" not in body:
        text = text.replace("main(argv):\n", "main(argv):\n    print('ready', flush=True)\n")
    process = subprocess.Popen(
        [sys.executable, "-c", text + "process.guard(main, [])\n"], cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("body", "number", "status"), [
    (SLEEPING, signal.SIGTERM, 143), (SLEEPING, signal.SIGINT, 130), (CAUGHT, signal.SIGTERM, 143),
    (SAVING, signal.SIGTERM, 0), (POOL, signal.SIGINT, 130),
    (POOL, signal.SIGTERM, 143)])
def test_a_signal_ends_a_program_and_its_workers_with_one_sentence(body, number, status):
    process = started(body)
    os.killpg(process.pid, number)  # to all of the group, as a terminal and a scheduler do
    _, errors = process.communicate(timeout=30)  # ends only when no worker holds standard error any more
    assert (process.returncode, errors) == (status, STOPPED)


def test_workers_end_with_a_killed_program():
    process = started(POOL)
    process.kill()
    process.communicate(timeout=30)  # ends only when no worker holds standard error any more, or raises
    assert process.returncode == -signal.SIGKILL
