"""The paper's claims in miniature: three tasks of the mini world, five strategies, 5 seeds, on mini-t5.

One command, resumable, then the tables that stand in results/mini:

    python -m train.run configs/mini_evidence.py
    python -m train.tables runs/mini_evidence --claims --markdown tables.md

Settings were chosen on generated sets and the validation splits of mini-snli and mini-mrpc, and are the same for every
task.

``Departure:`` 20 prompt rows from sampled words at rate 0.2 (the paper's code: 100 from the first words, which in this
world are the likes of 'a', 'no', 'who', at 0.3); arms with synthetic data 400 updates of 8 + 8 examples (3,000 of
16 + 16), evaluated every 25 (100); real-only prompt tuning the paper's 400 updates, evaluated every 20 (4); the full
pool 800 updates of 32 (30,000 of 18), evaluated every 100 (1,000); FT at rates 3e-4 and 1e-3 (3e-5 and 1e-4) for 200
updates (500), evaluated every 25 (50); generators 8 + 3 rows at rate 0.03 (20 at 0.005) for 240 updates (480), lambda
0.1 (1), sampling at temperature 0.7 (greedy), 150 samples a label (5,000); widths of 48, 24 and 24 tokens (100, 100 and
64), 20 new tokens at most (50); the first 1,000 test pairs (all).
"""

from dawgen_jax.config import (
    ClassifierConfig,
    Config,
    DataConfig,
    FineTuningConfig,
    GeneratorConfig,
    SynthesisConfig,
)


def get_config() -> Config:
    """Fifteen arms on three tasks."""
    strategies = ("Syn only", "Real -> Syn", "Syn -> Real", "(Real, Syn)", "(Real, Syn) + GS")
    return Config(
        name="mini_evidence",
        tasks=("mini-snli", "mini-rte", "mini-mrpc"),
        arms=("Prompting (zero-shot)", "Prompt Tuning", "Prompt Tuning #same-T", "Prompt Tuning @full", "FT",
              *(f"{generator}: {method}" for generator in ("FewGen", "DawGen") for method in strategies)),
        data=DataConfig(max_test=1000),
        generator=GeneratorConfig(prompt_length=8, learning_rate=0.03, num_steps=240, dist_weight=0.1,
                                  max_source_tokens=24, max_target_tokens=24),
        synthesis=SynthesisConfig(samples_per_label=150, max_new_tokens=20, temperature=0.7),
        classifier=ClassifierConfig(
            prompt_length=20, prompt_init="sampled", learning_rate=0.2, real_steps=400, real_eval_every=20,
            num_steps=400, batch_size=8, eval_every=25, full_steps=800, full_batch_size=32, full_eval_every=100,
            max_tokens=48, pad_multiple=4, eval_batch_size=100,
            fine_tuning=FineTuningConfig(learning_rates=(3e-4, 1e-3), num_steps=200, eval_every=25)),
    )
