"""The paper's claims in miniature: three tasks of the mini world, five strategies, 5 seeds, on mini-t5.

One command, resumable, then the tables:

    python -m train.run configs/mini_evidence.py
    python -m train.tables runs/mini_evidence --claims --markdown tables.md

``Departure:`` those of configs/mini.py, but real-only prompt tuning has the paper's 400 updates, evaluated every 20
(4); the full pool 800 updates of 32 (30,000 of 18), evaluated every 100 (1,000); FT at rates 3e-4 and 1e-3 (3e-5 and
1e-4) for 200 updates (500), evaluated every 25 (50); the first 1,000 test pairs (all).
"""

import dataclasses

from configs import mini
from dawgen_jax.config import Config, DataConfig


def get_config() -> Config:
    """Fifteen arms on three tasks."""
    base = mini.get_config()
    strategies = ("Syn only", "Real -> Syn", "Syn -> Real", "(Real, Syn)", "(Real, Syn) + GS")
    return dataclasses.replace(
        base, name="mini_evidence", tasks=("mini-snli", "mini-rte", "mini-mrpc"), seeds=Config().seeds,
        arms=("Prompting (zero-shot)", "Prompt Tuning", "Prompt Tuning #same-T", "Prompt Tuning @full", "FT",
              *(f"{generator}: {method}" for generator in ("FewGen", "DawGen") for method in strategies)),
        data=DataConfig(max_test=1000),
        classifier=dataclasses.replace(base.classifier, real_steps=400, real_eval_every=20),
    )
