"""The flag against a fault of one version of the compiler is set, and it cures the fault."""

import importlib.metadata
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

FAULTY = importlib.metadata.version("jaxlib") == "0.10.2"
FLAG = "--xla_cpu_experimental_ynn_fusion_type="


def run(program: str, flags: str = "") -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {"XLA_FLAGS": flags}
    return subprocess.run([sys.executable, "-W", "always", "-c", program], env=environment, capture_output=True,
                          text=True, timeout=120, check=True)


def test_fused_reduction_is_right():
    """The published reproduction, on small whole numbers, whose sums of squares are exact."""
    rows = np.arange(32769 * 3, dtype=np.float32).reshape(-1, 3) % 7
    squares = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(rows)
    np.testing.assert_array_equal(squares, np.sum(rows**2, axis=1))


@pytest.mark.parametrize("flags", ["", "--xla_force_host_platform_device_count=1"])
def test_import_sets_the_flag_quietly_and_warns_only_if_jax_has_started(flags):
    program = run("import dawgen_jax, os; print(os.environ['XLA_FLAGS'])", flags)
    assert program.stdout.split() == flags.split() + [FLAG] * FAULTY and "RuntimeWarning" not in program.stderr
    late = run("import jax; jax.devices(); import dawgen_jax", flags)
    assert late.stderr.count("RuntimeWarning") == FAULTY and (FLAG in late.stderr) == FAULTY
