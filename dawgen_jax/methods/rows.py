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

from dawgen_jax.methods.base import FEW, FINE, FULL, LONG, Method, Stretch
from dawgen_jax.methods.trained import LOW_RANK, PROMPT, WEIGHTS, WEIGHTS_AND_HEAD, WEIGHTS_AND_PROMPT

__all__ = ["METHODS", "REFERENCE", "SET_VARIANTS"]

_REAL, _SYNTHETIC = ("real",), ("synthetic",)
_BOTH = ("real", "synthetic")

_IN_TURN = "in every epoch first the {} examples, then the {} ones"
_STAGES = "first on {} examples up to the best step on dev, then on {} ones with a fresh optimiser"

METHODS: dict[str, Method] = {str(method): method for method in (
    Method("Prompting (zero-shot)", about="nothing is trained: the backbone fills the mask of the template"),
    Method("Prompting (zero-shot)", calibrated=True, variant="calibrated",
           about="class probabilities are divided by those of inputs without content ('N/A', '[MASK]', nothing)"),
    Method("In-Context", demonstrations=True,
           about="nothing is trained: labelled examples precede each test example in the input"),
    Method("FT", WEIGHTS_AND_HEAD, (Stretch((_REAL,), FINE),),
           about="all weights and a new classification head are trained, without a template"),
    Method("Prompt-based FT", WEIGHTS, (Stretch((_REAL,), FINE),), about="all weights are trained, in the template"),
    Method("PFT + soft prompt", WEIGHTS_AND_PROMPT, (Stretch((_REAL,), FINE),),
           about="all weights and a soft prompt are trained, in the template"),
    Method("PPT", PROMPT, (Stretch((_REAL,), FEW),), source="PPT",
           about="a soft prompt that was first trained on pairs of sentences from unlabelled documents"),
    Method("Prompt Tuning", PROMPT, (Stretch((_REAL,), FEW),),
           about="a soft prompt is trained on the few real examples"),
    Method("Prompt Tuning", PROMPT, (Stretch((_REAL,), LONG),), variant="same-T",
           about="with as many updates as the methods with synthetic data"),
    Method("Prompt Tuning", PROMPT, (Stretch((_REAL,), FULL),), full=True,
           about="on the whole training pool instead of a few examples per class"),
    Method("SPoT", PROMPT, (Stretch((_REAL,), FEW),), source="SPoT",
           about="a soft prompt that was first trained on the whole training set of another task"),
    Method("OPTIMA", PROMPT, (Stretch((_REAL,), FEW),), source="OPTIMA",
           about="as SPoT, and adapted with unlabelled pairs of this task"),
    Method("Syn only", PROMPT, (Stretch((_SYNTHETIC,), LONG),),
           about="a soft prompt is trained on synthetic examples; the real dev set selects the best step"),
    Method("Real+Syn", PROMPT, (Stretch((_BOTH,), LONG),), about="real and synthetic examples are pooled"),
    Method("Real+Syn+LS", PROMPT, (Stretch((_BOTH,), LONG, smoothing=0.15),),
           about="real and synthetic examples are pooled, with label smoothing"),
    Method("Real -> Syn", PROMPT, (Stretch((_BOTH,), LONG, in_turn=True),),
           about=_IN_TURN.format("real", "synthetic")),
    Method("Syn -> Real", PROMPT, (Stretch((_BOTH[::-1],), LONG, in_turn=True),),
           about=_IN_TURN.format("synthetic", "real")),
    Method("Real -> Syn", PROMPT, (Stretch((_REAL,), LONG), Stretch((_SYNTHETIC,), LONG)), variant="stages",
           about=_STAGES.format("real", "synthetic")),
    Method("Syn -> Real", PROMPT, (Stretch((_SYNTHETIC,), LONG), Stretch((_REAL,), LONG)), variant="stages",
           about=_STAGES.format("synthetic", "real")),
    Method("(Real, Syn)", PROMPT, (Stretch((_REAL, _SYNTHETIC), LONG),),
           about="every update adds the gradients of a real and of a synthetic batch"),
    Method("(Real, Syn) + GS", PROMPT, (Stretch((_REAL, _SYNTHETIC), LONG, surgery=True),),
           about="every update adds both gradients after gradient surgery: if the synthetic gradient points against "
                 "the real one (a conflict), the conflicting part is removed from it"),
    Method("LoRA", LOW_RANK, (Stretch((_REAL,), LONG),),
           about="low-rank updates of the weights are trained instead of a prompt"),
    Method("LoRA (Real, Syn) + GS", LOW_RANK, (Stretch((_REAL, _SYNTHETIC), LONG, surgery=True),),
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
