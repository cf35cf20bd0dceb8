"""mini-flan: mini-t5, tuned on verbalised tasks of the mini world; the formats of the seven mini tasks are held out.

    python -m train.pretrain configs/pretrain_mini_flan.py --start runs/mini-t5/backbone --out runs/mini-flan
"""

from dawgen_jax.miniworld.corpus import CorpusConfig
from dawgen_jax.miniworld.pretraining import PretrainConfig


def get_config() -> PretrainConfig:
    return PretrainConfig(
        name="mini-flan",
        start="dawgen_jax/miniworld/backbones/mini-t5",
        corpus=CorpusConfig(instructions=True, curriculum=0),
        documents=200_000,
        learning_rate=5e-4,
    )
