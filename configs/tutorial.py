"""Settings of the tutorial (docs/tutorial): every stage of the method in seconds, on one seed of one task.

    dawgen run tutorial

Expected: numbers that only show what each stage reads and writes. Cost: about two minutes on 2 CPU cores, mostly for
compilation. ``Departure:`` as in configs/mini.py, with a sixth of the updates, samples and test pairs; all texts are
padded to one width, so that a step is compiled once.
"""

import dataclasses

from dawgen_jax.config import Config, load_config


def get_config() -> Config:
    """Zero-shot, prompt tuning, and DawGen with gradient surgery."""
    config = load_config("mini_rows")
    return dataclasses.replace(
        config,
        name="tutorial",
        seeds=(13,),
        arms=("Prompting (zero-shot)", "Prompt Tuning", "DawGen: (Real, Syn) + GS"),
        data=dataclasses.replace(config.data, max_test=100),
        generator=dataclasses.replace(config.generator, num_steps=40),
        synthesis=dataclasses.replace(config.synthesis, samples_per_label=24, score=True),
        classifier=dataclasses.replace(config.classifier, real_steps=60, num_steps=60, pad_multiple=24),
        devices=1,
    )
