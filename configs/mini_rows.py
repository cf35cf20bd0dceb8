"""Every row of the paper's tables, and ours next to them, in miniature: mini-snli, 5 seeds, mini-t5.

Expected: the tables in results/rows, which these commands wrote (see there for the machine and the time):

    dawgen run mini_rows
    dawgen tables runs/mini_rows --claims --markdown results/rows/tables.md --figure results/rows/figure.svg

``Departure:`` those of configs/mini.py; FT, prompt-based FT and PFT + soft prompt at rates 3e-4 and 1e-3 (3e-5 and
1e-4) for 200 updates (500); the full pool and SPoT's source 800 updates of 32 (30,000 of 18); PPT's pre-training 600
updates of 32 (200,000 of 64) on documents of the mini world; OPTIMA 200 updates (at most 30,000); demonstrations in 240
tokens (512). 'FewGen released' has no sets for the mini world.
"""

import dataclasses

from dawgen_jax.config import Config, load_config

STRATEGIES = ("Syn only", "Real+Syn", "Real+Syn+LS", "Real -> Syn", "Syn -> Real", "(Real, Syn)", "(Real, Syn) + GS",
              "LoRA (Real, Syn) + GS")
BASELINES = ("Prompting (zero-shot)", "In-Context", "FT", "Prompt-based FT", "PFT + soft prompt", "PPT",
             "Prompt Tuning", "Prompt Tuning #same-T", "Prompt Tuning @full", "SPoT", "OPTIMA", "LoRA")


def get_config() -> Config:
    """Twenty-eight arms on one task."""
    arms = (*BASELINES, *(f"{generator}: {method}" for generator in ("FewGen", "DawGen") for method in STRATEGIES))
    return dataclasses.replace(load_config("mini"), name="mini_rows", seeds=(13, 21, 42, 87, 100), arms=arms)
