"""Pre-train a backbone of the mini world: the same as ``python -m tools.pretrain CONFIG``."""

from tools.pretrain.__main__ import main

if __name__ == "__main__":
    from train import cli

    cli.guard(main)
