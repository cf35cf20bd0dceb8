"""All measurements that need an accelerator, in one command of under 30 minutes.

    python -m benchmarks.accelerator [--only steps decoding seeds mini suite] [--backbone t5-large] [--runs 5]

steps: the prompt step with surgery and the generator step of configs/paper.py on random rows of full length, in
bfloat16: milliseconds, useful operations per second (train.compile defines them), and their share of the rate of a
large product measured in the same run and of the published peak. decoding: the accelerator part of
benchmarks.generation, for the backbone's shape. seeds: five seeds in one program against five runs of one seed. mini:
all of ``dawgen run mini``. suite: the tests of the mathematics and of T5 on the accelerator; sharding is tested on 8
virtual CPU devices. Without an accelerator it runs on the CPU, where --backbone mini is the size to try. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks import generation, peers
from benchmarks.scaling import changed, runnable
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.sizes import SIZES
from dawgen_jax.cli.options import load_config
from dawgen_jax.config import Config
from dawgen_jax.pipeline.programs import GENERATOR, PROMPT

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "TPU v5 lite": 197e12}
"""Published dense bfloat16 operations per second, by a part of the device's name."""
SHAPES = SIZES | {"mini": dataclasses.replace(peers.MINI, vocab_size=1000)}
TESTS = ("tests/backbones", "tests/generator", "tests/methods", "tests/reference", "tests/surgery",
         "tests/training/test_step.py", "tests/training/test_fit.py")


def shape_of(name: str) -> T5Config:
    """A size in bfloat16, with layers scanned."""
    return dataclasses.replace(SHAPES[name], dtype="bfloat16", scan_unroll=1)


def paper(seeds: int) -> Config:
    """The paper's settings on one device, with all seeds in one program."""
    return changed(load_config("paper"), {"tasks": ("MNLI",), "seeds": tuple(range(seeds)), "devices": 1,
                                          "classifier.vmap_seeds": True})


def product_rate(runs: int, size: int) -> float:
    """Operations per second of a square product in bfloat16."""
    matrix, repeats = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16), 10
    chain = jax.jit(lambda x: jax.lax.fori_loop(0, repeats, lambda _, y: (y @ x) / size, x))
    return repeats * 2 * size**3 / peers.alternate({"product": lambda: chain(matrix)}, runs)["product"]


def steps(runs: int, backbone: str) -> dict:
    """Rates of both steps, and their shares."""
    figures: dict = {"product_tflop_per_s": product_rate(runs, 512 if backbone == "mini" else 8192) / 1e12}
    peak = next((rate for name, rate in PEAKS.items() if name in jax.devices()[0].device_kind), None)
    for step in (PROMPT, GENERATOR):
        cost, run, useful = runnable(step, paper(1), shape_of(backbone))
        seconds = peers.alternate({step: run}, runs)[step]
        rate = useful / seconds / 1e12
        figures[step] = {"ms": 1e3 * seconds, "useful_tflop_per_s": rate, "temporary_gib": cost.temporary / 2**30,
                         "share_of_product": rate / figures["product_tflop_per_s"]}
        if peak:
            figures[step]["share_of_peak"] = 1e12 * rate / peak
        print(step, figures[step], flush=True)  # the next step may not fit
    return figures


def seeds(runs: int, backbone: str) -> dict:
    """Prompt steps per second of five seeds in one program, relative to a single seed."""
    built = {str(count): runnable(PROMPT, paper(count), shape_of(backbone))[1] for count in (1, 5)}
    seconds = peers.alternate(built, runs)
    return {"seconds": seconds, "gain": 5 * seconds["1"] / seconds["5"]}


def child(*command: str) -> dict:
    """Run a command in a separate process, so that it can use the memory that this one does not hold."""
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    platform = {"gpu": "cuda"}.get(jax.devices()[0].platform, jax.devices()[0].platform)
    environment.setdefault("JAX_PLATFORMS", ",".join(dict.fromkeys((platform, "cpu"))))
    start = time.perf_counter()
    code = subprocess.run([sys.executable, "-m", *command], env=environment).returncode
    return {"exit_status": code, "seconds": time.perf_counter() - start}


def main() -> None:
    """Answer the questions named by --only, and report."""
    questions: dict[str, Callable[[int, str], dict]] = {
        "steps": steps, "decoding": lambda runs, size: generation.accelerator(runs, SHAPES[size]), "seeds": seeds,
        "mini": lambda *_: child("train.run", "mini", "--out", "runs/accelerator_mini"),
        "suite": lambda *_: child("pytest", "-q", "-n", "4", *TESTS)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=questions, default=list(questions))
    parser.add_argument("--backbone", choices=SHAPES, default="t5-large")
    arguments, figures = parser.parse_args(), {}
    for name in arguments.only:
        figures[name] = questions[name](arguments.runs, arguments.backbone)
        print(name, figures[name], flush=True)
    peers.report({"arguments": vars(arguments), "date": f"{datetime.date.today()}", **figures})


if __name__ == "__main__":
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    main()
