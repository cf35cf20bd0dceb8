"""A small grid as processes that a user starts, for tests and scripts that kill them."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from dawgen_jax.config import Config
from dawgen_jax.results.rows import read_rows

REPOSITORY = pathlib.Path(__file__).parents[2]


def write_config(path: pathlib.Path, config: Config) -> None:
    """A config file that gives back ``config``."""
    path.write_text("from dawgen_jax.config import *\nfrom dawgen_jax.config import DataConfig\n\n\n"
                    f"def get_config():\n    return {config!r}\n")


def start(config: pathlib.Path, out: pathlib.Path, *words: str) -> subprocess.Popen:
    """``python -m train.grid`` in the background.

    Its compiled programs are kept next to the config file, apart from the suite's: a kill may tear an entry.
    """
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(config.parent / "programs"),
                                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}
    return subprocess.Popen([sys.executable, "-m", "train.grid", str(config), "--out", str(out), *words],
                            cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen) -> None:
    """Wait for the end, which must be a good one."""
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output.decode(errors="replace")[-3000:]


def kill(process: subprocess.Popen, out: pathlib.Path, cells: int = 0, after: float = 0.0,
         number: int = signal.SIGKILL) -> list[str]:
    """Send a signal (kill -9) once so many cells are finished and so many seconds over; the cells finished by then."""
    begin = time.monotonic()
    while process.poll() is None:
        if len(finished(out)) >= cells and time.monotonic() - begin >= after:
            process.send_signal(number)
            break
        time.sleep(0.01)
    process.communicate(timeout=60)
    return finished(out)


def finished(out: pathlib.Path) -> list[str]:
    """Names of finished cells."""
    return sorted(folder.name for folder in out.glob("cells/[!.]*") if folder.is_dir())


def whole_arms(there: list[str], every: list[str]) -> set[str]:
    """The arms, as folders name them, all of whose cells are among those that are there."""
    missing = {_arm(name) for name in set(every) - set(there)}
    return {_arm(name) for name in there} - missing


def _arm(cell: str) -> str:
    """TASK-BACKBONE-ARM of TASK-BACKBONE-ARM-SEED-HASH, without the first two."""
    return re.sub(r"-\d+-[0-9a-f]+$", "", cell).removeprefix("mini-snli-random0-")


def arms_run(out: pathlib.Path) -> set[str]:
    """The arms, as folders name them, that the last process trained or scored (timings.json counts what it did)."""
    stages = json.loads((out / "timings.json").read_text())
    return {re.sub("[^A-Za-z0-9._+-]+", "_", name.removeprefix("run ")) for name in stages if name.startswith("run ")}


def times(out: pathlib.Path, names: list[str]) -> dict[str, int]:
    """When each of these cells was written."""
    return {name: (out / "cells" / name / "result.json").stat().st_mtime_ns for name in names}


def numbers(out: pathlib.Path) -> list[str]:
    """The rows of a run without wall time, as text."""
    return [json.dumps(dataclasses.asdict(dataclasses.replace(row, wall_seconds=0.0)), sort_keys=True)
            for row in read_rows(out / "results.jsonl")]
