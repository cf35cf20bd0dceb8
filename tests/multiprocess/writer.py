"""A process of those that write a synthetic set together: ``writer.py CONFIG OUT PORT COUNT NUMBER [END]``.

It prints a JSON line of an error that process 1 raises and of the numbers of all; and of each file of samples that it
writes: [name, [[label, index], ...]]. With END it is gone once it
has written a file of that name.
"""

import json
import os
import pathlib
import runpy
import sys

import dawgen_jax  # noqa: F401  (sets the compiler's flag before a backend starts)
from dawgen_jax.errors import UserError
from dawgen_jax.io import world


def main(config: str, out: str, port: str, count: str, number: str, end: str = "") -> None:
    world.initialize(world.Processes(f"127.0.0.1:{port}", int(count), int(number), timeout=100))
    from dawgen_jax.pipeline import inputs, sets
    from dawgen_jax.pipeline.job import Job

    write = sets.files.write_samples

    def told(path, samples):
        write(path, samples)
        print(json.dumps([path.name, [[one.example.label, one.index] for one in samples]]), flush=True)
        if path.name == end:
            os._exit(9)

    sets.files.write_samples = told
    settings = runpy.run_path(config)["get_config"]()
    given = inputs.read_task("mini-snli", settings, generates=True)

    def fails() -> None:
        if world.number() == 1:
            raise UserError("1 fails.")

    try:
        world.gathered(fails)
    except UserError as error:
        print(json.dumps([str(error), world.gathered(world.number)]), flush=True)
    sets.synthesize(Job.start(settings, pathlib.Path(out)), given, "FewGen", [pathlib.Path(config).parent])


if __name__ == "__main__":
    main(*sys.argv[1:])
