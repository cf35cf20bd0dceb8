"""All methods: the rows of the paper's three tables, and ours next to them.

| method | what is trained | data |
|---|---|---|
| Prompting (zero-shot), In-Context | nothing | – |
| FT | all weights and a new head | real |
| Prompt-based FT | all weights, in the template | real |
| PFT + soft prompt | all weights and a prompt | real |
| Prompt Tuning | a prompt | real |
| PPT, SPoT, OPTIMA | a prompt that was trained on something else first | real |
| Syn only | a prompt | synthetic (real dev still selects) |
| Real+Syn, Real+Syn+LS | a prompt | both, pooled; LS: labels smoothed by 0.15 |
| Real -> Syn, Syn -> Real | a prompt | one after the other in every epoch |
| (Real, Syn) | a prompt | both every step, d_r + epsilon d_s |
| (Real, Syn) + GS | a prompt | both every step, after gradient surgery (Algorithm 2) |
| LoRA, LoRA (Real, Syn) + GS | low-rank updates | real; both with surgery |

Variants: ``Prompting (zero-shot) #calibrated`` is contextual calibration (Zhao et al.), for causal models, which often
answer one class to all; ``Prompt Tuning #same-T`` has as many updates as the methods with synthetic data, ``@full`` the
whole training pool; ``Real -> Syn #stages`` tunes on real data to its best dev prompt and then on synthetic data with a
fresh optimiser, half of the updates each (``Departure:`` the poster says in every epoch; this is another reading of the
arrow).

References:
  Guo, Du, Li, Miao: Generating Synthetic Datasets for Few-shot Prompt Tuning, 2024,
  https://arxiv.org/abs/2410.10865, and its poster.
  Zhao, Wallace, Feng, Klein, Singh: Calibrate Before Use, https://arxiv.org/abs/2102.09690, 2021.
"""

from __future__ import annotations

from collections.abc import Callable

from dawgen_jax.config import ClassifierConfig
from dawgen_jax.methods.base import Method, Stage, Stages
from dawgen_jax.methods.trained import LOW_RANK, PROMPT, WEIGHTS, WEIGHTS_AND_HEAD, WEIGHTS_AND_PROMPT

__all__ = ["METHODS", "REFERENCE", "SET_VARIANTS"]

_REAL, _SYNTHETIC = ("real",), ("synthetic",)
_BOTH = ("real", "synthetic")


def few(config: ClassifierConfig, num_labels: int) -> tuple[int, int, int]:
    """(updates, batch size, updates between evaluations) on real data only, as prompt tuning's own code has it."""
    return config.real_steps, config.real_batch_per_label * num_labels, config.real_eval_every


def long(config: ClassifierConfig, num_labels: int) -> tuple[int, int, int]:
    """Those of every method with synthetic data, so that they compare, and of real data only as their control."""
    return config.num_steps, config.batch_size, config.eval_every


def full(config: ClassifierConfig, num_labels: int) -> tuple[int, int, int]:
    """Those on the whole training pool."""
    return config.full_steps, config.full_batch_size, config.full_eval_every


def fine(config: ClassifierConfig, num_labels: int) -> tuple[int, int, int]:
    """Those of training all weights."""
    return config.fine_tuning.num_steps, config.fine_tuning.batch_size, config.fine_tuning.eval_every


def _on(*sources: tuple[str, ...], budget: Callable[[ClassifierConfig, int], tuple[int, int, int]] = long,
        surgery: bool = False, in_turn: bool = False, smoothing: float = 0.0) -> Stages:
    """One stage on these sources."""
    def stages(config: ClassifierConfig, num_labels: int) -> tuple[Stage, ...]:
        aggregator = config.aggregator if surgery else "sum"
        return (Stage(sources, aggregator, *budget(config, num_labels), in_turn, smoothing),)

    return stages


def _after(first: tuple[str, ...], second: tuple[str, ...]) -> Stages:
    """Two stages that share the updates in halves."""
    def stages(config: ClassifierConfig, num_labels: int) -> tuple[Stage, ...]:
        updates, *rest = long(config, num_labels)
        half = updates // 2
        return Stage((first,), "sum", half, *rest), Stage((second,), "sum", updates - half, *rest)

    return stages


_IN_TURN = "in every epoch first the {} examples, then the {} ones"
_STAGES = "first on {} examples up to the best step on dev, then on {} ones with a fresh optimiser"

METHODS: dict[str, Method] = {str(method): method for method in (
    Method("Prompting (zero-shot)", about="nothing is trained: the backbone fills the mask of the template"),
    Method("Prompting (zero-shot)", calibrated=True, variant="calibrated",
           about="class probabilities are divided by those of inputs without content ('N/A', '[MASK]', nothing)"),
    Method("In-Context", demonstrations=True,
           about="nothing is trained: labelled examples precede each test example in the input"),
    Method("FT", WEIGHTS_AND_HEAD, _on(_REAL, budget=fine),
           about="all weights and a new classification head are trained, without a template"),
    Method("Prompt-based FT", WEIGHTS, _on(_REAL, budget=fine), about="all weights are trained, in the template"),
    Method("PFT + soft prompt", WEIGHTS_AND_PROMPT, _on(_REAL, budget=fine),
           about="all weights and a soft prompt are trained, in the template"),
    Method("PPT", PROMPT, _on(_REAL, budget=few), source="PPT",
           about="a soft prompt that was first trained on pairs of sentences from unlabelled documents"),
    Method("Prompt Tuning", PROMPT, _on(_REAL, budget=few),
           about="a soft prompt is trained on the few real examples"),
    Method("Prompt Tuning", PROMPT, _on(_REAL), variant="same-T",
           about="with as many updates as the methods with synthetic data"),
    Method("Prompt Tuning", PROMPT, _on(_REAL, budget=full), full=True,
           about="on the whole training pool instead of a few examples per class"),
    Method("SPoT", PROMPT, _on(_REAL, budget=few), source="SPoT",
           about="a soft prompt that was first trained on the whole training set of another task"),
    Method("OPTIMA", PROMPT, _on(_REAL, budget=few), source="OPTIMA",
           about="as SPoT, and adapted with unlabelled pairs of this task"),
    Method("Syn only", PROMPT, _on(_SYNTHETIC),
           about="a soft prompt is trained on synthetic examples; the real dev set selects the best step"),
    Method("Real+Syn", PROMPT, _on(_BOTH), about="real and synthetic examples are pooled"),
    Method("Real+Syn+LS", PROMPT, _on(_BOTH, smoothing=0.15),
           about="real and synthetic examples are pooled, with label smoothing"),
    Method("Real -> Syn", PROMPT, _on(_BOTH, in_turn=True),
           about=_IN_TURN.format("real", "synthetic")),
    Method("Syn -> Real", PROMPT, _on(_BOTH[::-1], in_turn=True),
           about=_IN_TURN.format("synthetic", "real")),
    Method("Real -> Syn", PROMPT, _after(_REAL, _SYNTHETIC), variant="stages",
           about=_STAGES.format("real", "synthetic")),
    Method("Syn -> Real", PROMPT, _after(_SYNTHETIC, _REAL), variant="stages",
           about=_STAGES.format("synthetic", "real")),
    Method("(Real, Syn)", PROMPT, _on(_REAL, _SYNTHETIC),
           about="every update adds the gradients of a real and of a synthetic batch"),
    Method("(Real, Syn) + GS", PROMPT, _on(_REAL, _SYNTHETIC, surgery=True),
           about="every update adds both gradients after gradient surgery: if the synthetic gradient points against "
                 "the real one (a conflict), the conflicting part is removed from it"),
    Method("LoRA", LOW_RANK, _on(_REAL),
           about="low-rank updates of the weights are trained instead of a prompt"),
    Method("LoRA (Real, Syn) + GS", LOW_RANK, _on(_REAL, _SYNTHETIC, surgery=True),
           about="low-rank updates of the weights are trained on both sources, with gradient surgery"),
)}
"""Every method by how config files write it, in the order of the tables."""
REFERENCE = "Prompt Tuning"
"""The method that a verdict compares every other one with."""
SET_VARIANTS = {
    "cut": "synthetic sentences that did not end within their budget are cut there and kept",
    "pool": "the generator continued first sentences of the task's own pool instead of a corpus",
}
"""Variants that a row has from its synthetic set."""
