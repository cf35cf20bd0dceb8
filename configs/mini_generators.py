"""Ablation of the generator in miniature: nine generators on mini-snli and mini-mrpc, 10 seeds.

    dawgen run mini_generators
    dawgen run mini_generators --stage sets    # label consistency alone
    python -m benchmarks.generator_sets runs/mini_generators/synthetic/*/quality.jsonl

For each generator: consistency, diversity and copies of its sets (1,000 samples per label), the entropy of its token
weights, and the accuracy of a prompt tuned on its sets alone, 600 updates of 16.

``Departure:`` as in configs/mini.py; 600 updates (3,000), 1,000 samples per label (5,000).
"""

import dataclasses

from dawgen_jax.config import Config, DataConfig, load_config

GENERATORS = ("L_gen", "L_gen + L_dist", "FewGen", "DawGen without L_dist", "DawGen with L_dist in the real step",
              "DawGen from losses", "DawGen", "DawGen at lambda 1", "DawGen with width-scaled steps")


def get_config() -> Config:
    """Nine arms on two tasks."""
    base = load_config("mini")
    return dataclasses.replace(
        base, name="mini_generators", tasks=("mini-snli", "mini-mrpc"), seeds=(13, 21, 42, 87, 100, 1, 2, 3, 4, 5),
        arms=tuple(f"{generator}: Syn only" for generator in GENERATORS), data=DataConfig(max_test=1000),
        synthesis=dataclasses.replace(base.synthesis, samples_per_label=1000),
        classifier=dataclasses.replace(base.classifier, num_steps=600, batch_size=16, eval_every=50))
