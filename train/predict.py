"""``python -m train.predict``: the same as ``dawgen predict``."""

from dawgen_jax.cli.__main__ import shim

if __name__ == "__main__":
    shim("predict")
