"""``python -m train.diff``: the same as ``dawgen diff``."""

from dawgen_jax.cli.__main__ import shim

if __name__ == "__main__":
    shim("diff")
