"""Recipes are files that their launchers can read, and start every process with the same command."""

import json
import os
import re
import shlex
import subprocess

import pytest
import yaml

from dawgen_jax.errors import UserError
from dawgen_jax.pipeline.recipes import RECIPES
from train import launch

PROGRAM = ["train.run", "configs/paper.py", "--out", "/runs/a b", "--arms", "Prompt Tuning", "it's"]
WORDS = shlex.join(["python", "-m", *PROGRAM])


def render(capsys, launcher, *options):
    launch.main([launcher, *options, "--", *PROGRAM])
    return capsys.readouterr().out


@pytest.mark.parametrize("launcher", RECIPES)
def test_a_recipe_is_read_by_its_shell_or_as_yaml(capsys, launcher):
    text = render(capsys, launcher, "--processes", "4", "--devices", "2")
    if text.startswith("#!"):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    else:
        assert yaml.safe_load(text) == json.loads(text)


def script(tmp_path, text, tools, **environment):
    """Run a recipe with every tool replaced by one that notes its words; the lines noted."""
    for name, body in tools.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "recipe.sh").write_text(text)
    done = subprocess.run(["bash", str(tmp_path / "recipe.sh")], capture_output=True, text=True, timeout=30,
                          env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | environment)
    noted = tmp_path / "noted"
    return done, noted.read_text().splitlines() if noted.exists() else []


def note(tmp_path):
    return f'printf "%s\\n" "${{@: -1}}" >> {tmp_path}/noted'


def test_ssh_numbers_its_processes_and_fails_with_any_of_them(capsys, tmp_path):
    text = render(capsys, "ssh", "--processes", "3")
    done, noted = script(tmp_path, text, {"ssh": note(tmp_path)}, HOSTS="a b c")
    assert done.returncode == 0
    assert sorted(noted) == [f"{WORDS} --coordinator a:8476 --num-processes 3 --process-id {i}" for i in range(3)]
    assert [word for word in shlex.split(noted[0])][:len(PROGRAM) + 2] == ["python", "-m", *PROGRAM]
    failed, _ = script(tmp_path, text, {"ssh": '[ "$2" != b ]'}, HOSTS="a b c")
    assert failed.returncode == 1
    few, _ = script(tmp_path, text, {"ssh": "true"}, HOSTS="a b")
    assert few.returncode == 2 and "HOSTS must name 3 machines." in few.stderr


def test_tpu_vm_runs_the_command_on_every_worker(capsys, tmp_path):
    text = render(capsys, "tpu-vm", "--processes", "4", "--devices", "4")
    _, noted = script(tmp_path, text, {"gcloud": note(tmp_path)}, ZONE="z", VERSION="v", SOURCE="s")
    assert "pip install" in noted[-2] and noted[-1] == f"--command={WORDS}"
    assert "v5litepod-16" in text and "--worker=all" in text


def test_slurm_tells_a_nodes_task_its_devices_and_hides_none_from_a_gpus_task(capsys, tmp_path):
    node, gpu = (render(capsys, kind, "--processes", "2", "--devices", "4") for kind in ("slurm-node", "slurm-gpu"))
    assert "--ntasks-per-node=1\n" in node and "--local-device-ids 0,1,2,3" in node
    assert "--ntasks-per-node=4\n" in gpu and "--local-device-ids" not in gpu
    for text in (node, gpu):
        assert text.startswith("#!/bin/bash\n#SBATCH") and "--gpu-bind=none" in text and "--gpus-per-node=4" in text
        assert re.search(r"--signal=TERM@\d+", text) and "--requeue" in text


@pytest.mark.parametrize(("status", "again"), [(0, False), (75, True), (143, True), (2, False)])
def test_a_slurm_job_that_was_told_to_stop_stands_in_line_again(capsys, tmp_path, status, again):
    text = render(capsys, "slurm-node")
    assert f"{WORDS} --local-device-ids 0,1,2,3,4,5,6,7 --stopped-status 75\n" in text
    done, noted = script(tmp_path, text, {"srun": f"exit {status}", "scontrol": note(tmp_path)}, SLURM_JOB_ID="17")
    assert done.returncode == status and noted == ["17"] * again


def test_clusters_start_as_many_pods_as_there_are_processes(capsys):
    spec = json.loads(render(capsys, "gke", "--processes", "4", "--devices", "4"))["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert (job["parallelism"], job["completions"]) == (4, 4) and spec["failurePolicy"]["maxRestarts"] > 0
    [container] = job["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", *PROGRAM, "--stopped-status", "75"]  # only failures restart
    assert job["template"]["spec"]["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x4"
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    sky = json.loads(render(capsys, "skypilot", "--processes", "3"))
    assert sky["num_nodes"] == 3 and sky["run"].startswith(WORDS) and "$SKYPILOT_NODE_RANK" in sky["run"]


@pytest.mark.parametrize(("argv", "message"), [
    (["ssh"], "put it after --"), (["ssh", "--", "train.nothing"], "put it after --"),
    (["ssh", "--", "os"], "after --"),
    (["ssh", "--processes", "0", "--", "train.run"], "--processes 0: must be 1"),
    (["ssh", "--name", "x; rm -r", "--", "train.run"], "--name x; rm -r: must be"),
])
def test_what_cannot_be_started_is_refused(argv, message):
    with pytest.raises(UserError, match=re.escape(message)):
        launch.main(argv)
