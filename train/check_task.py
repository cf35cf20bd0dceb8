"""``python -m train.check_task``: the same as ``dawgen check``."""

from dawgen_jax.cli.__main__ import shim

if __name__ == "__main__":
    shim("check")
