"""``python -m train.check_backbone``: the same as ``dawgen backbone check``."""

from dawgen_jax.cli.__main__ import shim

if __name__ == "__main__":
    shim("backbone", "check")
