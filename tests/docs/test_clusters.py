"""Every file on the page about clusters parses, starts what it says, and its scripts do what the page promises."""

import os
import pathlib
import re
import shlex
import subprocess

import pytest
import yaml

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "guides" / "clusters.md").read_text(encoding="utf-8")
FILES = {title: text for title, text in re.findall(r"^## (.+?)\n.*?^```(?:bash|yaml)\n(.*?)^```", PAGE, re.M | re.S)}
COMMAND = "dawgen run paper --out /runs/paper"


def script(tmp_path, title, tools, **environment):
    """Run a script with external tools replaced; the finished process and the lines that the tools wrote."""
    for name, body in tools.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(["bash", "-c", FILES[title]], capture_output=True, text=True, timeout=30,
                          env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | environment)
    written = tmp_path / "written"
    return done, written.read_text().splitlines() if written.exists() else []


def write_last(tmp_path):
    return f'printf "%s\\n" "${{@: -1}}" >> {tmp_path}/written'


@pytest.mark.parametrize("title", FILES)
def test_each_file_parses_and_runs_the_command(title):
    if FILES[title].startswith("#!"):
        subprocess.run(["bash", "-n"], input=FILES[title], text=True, check=True)
    else:
        yaml.safe_load(FILES[title])
    text = re.sub(r"\s+-\s+", " ", FILES[title])
    assert "dawgen run paper" in text and "/runs/paper" in text


def test_ssh_numbers_its_processes_and_fails_with_any_of_them(tmp_path):
    hosts = "a b c d"
    done, written = script(tmp_path, "Plain ssh", {"ssh": write_last(tmp_path)}, HOSTS=hosts)
    assert done.returncode == 0 and sorted(written) == [
        f"{COMMAND} --coordinator a:8476 --num-processes 4 --process-id {i}" for i in range(4)]
    failed, _ = script(tmp_path, "Plain ssh", {"ssh": '[ "$2" != b ]'}, HOSTS=hosts)
    assert failed.returncode == 1
    few, _ = script(tmp_path, "Plain ssh", {"ssh": "true"}, HOSTS="a b")
    assert few.returncode == 2 and "HOSTS must name 4 machines." in few.stderr


def test_cloud_tpu_runs_the_command_on_every_worker(tmp_path):
    _, written = script(tmp_path, "Cloud TPU: one slice", {"gcloud": write_last(tmp_path)}, ZONE="z", VERSION="v",
                        SOURCE="s")
    assert "pip install" in written[-2] and written[-1] == f"--command={COMMAND}"


@pytest.mark.parametrize(("status", "again"), [(0, False), (75, True), (143, True), (2, False)])
def test_a_stopped_slurm_job_is_requeued(tmp_path, status, again):
    title = "Slurm: one program, one task per node"
    done, written = script(tmp_path, title, {"srun": f"exit {status}", "scontrol": write_last(tmp_path)},
                           SLURM_JOB_ID="17")
    assert done.returncode == status and written == ["17"] * again


def test_shards_and_pods_are_numbered_by_the_scheduler():
    array = FILES["Slurm: an array of shards"]
    assert "--array=0-7\n" in array and array.rstrip().endswith('--shard "$SLURM_ARRAY_TASK_ID/8"')
    indexed = yaml.safe_load(FILES["Kubernetes: an indexed job of shards"])["spec"]
    assert indexed["completionMode"] == "Indexed" and indexed["completions"] == indexed["parallelism"] == 8
    assert indexed["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [75, 143]
    shell = indexed["template"]["spec"]["containers"][0]["command"]
    assert shlex.split(shell[2])[-3:] == ["$JOB_COMPLETION_INDEX/8", "--stopped-status", "75"]
    workers = yaml.safe_load(FILES["GKE: a JobSet on a TPU node pool"])["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert workers["parallelism"] == workers["completions"] == 4
