"""``python -m train.convert``: the same as ``dawgen backbone convert``."""

from dawgen_jax.cli.__main__ import shim

if __name__ == "__main__":
    shim("backbone", "convert")
