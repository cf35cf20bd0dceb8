"""Every row of the paper's tables, and LoRA, on one mini task: an index of methods, too short a run for evidence.

    dawgen run mini_rows
    dawgen tables runs/mini_rows --claims

Expected: 28 arms and 5 seeds in about an hour on 2 CPU cores.

``Departure:`` 20 prompt rows from sampled words at rate 0.2 (the paper's code: 100, from the first words, at 0.3); 400
updates of 8 + 8 examples for arms with synthetic data (3,000 of 16 + 16) evaluated every 25 (100); 200 for real-only
prompt tuning (400) evaluated every 10 (4); 8 + 2 generator rows at rate 0.1 (20 at 0.005) for 240 updates (480), lambda
0.1 (1); sampling at temperature 0.7 (greedy), 150 samples per label (5,000); widths of 48, 24 and 24 tokens (100, 100
and 64), 20 new tokens at most (50); the first 600 test pairs (all). ``dawgen diff mini_rows`` lists every field.
"""

from dawgen_jax.config import (
    ClassifierConfig,
    Config,
    DataConfig,
    FineTuningConfig,
    GeneratorConfig,
    SynthesisConfig,
    TransferConfig,
)

STRATEGIES = ("Syn only", "Real+Syn", "Real+Syn+LS", "Real -> Syn", "Syn -> Real", "(Real, Syn)", "(Real, Syn) + GS",
              "LoRA (Real, Syn) + GS")
BASELINES = ("Prompting (zero-shot)", "In-Context", "FT", "Prompt-based FT", "PFT + soft prompt", "PPT",
             "Prompt Tuning", "Prompt Tuning #same-T", "Prompt Tuning @full", "SPoT", "OPTIMA", "LoRA")


def get_config() -> Config:
    """Twenty-eight arms on one task."""
    arms = (*BASELINES, *(f"{generator}: {method}" for generator in ("FewGen", "DawGen") for method in STRATEGIES))
    return Config(
        name="mini_rows",
        tasks=("mini-snli",),
        seeds=(13, 21, 42, 87, 100),
        arms=arms,
        data=DataConfig(max_test=600),
        generator=GeneratorConfig(prompt_length=8, learning_rate=0.1, num_steps=240, dist_weight=0.1,
                                  max_source_tokens=24, max_target_tokens=24),
        synthesis=SynthesisConfig(samples_per_label=150, max_new_tokens=20, temperature=0.7),
        classifier=ClassifierConfig(
            prompt_length=20, prompt_init="sampled", learning_rate=0.2, real_steps=200, real_eval_every=10,
            num_steps=400, batch_size=8, eval_every=25, full_steps=800, full_batch_size=32, full_eval_every=100,
            max_tokens=48, pad_multiple=4, eval_batch_size=100, demonstration_tokens=240,
            fine_tuning=FineTuningConfig(learning_rates=(3e-4, 1e-3), num_steps=200, eval_every=25)),
        transfer=TransferConfig(ppt_steps=600, ppt_batch_size=32, ppt_pairs=6000, optima_steps=200),
    )
