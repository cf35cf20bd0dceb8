"""How one program is started on many machines: a file, or the commands, for each launcher.

JAX finds its world itself on Cloud TPU, GKE, Slurm and Kubernetes; elsewhere the coordinator's address, the number of
processes and each process's own number are given. A program that is stopped goes on where it was when the same recipe
is started again, in a directory that all processes share. Told to stop, it ends with 0, which clusters take for done:
where they start again only what failed, it is given another status.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence

__all__ = ["RECIPES", "STOPPED", "TERMINATED"]

_PORT = 8476
STOPPED = 75
"""The exit status of a program that is to be started again (sysexits.h: temporary failure)."""
TERMINATED = 143
"""That of a program which SIGTERM ends outside of a training loop."""
_GRACE = 120
"""Seconds between being told to stop and the end."""


def _shell(*lines: str) -> str:
    return "\n".join(("#!/bin/bash", "set -euo pipefail", *lines)) + "\n"


def _json(value: dict) -> str:
    """JSON is YAML."""
    return json.dumps(value, indent=2) + "\n"


def tpu_vm(words: Sequence[str], processes: int, devices: int, name: str) -> str:
    """A Cloud TPU slice: the same command on every worker. JAX reads the rest from the machine's metadata."""
    each = f'gcloud compute tpus tpu-vm ssh {name} --zone="$ZONE" --worker=all'
    return _shell(
        f"# A v5e slice of {processes * devices} chips: {processes} workers of {devices}. Set ZONE, VERSION and SOURCE",
        "# (what pip installs). --out must be a directory that all workers share (Filestore, or a bucket by gcsfuse).",
        f"gcloud compute tpus tpu-vm create {name} --zone=\"$ZONE\" --version=\"$VERSION\" \\",
        f"  --accelerator-type=v5litepod-{processes * devices} --spot",
        f"{each} --command=\"pip install 'dawgen-jax[tpu] @ $SOURCE'\"",
        f"{each} --command={shlex.quote(shlex.join(words))}")


def _topology(chips: int) -> str:
    """'4x8': of a v5e slice of so many chips, as square as a power of two allows."""
    short = 1 << (chips.bit_length() - 1) // 2
    return f"{short}x{-(-chips // short)}"


def gke(words: Sequence[str], processes: int, devices: int, name: str) -> str:
    """A JobSet on a TPU node pool of GKE; JAX reads the pod's environment. What is told to stop fails, and is
    started again."""
    container = {"name": "main", "image": "dawgen-jax", "command": [*words, "--stopped-status", str(STOPPED)],
                 "ports": [{"containerPort": _PORT}],
                 "resources": {"limits": {"google.com/tpu": devices}},
                 "volumeMounts": [{"name": "runs", "mountPath": "/runs"}]}
    pod = {"restartPolicy": "Never", "containers": [container], "terminationGracePeriodSeconds": _GRACE,
           "nodeSelector": {"cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
                            "cloud.google.com/gke-tpu-topology": _topology(processes * devices)},
           "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": "runs"}}]}
    job = {"parallelism": processes, "completions": processes, "backoffLimit": 0, "template": {"spec": pod}}
    return _json({
        "apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet",
        "metadata": {"name": name, "annotations": {
            "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}},
        "spec": {"failurePolicy": {"maxRestarts": 10},
                 "replicatedJobs": [{"name": "workers", "replicas": 1, "template": {"spec": job}}]}})


def _slurm(words: Sequence[str], name: str, *, nodes: int, tasks: int, gpus: int) -> str:
    return _shell(
        f"#SBATCH --job-name={name}", f"#SBATCH --nodes={nodes}", f"#SBATCH --ntasks-per-node={tasks}",
        f"#SBATCH --gpus-per-node={gpus}", "#SBATCH --requeue", f"#SBATCH --signal=TERM@{_GRACE}",
        f"srun --gpu-bind=none --kill-on-bad-exit=1 {shlex.join(words)} --stopped-status {STOPPED}",
        "# At the end of its time the job has saved what it did, and stands in line again.",
        f"status=$?; case $status in {STOPPED}|{TERMINATED}) scontrol requeue \"$SLURM_JOB_ID\";; esac; exit $status",
        ).replace("set -euo pipefail\n", "", 1)


def slurm_node(words: Sequence[str], processes: int, devices: int, name: str) -> str:
    """Slurm, one task a node. JAX takes a task for one GPU's process unless it is told which devices are its own."""
    own = ",".join(map(str, range(devices)))
    return _slurm([*words, "--local-device-ids", own], name, nodes=processes, tasks=1, gpus=devices)


def slurm_gpu(words: Sequence[str], processes: int, devices: int, name: str) -> str:
    """Slurm, one task a GPU. All GPUs of a node stay visible to its tasks: each takes that of its local number."""
    return _slurm(words, name, nodes=processes, tasks=devices, gpus=devices)


def skypilot(words: Sequence[str], processes: int, devices: int, name: str) -> str:
    """SkyPilot: the first node coordinates."""
    told = (f'--coordinator "$(echo "$SKYPILOT_NODE_IPS" | head -n1):{_PORT}" '
            '--num-processes "$SKYPILOT_NUM_NODES" --process-id "$SKYPILOT_NODE_RANK" '
            f"--local-device-ids {','.join(map(str, range(devices)))}")
    return _json({"name": name, "num_nodes": processes,
                  "resources": {"accelerators": f"H100:{devices}", "use_spot": True, "job_recovery": "FAILOVER"},
                  "workdir": ".", "setup": "pip install '.[cuda]'", "run": f"{shlex.join(words)} {told}"})


def ssh(words: Sequence[str], processes: int, devices: int, name: str) -> str:
    """Plain ssh to the machines in HOSTS; the first coordinates, and when one ends with an error so does the script."""
    return _shell(
        f"# HOSTS: {processes} names, separated by spaces, with this project installed and one shared directory.",
        "hosts=($HOSTS)",
        f"[ ${{#hosts[@]}} -eq {processes} ] || {{ echo 'HOSTS must name {processes} machines.' >&2; exit 2; }}",
        f"command={shlex.quote(shlex.join(words))}",
        'for rank in "${!hosts[@]}"; do',
        f'  ssh -tt "${{hosts[$rank]}}" "$command --coordinator ${{hosts[0]}}:{_PORT} --num-processes {processes}'
        ' --process-id $rank" < /dev/null &',
        "done",
        'for _ in "${hosts[@]}"; do wait -n; done')


RECIPES: dict[str, Callable[[Sequence[str], int, int, str], str]] = {
    "tpu-vm": tpu_vm, "gke": gke, "slurm-node": slurm_node, "slurm-gpu": slurm_gpu, "skypilot": skypilot, "ssh": ssh,
}
"""By the launcher's name: (words of the command, processes or nodes, devices of each, name) -> its file."""
