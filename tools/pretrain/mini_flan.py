"""mini-flan: mini-t5, tuned on verbalised tasks of the mini world; the answers of the seven mini tasks are held out.

    python -m tools.pretrain tools/pretrain/mini_flan.py --dispatch 1 --out runs/mini-flan

6 minutes on one CPU core. Run it in the repository's root, or give `--start DIR` with the folder of a mini-t5. Accuracy
on masked joints of plain text decreases a little (levels 0 / 1 / 2: 1.00 / .955 / .47, from 1.00 / .995 / .545 before).

The fixed answer words without a glossary are held out, but not the form sentence, <mask>, sentence: it occurs in the
share of plain text, as in pre-training (tools/pretrain/instructions.py).
"""

from tools.pretrain.corpus import CorpusConfig
from tools.pretrain.pretraining import PretrainConfig


def get_config() -> PretrainConfig:
    """The shipped backbone's settings."""
    return PretrainConfig(
        name="mini-flan",
        start="dawgen_jax/miniworld/backbones/mini-t5",
        corpus=CorpusConfig(instructions=True, curriculum=0),
        documents=64_000,
        learning_rate=5e-4,
    )
