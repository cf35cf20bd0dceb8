"""``python -m train.quality``: the same as ``dawgen quality``."""

from dawgen_jax.cli.__main__ import shim

if __name__ == "__main__":
    shim("quality")
