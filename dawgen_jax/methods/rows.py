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

Variants: ``Prompt Tuning #same-T`` has as many updates as the methods with synthetic data, ``@full`` the whole training
pool; ``Real -> Syn #stages`` tunes on real data to its best dev prompt and then on synthetic data with a fresh
optimiser, half of the updates each (``Departure:`` the poster says in every epoch; this is another reading of the
arrow).

References:
  Guo, Du, Li, Miao: Generating Synthetic Datasets for Few-shot Prompt Tuning, 2024,
  https://arxiv.org/abs/2410.10865, and its poster.
"""

from __future__ import annotations

from dawgen_jax.methods.base import FEW, FINE, FULL, LONG, Method, Stretch
from dawgen_jax.methods.trained import LOW_RANK, PROMPT, WEIGHTS, WEIGHTS_AND_HEAD, WEIGHTS_AND_PROMPT

__all__ = ["METHODS"]

_REAL, _SYNTHETIC = ("real",), ("synthetic",)
_BOTH = ("real", "synthetic")

METHODS: dict[str, Method] = {str(method): method for method in (
    Method("Prompting (zero-shot)"),
    Method("In-Context", demonstrations=True),
    Method("FT", WEIGHTS_AND_HEAD, (Stretch((_REAL,), FINE),)),
    Method("Prompt-based FT", WEIGHTS, (Stretch((_REAL,), FINE),)),
    Method("PFT + soft prompt", WEIGHTS_AND_PROMPT, (Stretch((_REAL,), FINE),)),
    Method("PPT", PROMPT, (Stretch((_REAL,), FEW),), source="PPT"),
    Method("Prompt Tuning", PROMPT, (Stretch((_REAL,), FEW),)),
    Method("Prompt Tuning", PROMPT, (Stretch((_REAL,), LONG),), variant="same-T"),
    Method("Prompt Tuning", PROMPT, (Stretch((_REAL,), FULL),), full=True),
    Method("SPoT", PROMPT, (Stretch((_REAL,), FEW),), source="SPoT"),
    Method("OPTIMA", PROMPT, (Stretch((_REAL,), FEW),), source="OPTIMA"),
    Method("Syn only", PROMPT, (Stretch((_SYNTHETIC,), LONG),)),
    Method("Real+Syn", PROMPT, (Stretch((_BOTH,), LONG),)),
    Method("Real+Syn+LS", PROMPT, (Stretch((_BOTH,), LONG, smoothing=0.15),)),
    Method("Real -> Syn", PROMPT, (Stretch((_BOTH,), LONG, in_turn=True),)),
    Method("Syn -> Real", PROMPT, (Stretch((_BOTH[::-1],), LONG, in_turn=True),)),
    Method("Real -> Syn", PROMPT, (Stretch((_REAL,), LONG), Stretch((_SYNTHETIC,), LONG)), variant="stages"),
    Method("Syn -> Real", PROMPT, (Stretch((_SYNTHETIC,), LONG), Stretch((_REAL,), LONG)), variant="stages"),
    Method("(Real, Syn)", PROMPT, (Stretch((_REAL, _SYNTHETIC), LONG),)),
    Method("(Real, Syn) + GS", PROMPT, (Stretch((_REAL, _SYNTHETIC), LONG, surgery=True),)),
    Method("LoRA", LOW_RANK, (Stretch((_REAL,), LONG),)),
    Method("LoRA (Real, Syn) + GS", LOW_RANK, (Stretch((_REAL, _SYNTHETIC), LONG, surgery=True),)),
)}
"""Every method by how config files write it, in the order of the tables."""
