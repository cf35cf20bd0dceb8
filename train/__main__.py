"""``python -m train COMMAND ...``: the same as ``dawgen COMMAND ...``."""

from dawgen_jax.cli.__main__ import command

if __name__ == "__main__":
    command()
