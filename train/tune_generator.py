"""``python -m train.tune_generator``: the same as ``dawgen run --stage generators``."""

from dawgen_jax.cli.__main__ import shim

if __name__ == "__main__":
    shim("run", "--stage", "generators")
