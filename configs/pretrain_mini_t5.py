"""mini-t5: a T5 of v1.1 shape (1.3 million parameters) on unlabelled text of the mini world.

    python -m train.pretrain configs/pretrain_mini_t5.py --out runs/mini-t5

On a CPU add `--dispatch 1`: narrow batches are then padded less.
"""

from dawgen_jax.miniworld.pretraining import PretrainConfig


def get_config() -> PretrainConfig:
    return PretrainConfig(name="mini-t5")
