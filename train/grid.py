"""``python -m train.grid``: the same as ``dawgen run``."""

from dawgen_jax.cli.__main__ import shim

if __name__ == "__main__":
    shim("run")
