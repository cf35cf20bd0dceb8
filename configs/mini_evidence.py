"""The paper's claims in miniature: three tasks of the mini world, 10 seeds, on mini-t5.

One resumable command, followed by the tables:

    dawgen run mini_evidence
    dawgen tables runs/mini_evidence --claims --markdown results/mini/tables.md

Settings were chosen on mini-snli and mini-mrpc (see configs/mini_generators.py and results/generators) and then fixed;
mini-qqp was not used before its rows were run.

``Departure:`` as in configs/mini.py, but 1,200 updates of 16 + 16 for arms with synthetic data, the same-T control and
LoRA (3,000), evaluated every 50 (100); 1,000 samples per label (5,000); real-only prompt tuning with the paper's 400
updates, evaluated every 20 (4); the full pool 800 updates of 32 (30,000 of 18), evaluated every 100 (1,000); FT at
rates 3e-4 and 1e-3 (3e-5 and 1e-4) for 200 updates (500), evaluated every 25 (50); the first 1,000 test pairs (all).
"""

import dataclasses

from dawgen_jax.config import Config, DataConfig, load_config

CONTROLS = ("Prompting (zero-shot)", "Prompt Tuning", "Prompt Tuning #same-T", "Prompt Tuning @full", "FT", "LoRA")
STRATEGIES = ("Syn only", "(Real, Syn)", "(Real, Syn) + GS")


def get_config() -> Config:
    """Twelve arms on three tasks."""
    base = load_config("mini")
    return dataclasses.replace(
        base, name="mini_evidence", tasks=("mini-snli", "mini-mrpc", "mini-qqp"),
        seeds=(13, 21, 42, 87, 100, 1, 2, 3, 4, 5),
        arms=(*CONTROLS, *(f"{generator}: {method}" for generator in ("FewGen", "DawGen") for method in STRATEGIES)),
        data=DataConfig(max_test=1000), synthesis=dataclasses.replace(base.synthesis, samples_per_label=1000),
        classifier=dataclasses.replace(base.classifier, real_steps=400, real_eval_every=20, num_steps=1200,
                                       batch_size=16, eval_every=50),
    )
