"""A random backbone in both frameworks, and medians of alternating runs."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from dawgen_jax.backbones.t5 import convert, model
from dawgen_jax.backbones.t5.config import T5Config

SMALL = T5Config(vocab_size=32128, d_model=512, d_kv=64, d_ff=1024, num_layers=8, num_decoder_layers=8, num_heads=6)
"""T5-v1.1-small with an untied head."""
LARGE = T5Config(vocab_size=32128, d_model=1024, d_kv=64, d_ff=2816, num_layers=24, num_decoder_layers=24,
                 num_heads=16, scan_unroll=1)
"""T5-v1.1-large (t5-large-lm-adapt, flan-t5-large), with layers scanned."""
MINI = T5Config(vocab_size=160, d_model=128, d_kv=32, d_ff=320, num_layers=4, num_decoder_layers=2, num_heads=4)
"""The shape of the embedded mini-t5."""


def torch_peer(config: T5Config, theta, **options):
    """The same weights as ``transformers``' T5, frozen, in eval mode."""
    import transformers
    with tempfile.TemporaryDirectory() as folder:
        convert.save(folder, config, theta)
        peer = transformers.T5ForConditionalGeneration.from_pretrained(folder, **options).eval()
    return peer.requires_grad_(False)


def random_theta(config: T5Config):
    """Random weights with T5's initialisation."""
    return jax.jit(lambda key: model.init(config, key))(jax.random.key(0))


def alternate(functions: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median seconds of each function over ``runs`` rounds in which all run in turn, after a warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(runs + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compile_cost(function: Callable, *arguments) -> dict[str, float]:
    """Cost of lowering and compiling from the arguments' shapes alone, with a cold cache.

    Returns:
      Seconds, CPU seconds, and GiB of temporary memory of the program.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    jax.clear_caches()
    enabled = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX decides once, at the first compilation, whether to use the cache
    start, cpu = time.perf_counter(), time.process_time()
    compiled = jax.jit(function).lower(*shapes).compile()
    cost = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu,
            "temporary_gib": compiled.memory_analysis().temp_size_in_bytes / 2**30}
    jax.config.update("jax_enable_compilation_cache", enabled)
    compilation_cache.reset_cache()
    return cost


def main(doc: str, questions: dict[str, Callable[[int], dict]], *, runs: int) -> None:
    """Answer the questions named by --only (all by default) over --runs runs each, and report."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--only", nargs="*", choices=questions, default=list(questions))
    arguments, figures = parser.parse_args(), {}
    for name in arguments.only:
        figures[name] = questions[name](arguments.runs)
        print(name, figures[name], flush=True)
    report(figures)


def report(figures: dict) -> None:
    """Print the figures as JSON on the last line."""
    device = jax.devices()[0]
    machine = {"device": f"{device.platform} {device.device_kind}", "cpus": os.cpu_count(),
               "python": platform.python_version(), "jax": jax.__version__}
    plain = jax.tree.map(lambda value: round(float(value), 4) if isinstance(value, float | np.floating) else value,
                         figures)
    print(json.dumps({**plain, **machine}))
