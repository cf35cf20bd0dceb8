"""``python -m train.compile``: the same as ``dawgen compile``."""

from dawgen_jax.cli.__main__ import shim

if __name__ == "__main__":
    shim("compile")
