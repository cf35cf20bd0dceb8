"""Does a grid that is killed at random moments give the rows of an undisturbed one, without running anything twice?

    python -m benchmarks.kill_grid [--kills 10] [--seed 0]

A small grid of the mini world (a random backbone of the tests, four arms, two seeds) is started, killed with SIGKILL
after a random time (at most that of an undisturbed run), and restarted, as often as requested. The finished cells are
recorded after every kill; in the end no cell may have been rewritten, lost or duplicated. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import random
import tempfile
import time

from dawgen_jax.config import BackboneConfig
from tests.pipeline import grids
from tests.pipeline.conftest import small_config, write_backbone


def main() -> None:
    """Kill, restart, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        write_backbone(root / "random0", 0)
        arms = ("Prompting (zero-shot)", "Prompt Tuning", "Prompt Tuning #same-T", "FewGen: (Real, Syn) + GS")
        config = dataclasses.replace(small_config([BackboneConfig(str(root / "random0"))]), arms=arms)
        grids.write_config(root / "short.py", config)
        whole, killed, seen = root / "whole", root / "killed", {}
        begin = time.monotonic()
        grids.finish(grids.start(root / "short.py", whole))
        kills, seconds = 0, time.monotonic() - begin
        while kills < arguments.kills:
            process = grids.start(root / "short.py", killed)
            # A process takes seconds to start. After one has finished, the next grid starts from scratch.
            there = grids.kill(process, killed, after=rng.uniform(3, seconds))
            if process.returncode == 0:
                compare(whole, killed, seen)
                killed, seen = root / f"killed{kills}", {}
                continue
            kills += 1
            now = grids.times(killed, there)
            assert all(now[name] == when for name, when in seen.items()), "a finished cell was written again"
            seen = now
            print(f"kill {kills}: {len(there)} cells finished", flush=True)
        grids.finish(grids.start(root / "short.py", killed))
        compare(whole, killed, seen)
        done = grids.whole_arms(list(seen), grids.finished(whole))
        assert not done & grids.arms_run(killed), "a finished cell ran again"
        print(json.dumps({"kills": kills, "rows": len(grids.numbers(whole)), "equal": True}))


def compare(whole: pathlib.Path, killed: pathlib.Path, seen: dict[str, int]) -> None:
    """Check that cells and rows are the same, and that no finished cell was written again."""
    assert grids.finished(killed) == grids.finished(whole), "cells were lost or doubled"
    assert grids.numbers(killed) == grids.numbers(whole), "rows differ"
    assert grids.times(killed, list(seen)) == seen, "a finished cell was written again"


if __name__ == "__main__":
    main()
