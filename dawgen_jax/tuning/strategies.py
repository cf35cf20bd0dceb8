"""How real and synthetic data are combined: each arm of the tables as one or two phases of prompt tuning.

| method | phases |
|---|---|
| Prompt Tuning | real |
| Syn only | synthetic (real dev still selects) |
| Real -> Syn | real, then synthetic from the best prompt with a fresh optimiser; half of the updates each |
| Syn -> Real | the reverse |
| (Real, Syn) | both every step, d_r + epsilon d_s |
| (Real, Syn) + GS | both every step, after gradient surgery (Algorithm 2) |
"""

from __future__ import annotations

import dataclasses

from dawgen_jax.config import Arm, ClassifierConfig

__all__ = ["Phase", "phases"]


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of prompt tuning with one optimiser.

    Attributes:
      sources: names of the data of each source, the reference of the surgery first.
      aggregator: how per-source gradients are combined.
      num_steps: updates T, the length of the cosine schedule.
      batch_size: examples B of each source in a step.
      eval_every: updates between two evaluations on dev.
    """

    sources: tuple[str, ...]
    aggregator: str
    num_steps: int
    batch_size: int
    eval_every: int


def phases(arm: Arm, config: ClassifierConfig, num_labels: int) -> tuple[Phase, ...]:
    """The phases of an arm; none for methods without a tuned prompt."""
    def paired(sources: tuple[str, ...], aggregator: str, num_steps: int) -> Phase:
        return Phase(sources, aggregator, num_steps, config.batch_size, config.eval_every)

    half = config.num_steps // 2
    real, synthetic = ("real",), ("synthetic",)
    match arm.method:
        case "Prompt Tuning" if arm.full:
            return (Phase(real, "sum", config.full_steps, config.full_batch_size, config.full_eval_every),)
        case "Prompt Tuning" if arm.variant == "same-T":
            return (paired(real, "sum", config.num_steps),)
        case "Prompt Tuning":
            return (Phase(real, "sum", config.real_steps, config.real_batch_per_label * num_labels,
                          config.real_eval_every),)
        case "Syn only":
            return (paired(synthetic, "sum", config.num_steps),)
        case "Real -> Syn":
            return (paired(real, "sum", half), paired(synthetic, "sum", config.num_steps - half))
        case "Syn -> Real":
            return (paired(synthetic, "sum", half), paired(real, "sum", config.num_steps - half))
        case "(Real, Syn)":
            return (paired(real + synthetic, "sum", config.num_steps),)
        case "(Real, Syn) + GS":
            return (paired(real + synthetic, config.aggregator, config.num_steps),)
        case _:
            return ()
