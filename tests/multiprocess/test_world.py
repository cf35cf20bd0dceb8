"""Two processes over loopback give one process's results; stopped or killed, they all end, and go on."""

import dataclasses
import importlib.util
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from dawgen_jax.cli import process
from dawgen_jax.config import FineTuningConfig, MeshConfig
from dawgen_jax.errors import UserError
from dawgen_jax.io import world
from dawgen_jax.pipeline import main
from dawgen_jax.pipeline.job import Job
from tests.multiprocess import worlds
from tests.pipeline import grids

STOPPED = "stopped; the same command resumes"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """(config file, config) of a job with every stage, whose first arm has many short steps."""
    return worlds.write_job(tmp_path_factory.mktemp("two"))


def newest(out: pathlib.Path) -> int:
    """The step of the newest checkpoint of a cell."""
    there = (path.parts[-3] for path in out.glob("cells/.*.partial/*/[0-9]*/default/_METADATA"))
    return max((int(step) for step in there if step.isdigit()), default=0)  # the others are being written


def saved(processes: list[subprocess.Popen], out: pathlib.Path, after: int = 0) -> None:
    """Wait for a checkpoint of a later step."""
    while newest(out) <= after:
        assert all(process.poll() is None for process in processes), worlds.ended(processes)
        time.sleep(0.01)


def stop(processes: list[subprocess.Popen], out: pathlib.Path, status: int) -> None:
    """Send process 1 SIGTERM once there is a checkpoint; both end with the status, and the leader says what to do."""
    saved(processes, out)
    processes[1].send_signal(signal.SIGTERM)
    (first, _, errors), (other, _, other_errors) = worlds.ended(processes)
    assert (first, other) == (status, status), errors + other_errors
    assert STOPPED in errors and STOPPED not in other_errors and not (out / "results.jsonl").exists()


def test_two_processes_give_the_results_of_one_also_when_one_is_killed(job, tmp_path):
    file, config = job
    one, two, again = tmp_path / "one", tmp_path / "two", tmp_path / "again"
    (status, output, errors), (other_status, other_output, other_errors) = worlds.ended(worlds.start(file, two))
    assert (status, other_status) == (0, 0), errors + other_errors
    assert errors.startswith("2 processes, 2 devices of cpu (1, 1)\n") and "results.jsonl" in "".join(output.split())
    assert other_errors == "" and not [line for line in other_output.splitlines() if "[Gloo]" not in line]

    main.run(Job.start(dataclasses.replace(config, devices=2), one))
    worlds.assert_alike(one, two)
    both = worlds.contents(two)

    arm = ("--arms", "Prompt Tuning")
    killed = worlds.start(file, again, *arm)
    saved(killed, again)
    time.sleep(random.random() / 2)  # at any moment of what is left
    killed[1].kill()
    begin = time.monotonic()
    (status, _, errors), _ = worlds.ended(killed)
    assert time.monotonic() - begin < worlds.ENDS, errors
    assert status != 0 and not (again / "results.jsonl").exists(), errors

    for status, _, errors in worlds.ended(worlds.start(file, again, *arm)):
        assert status == 0, errors
    assert worlds.contents(again) == {path: content for path, content in both.items() if "Prompt_Tuning" in path}


def test_fine_tuning_that_is_cut_over_two_processes_goes_on_and_is_that_of_one(job, tmp_path):
    """Weights and optimiser state are cut over the processes: neither has the whole of them, nor of a checkpoint."""
    cut = dataclasses.replace(job[1], mesh=MeshConfig(fsdp=2), arms=("FT",), classifier=dataclasses.replace(
        job[1].classifier, fine_tuning=FineTuningConfig((1e-3,), num_steps=24, batch_size=4, eval_every=12)))
    grids.write_config(job[0].parent / "cut.py", cut)
    file, one, two = job[0].parent / "cut.py", tmp_path / "one", tmp_path / "two"
    stop(worlds.start(file, two, "--stopped-status", "75"), two, status=75)
    for status, _, errors in worlds.ended(worlds.start(file, two)):
        assert status == 0, errors
    main.run(Job.start(dataclasses.replace(cut, devices=2), one))
    worlds.assert_alike(one, two, count=2)


LAUNCHERS = {
    "Slurm": {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2", "SLURM_PROCID": "1",
              "SLURM_LOCALID": "1"},
    "Open MPI": {"OMPI_MCA_orte_hnp_uri": "28672.0;tcp://127.0.0.1:9", "OMPI_COMM_WORLD_SIZE": "2",
                 "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
    "an indexed job of Kubernetes": {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "JOB_COMPLETION_INDEX": "1"},
}


def test_a_program_knows_that_its_launcher_has_started_several():
    """None goes on alone: it waits for the others of its launcher, and says whom it waited for."""
    started = {name: subprocess.Popen(
        [sys.executable, "-m", "train.tables", "nowhere", "--initialization-timeout", "2"], cwd=grids.REPOSITORY,
        stderr=subprocess.PIPE, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment)
        for name, environment in LAUNCHERS.items()}
    for name, running in started.items():
        _, errors = running.communicate(timeout=60)
        assert running.returncode == 2 and len(errors.strip().splitlines()) == 1, (name, errors)
        if "Kubernetes" in name and importlib.util.find_spec("kubernetes") is None:
            assert "pip install 'dawgen-jax[k8s]'" in errors
        elif "Kubernetes" not in name:
            assert re.search(r"have not met within 2 s \(--coordinator 127\.0\.0\.1:\d+, --num-processes 2, "
                             r"--process-id 1\); start", errors), (name, errors)


UNKNOWN = {
    "Open MPI 5": {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "PMIX_RANK": "0", "PMIX_NAMESPACE": "a@1",
                   "PRTE_LAUNCHED": "1"},
    "prterun": {"PMIX_RANK": "1", "PMIX_NAMESPACE": "prterun-a@1"},
    "MPICH": {"PMI_SIZE": "3", "PMI_RANK": "0"},
    "srun in a container that hides the list of nodes": {
        "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0"},
    "torchrun": {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"},
}
ALLOCATION = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_JOB_NODELIST": "a[1-4]"}
ALONE = {
    "a shell of salloc": ALLOCATION,
    "a batch script": ALLOCATION | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
    "an interactive step of salloc": ALLOCATION | {
        "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "a1", "SLURM_STEP_NUM_TASKS": "1"},
    "one process of mpirun": {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0", "PMIX_RANK": "0"},
    "a setting for other programs": {"WORLD_SIZE": "8"},
    "text in place of a number": {"PMI_SIZE": "two", "PMI_RANK": "\u0663"},
}


def tables(environment: dict[str, str], *words: str) -> subprocess.Popen:
    """Start a short program, which ends with an error because the run does not exist."""
    return subprocess.Popen([sys.executable, "-m", "train.tables", "nowhere", *words], cwd=grids.REPOSITORY,
                            stderr=subprocess.PIPE, text=True,
                            env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment)


def test_one_of_several_processes_that_jax_does_not_find_stops():
    """It does not run on as if it were the only one."""
    started = {name: tables(environment) for name, environment in UNKNOWN.items()}
    for name, running in started.items():
        _, errors = running.communicate(timeout=120)
        variable = "SLURM_STEP_NUM_TASKS" if "srun" in name else next(iter(UNKNOWN[name]))
        assert running.returncode == 2 and len(errors.splitlines()) == 1, (name, errors)
        assert f"error: {variable} = {UNKNOWN[name][variable]}: a launcher has started several" in errors


def test_a_process_that_is_alone_in_an_environment_of_launchers_runs():
    started = {name: tables(environment, "--initialization-timeout", "2") for name, environment in ALONE.items()}
    started["one of several with --num-processes 1"] = tables(UNKNOWN["Open MPI 5"], "--num-processes", "1")
    for name, running in started.items():
        _, errors = running.communicate(timeout=120)
        assert running.returncode == 2 and errors.startswith("error: nowhere"), (name, errors)


def test_a_process_that_finds_no_other_ends_with_a_sentence():
    words = ["--coordinator", "127.0.0.1:9", "--num-processes", "2", "--process-id", "1", "--initialization-timeout"]
    result = subprocess.run([sys.executable, "-m", "train.tables", "nowhere", *words, "2"], cwd=grids.REPOSITORY,
                            capture_output=True, text=True, timeout=60, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1
    assert "the processes have not met within 2 s (--coordinator 127.0.0.1:9, --num-proc" in result.stderr


def test_what_is_told_of_other_processes_may_stand_anywhere():
    told, rest = process.take_processes(["x.py", "--process-id", "1", "--seeds", "1", "2", "--coordinator=a:1",
                                     "--local-device-ids", "2,3", "--num-processes", "4", "--stopped-status", "75",
                                     "--", "--process-id", "7"])
    assert told == world.Processes("a:1", 4, 1, (2, 3), stopped_status=75)
    assert rest == ["x.py", "--seeds", "1", "2", "--", "--process-id", "7"]
    assert process.take_processes(["x.py"]) == (world.Processes(), ["x.py"])


@pytest.mark.parametrize(("words", "message"), [
    ("--num-processes x", "'x' is not an integer from 1 to"), ("--num-processes -2", "'-2' is not"),
    ("--num-processes 0", "'0' is not"), ("--process-id -1", "'-1' is not an integer from 0 to"),
    ("--local-device-ids 0,-3", "'-3' is not an integer from 0 to"),
    ("--initialization-timeout 0", "'0' is not an integer from 1 to"),
    ("--stopped-status -1", "'-1' is not an integer from 0 to 255"), ("--stopped-status 256", "'256' is not"),
])
def test_numbers_of_processes_that_cannot_be_are_refused(words, message):
    with pytest.raises(UserError, match=f"{words.split()[0]}: {message}.*; for instance --coordinator"):
        process.take_processes(words.split())


def test_processes_that_do_not_fit_together_are_refused_and_one_alone_joins_nothing():
    world.initialize(world.Processes(num_processes=1, coordinator="nowhere:1"))
    with pytest.raises(UserError, match=r"the processes cannot meet: .* \(--coordinator 127.0.0.1:9, --num-"):
        world.initialize(world.Processes("127.0.0.1:9", 2, 2))
    assert world.count() == 1 and world.leads() and world.led(lambda: 3) == 3
