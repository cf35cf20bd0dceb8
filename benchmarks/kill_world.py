"""Do several processes, one of which is killed at random moments, give the results of undisturbed ones?

    python -m benchmarks.kill_world [--processes 1 2 4] [--kills 7] [--seed 0]

A small main job (a random backbone of the tests, generators, sets and two arms) is run by several processes over
loopback, and by one process with as many devices, which must give the same results (prompts and metrics up to
rounding). Then a random process is killed with SIGKILL at a random moment, and all are restarted, as often as
requested. The others must end by themselves, and when the job is done its prompts, samples, predictions and metrics
must equal those of the undisturbed run, byte for byte. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import tempfile
import time

from tests.multiprocess import worlds

_MEET = ("--initialization-timeout", str(int(worlds.ENDS) - 10))
"""Bounds the wait for a process that was killed before all had met."""


def main() -> None:
    """Kill, restart, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--kills", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = {}
    for count in arguments.processes:
        with tempfile.TemporaryDirectory() as folder:
            found[str(count)] = kill(pathlib.Path(folder), count, arguments.kills, random.Random(arguments.seed))
    print(json.dumps({"kills": arguments.kills, "processes": found, "equal": True}))


def kill(root: pathlib.Path, count: int, kills: int, rng: random.Random) -> dict[str, float]:
    """Kill one of ``count`` processes ``kills`` times; the number of jobs, and the seconds until the others ended."""
    file, _ = worlds.write_job(root)
    finish(worlds.start(file, root / "first", count=count))  # compiles
    begin = time.monotonic()
    finish(worlds.start(file, root / "whole", count=count))
    whole, seconds = worlds.contents(root / "whole"), time.monotonic() - begin
    finish(worlds.start(file, root / "alone", count=1, devices=count))
    worlds.assert_alike(root / "alone", root / "whole")
    out, jobs, done, slowest = root / "killed0", 0, 0, 0.0
    while done < kills:
        processes, moment = worlds.start(file, out, *_MEET, count=count), rng.uniform(0, seconds)
        victim, begin = rng.randrange(count), time.monotonic()
        while time.monotonic() - begin < moment and any(process.poll() is None for process in processes):
            time.sleep(0.01)
        if processes[victim].poll() is None:
            processes[victim].kill()
            begin, done = time.monotonic(), done + 1
            worlds.ended(processes, within=worlds.ENDS)
            slowest = max(slowest, time.monotonic() - begin)
            print(f"{count} processes, kill {done} of process {victim} after {moment:.1f} s", flush=True)
        else:
            finish(processes)
        if processes[0].returncode == 0:  # the job was already done; the next starts from scratch
            assert worlds.contents(out) == whole, "results differ"
            jobs += 1
            out = root / f"killed{jobs}"
    finish(worlds.start(file, out, count=count))
    assert worlds.contents(out) == whole, "results differ"
    return {"jobs": jobs + 1, "undisturbed_s": round(seconds, 1), "others_ended_s": round(slowest, 1)}


def finish(processes: list) -> None:
    """Wait for all processes, which must succeed."""
    for status, _, errors in worlds.ended(processes, within=600):
        assert status == 0, errors[-3000:]


if __name__ == "__main__":
    main()
