"""``python -m train.export``: the same as ``dawgen export``."""

from dawgen_jax.cli.__main__ import shim

if __name__ == "__main__":
    shim("export")
