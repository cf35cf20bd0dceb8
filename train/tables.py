"""``python -m train.tables``: the same as ``dawgen tables``."""

from dawgen_jax.cli.__main__ import shim

if __name__ == "__main__":
    shim("tables")
