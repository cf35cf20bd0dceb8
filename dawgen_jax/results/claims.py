"""Tests of the paper's claims on a set of rows, with the paired tests of :mod:`dawgen_jax.results.paired`.

A claim says that one arm is better than another. Arms are compared only if the settings that both read agree; an arm
with several settings has a line for each. A note names comparisons that no settings allow. Prompt tuning has a separate
claim; zero-shot prompting is not compared, because it has no seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from dawgen_jax.methods.rows import METHODS, REFERENCE
from dawgen_jax.results.arms import arm_names, disagreements, grouped
from dawgen_jax.results.paired import LEVEL, PairedTest, holm, paired_test
from dawgen_jax.results.published import GENERATORS
from dawgen_jax.results.render import Table
from dawgen_jax.results.rows import AnyRow, Row, SyntheticRow

__all__ = ["claims"]

_SURGERY, _PAIRED = "(Real, Syn) + GS", "(Real, Syn)"
_BASELINES = dict.fromkeys(method.name for method in METHODS.values() if method.baseline and method.name != REFERENCE)
_Arm = tuple[str, str, str]  # generator, method, variant

_COMPARISONS: tuple[tuple[str, _Arm, _Arm], ...] = (
    *((f"DawGen > {other} in accuracy", ("DawGen", method, ""), (other, method, ""))
      for other in GENERATORS if other != "DawGen" for method in ("Syn only", _PAIRED, _SURGERY)),
    *(("synthetic data lifts prompt tuning", (generator, _SURGERY, ""), ("", REFERENCE, variant))
      for generator in GENERATORS for variant in ("", "same-T")),
    *(("the method is above the baselines", ("DawGen", _SURGERY, ""), ("", baseline, "")) for baseline in _BASELINES),
    *(("pairing beats ordering", (generator, _PAIRED, ""), (generator, method, ""))
      for generator in GENERATORS for method in ("Real -> Syn", "Syn -> Real")),
    *(("pairing beats pooling", (generator, _PAIRED, ""), (generator, "Real+Syn", "")) for generator in GENERATORS),
    *(("surgery helps", (generator, _SURGERY, ""), (generator, _PAIRED, "")) for generator in GENERATORS),
    *(("synthetic data lifts LoRA", (generator, f"LoRA {_SURGERY}", ""), ("", "LoRA", variant))
      for generator in GENERATORS for variant in ("", "same-T")),
)


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def _line(claim: str, compared: str, test: PairedTest, p_holm: float) -> tuple[str, ...]:
    ends = [f"{100 * end:+.2f}" for end in test.interval]
    return (claim, compared, test.verdict(p_holm), f"{100 * test.mean_a:.2f}", f"{100 * test.mean_b:.2f}",
            f"{100 * test.difference:+.2f}", "–" if test.n < 2 else f"[{', '.join(ends)}]", str(test.n),
            f"{test.ahead[0]} of {test.ahead[1]}", _p(test.p_t), _p(test.p_permutation), _p(p_holm),
            "–" if test.n_power is None else str(test.n_power))


def _by_settings(rows: Iterable[AnyRow]) -> list[list[AnyRow]]:
    """Rows of an arm, grouped by setting."""
    return [same for _, same in grouped(sorted(rows, key=lambda row: row.order), lambda row: row.arm_key)]


def _arms(rows: Sequence[Row], arm: _Arm, writer: str) -> list[list[Row]]:
    """The rows of an arm, grouped by setting."""
    return _by_settings(row for row in rows if (row.generator, row.method, row.variant) == arm
                        and row.generator_backbone == (writer if row.generator else ""))


def claims(rows: Iterable[Row], synthetic: Iterable[SyntheticRow] = ()) -> list[Table]:
    """A table of verdicts for each classifier backbone, generator backbone and number of shots, and one for the label
    consistency of synthetic sets.

    Args:
      rows: rows of any runs; only accuracy rows are used. Comparisons without a common (task, seed) are omitted.
      synthetic: quality rows; only rows with a consistency are used.
    """
    rows = [row for row in rows if row.metric == "accuracy" and row.k_shot != "full"]
    names = arm_names(rows)
    cases = sorted({(row.backbone, row.generator_backbone, row.k_shot) for row in rows if row.generator})
    tables = []
    for backbone, writer, shots in cases:
        same = [row for row in rows if (row.backbone, row.k_shot) == (backbone, shots)]
        title = f"Claims in accuracy: {backbone}, {shots} shots, synthetic data by {writer or 'unknown'}"
        compared = [(claim, _arms(same, a, writer), _arms(same, b, writer)) for claim, a, b in _COMPARISONS]
        tables.append(_table(title, compared, names))
    synthetic = [row for row in synthetic if row.consistency is not None]
    names = arm_names(synthetic)
    for writer in sorted({row.backbone for row in synthetic}):
        of = {generator: _by_settings(row for row in synthetic if (row.backbone, row.generator) == (writer, generator))
              for generator in GENERATORS}
        compared = [(f"DawGen > {other} in label consistency", of["DawGen"], of[other])
                    for other in GENERATORS if other != "DawGen"]
        title = f"Claims in label consistency: sets written by {writer}"
        tables.append(_table(title, compared, names, "consistency"))
    return [table for table in tables if table.rows or len(table.notes) > 1]


def _table(title: str, comparisons: Iterable[tuple[str, list, list]], names: Mapping[tuple, str], field: str = "value"
           ) -> Table:
    """The tests of (claim, rows of arm a by setting, those of arm b), and notes on arms that are not compared."""
    tests, left_out = [], []
    for claim, a, b in comparisons:
        pairs = list(itertools.product(a, b))
        agreeing = [(one, other) for one, other in pairs if not disagreements(one[0], other[0])]
        tests += [(claim, f"{names[one[0].arm_key]} vs. {names[other[0].arm_key]}", test) for one, other in agreeing
                  if (test := paired_test(one, other, field)).n]
        if pairs and not agreeing:
            one, other = pairs[0]
            left_out.append("Not compared, because their settings differ "
                            f"({', '.join(disagreements(one[0], other[0]))}): {names[one[0].arm_key]} vs. "
                            f"{names[other[0].arm_key]}.")
    corrected = holm([test.p_permutation for _, _, test in tests])
    lines = tuple(_line(*test, p) for test, p in zip(tests, corrected, strict=True))
    columns = ("claim", "compared (a vs. b)", "verdict", "a", "b", "a - b", "95% CI", "pairs", "tasks ahead", "p (t)",
               "p (signs)", "p (Holm)", "pairs needed")
    notes = ["Per cent, paired over (task, seed). p (t): paired t test; p (signs): permutation of the signs of the "
             "differences; p (Holm): p (signs) corrected for the lines of this table. "
             f"Verdict: 'holds' if the difference is above 0 and p (Holm) < {LEVEL}, 'does not hold' if it is below 0 "
             f"and p (Holm) < {LEVEL}, else 'undecided'. "
             "Pairs needed: for a t test with a power of 80% at the observed effect size."]
    if any(test.n < 6 for _, _, test in tests):
        notes.append(f"With fewer than 6 pairs p cannot be below {LEVEL}, whatever the outcome.")
    return Table(title, columns, lines, (*notes, *left_out), text_columns=3)
