"""``python -m train.evaluate``: the same as ``dawgen evaluate``."""

from dawgen_jax.cli.__main__ import shim

if __name__ == "__main__":
    shim("evaluate")
