"""Job files for arrays of shards: Slurm's job arrays and Kubernetes' indexed jobs."""

from __future__ import annotations

import json
import pathlib
import shlex
from collections.abc import Sequence

from dawgen_jax.errors import UserError
from dawgen_jax.pipeline.recipes import STOPPED, TERMINATED

__all__ = ["job_file"]

_OWN = ("--jobs", "--shards", "--shard", "--out", "--num-processes")


def _without(argv: Sequence[str], names: Sequence[str]) -> list[str]:
    """The words of a command without some options and their values."""
    kept, skip = [], False
    for word in argv:
        name, equals, _ = word.partition("=")
        if skip:
            skip = False
        elif name.replace("_", "-") == "--dry-run":
            continue
        elif name in names:
            skip = not equals
        else:
            kept.append(word)
    return kept


def job_file(kind: str, argv: Sequence[str], out: pathlib.Path, shards: int) -> str:
    """A job file that runs ``train.grid`` with these words as an array of shards.

    Args:
      kind: 'slurm' or 'kubernetes'.
      argv: the words of the command; options about shards, jobs and the directory are replaced.
      out: the run directory, on a file system that all processes share.
      shards: how many processes.

    Raises:
      UserError: the kind is neither, or there is no shard.
    """
    if shards < 1:
        raise UserError(f"--shards {shards}: must be 1 or more.")
    out = out.absolute()  # jobs start in a directory of their own
    # Each shard is a program of its own, which joins no world, whatever its launcher says of the others.
    words = ["python", "-m", "train.grid", *_without(argv, _OWN), "--num-processes", "1", "--out", str(out), "--shard"]
    if kind == "slurm":
        return (
            "#!/bin/bash\n"
            f"#SBATCH --job-name=dawgen\n"
            f"#SBATCH --array=0-{shards - 1}\n"
            "#SBATCH --gpus-per-task=1\n"
            "#SBATCH --requeue\n"
            "# A requeued task goes on where it stopped; finished cells are skipped.\n"
            f"srun {shlex.join(words)} \"$SLURM_ARRAY_TASK_ID/{shards}\"\n")
    if kind == "kubernetes":
        # JSON is YAML; the shell fills in the index that the cluster gives each pod.
        command = f"exec {shlex.join(words)} \"$JOB_COMPLETION_INDEX/{shards}\" --stopped-status {STOPPED}"
        container = {"name": "grid", "image": "dawgen-jax", "command": ["/bin/sh", "-c", command],
                     "volumeMounts": [{"name": "runs", "mountPath": str(out.parent)}],
                     "resources": {"limits": {"nvidia.com/gpu": 1}}}
        return json.dumps({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "dawgen"},
            "spec": {"completionMode": "Indexed", "completions": shards, "parallelism": shards,
                     "backoffLimitPerIndex": 3,
                     # What was told to stop is started again, and does not count as a failure.
                     "podFailurePolicy": {"rules": [
                         {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [STOPPED, TERMINATED]}},
                         {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]},
                     "template": {"spec": {"restartPolicy": "Never", "containers": [container],
                                           "volumes": [{"name": "runs", "persistentVolumeClaim":
                                                        {"claimName": "runs"}}]}}}}, indent=2) + "\n"
    raise UserError(f"--jobs {kind}: must be 'slurm' or 'kubernetes'.")
