"""mini-t5: a T5 of v1.1 shape (1.3 million parameters) on unlabelled text of the mini world.

    python -m train.pretrain configs/pretrain_mini_t5.py --dispatch 1 --out runs/mini-t5

About 15 minutes on one CPU core (300 documents a second). On an accelerator leave `--dispatch 1` out, and give it more:
`--documents 4000000`.

What was tried first, and failed (accuracy of the masked joint of two statements, four relations, chance about .3):
- twice as many content words (160 forms instead of 84): short sentences alone .43 after 64,000 documents, where the
  smaller lexicon is at .59 after 12,800;
- all levels and prefixes from the start: flat at .4 and below after 112,000 documents;
- short sentences first, then longer ones and prefixes together: .69 on the short ones, and lost again within 50,000
  documents; so levels come first, and prefixes after them;
- a rate of 1.5e-3: .59 after 12,800 short documents, against .71 with 7e-4.
All are single runs.
"""

from dawgen_jax.miniworld.pretraining import PretrainConfig


def get_config() -> PretrainConfig:
    return PretrainConfig(name="mini-t5")
