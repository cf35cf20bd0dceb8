"""``python -m train.pretrain``: the same as ``python -m tools.pretrain``."""

import sys

from dawgen_jax.cli import process
from tools.pretrain.__main__ import main

if __name__ == "__main__":
    process.guard(lambda argv: main(process.start(argv)), sys.argv[1:])
