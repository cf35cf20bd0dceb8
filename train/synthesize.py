"""``python -m train.synthesize``: the same as ``dawgen run --stage sets``."""

from dawgen_jax.cli.__main__ import shim

if __name__ == "__main__":
    shim("run", "--stage", "sets")
