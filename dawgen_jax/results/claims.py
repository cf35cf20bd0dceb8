"""Which of the paper's claims hold in a set of rows, by paired tests over tasks and seeds.

A pair is one (task, seed): both arms saw the same few shots and are scored on the same test pairs. With differences
d_1..d_n (arm a minus arm b) and their mean m:

    t test        t = m / (s / sqrt n), s the sample deviation, two-sided p from Student's t with n - 1 degrees
    permutation   two-sided p of |m| among all 2^n changes of signs of the d_i (all of them up to n = 16, a fixed
                  random 100,000 beyond)

The permutation test decides, as it assumes no distribution: a claim 'holds' where m > 0 and p < 0.05, 'does not hold'
where m < 0 and p < 0.05, and is 'undecided' otherwise. Fewer than 6 pairs cannot reach 0.05. The tests speak of these
tasks, not of tasks in general.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from dawgen_jax.methods.arms import GENERATORS
from dawgen_jax.results.rows import Row, SyntheticRow
from dawgen_jax.results.tables import Table

__all__ = ["LEVEL", "PairedTest", "claims", "paired_test"]

LEVEL = 0.05
"""Significance level of every verdict."""
_EXACT = 16
_RESAMPLES = 100_000


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """A paired comparison of two arms.

    Attributes:
      difference: mean of a - b over the pairs, in the unit of the values.
      n: pairs.
      ahead: (tasks whose mean difference is above 0, tasks).
      p_t, p_permutation: two-sided; NaN where fewer than 2 (t) or 1 pairs are there.
    """

    difference: float
    n: int
    ahead: tuple[int, int]
    p_t: float
    p_permutation: float

    @property
    def verdict(self) -> str:
        """'holds', 'does not hold' or 'undecided', by the rule of the module."""
        if not self.p_permutation < LEVEL:
            return "undecided"
        return "holds" if self.difference > 0 else "does not hold"


def _t_test(differences: np.ndarray) -> float:
    n = len(differences)
    if n < 2:
        return math.nan
    mean, deviation = abs(differences.mean()), differences.std(ddof=1)
    if deviation == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(mean / (deviation / math.sqrt(n)), n - 1))


def _sign_flips(differences: np.ndarray) -> float:
    if len(differences) < 2:  # one difference and its mirror image are equally extreme
        return 1.0 if len(differences) else math.nan
    resamples = 2**len(differences) if len(differences) <= _EXACT else _RESAMPLES
    found = stats.permutation_test((differences,), np.mean, permutation_type="samples", vectorized=True,
                                   n_resamples=resamples, rng=np.random.default_rng(0))
    return float(found.pvalue)


def _values(rows: Iterable[Row | SyntheticRow], field: str) -> dict[tuple[str, int], float]:
    values = {}
    for row in rows:
        if (row.task, row.seed) in values:
            raise ValueError(f"Two rows for task {row.task}, seed {row.seed}: an arm must have one each.")
        values[row.task, row.seed] = getattr(row, field)
    return values


def paired_test(rows_a: Iterable[Row | SyntheticRow], rows_b: Iterable[Row | SyntheticRow],
                field: str = "value") -> PairedTest:
    """Compares two arms over the (task, seed) that both have.

    Args:
      rows_a, rows_b: the rows of one arm each, one a (task, seed).
      field: which number of the rows.

    Raises:
      ValueError: an arm has two rows for one task and seed.
    """
    a, b = _values(rows_a, field), _values(rows_b, field)
    pairs = sorted(a.keys() & b.keys())
    differences = np.array([a[pair] - b[pair] for pair in pairs], np.float64)
    tasks = sorted({task for task, _ in pairs})
    means = [np.mean([d for d, pair in zip(differences, pairs, strict=True) if pair[0] == task]) for task in tasks]
    return PairedTest(float(differences.mean()) if pairs else math.nan, len(pairs),
                      (sum(mean > 0 for mean in means), len(tasks)), _t_test(differences), _sign_flips(differences))


_SURGERY, _PAIRED = "(Real, Syn) + GS", "(Real, Syn)"
_Arm = tuple[str, str, str]  # generator, method, variant

_COMPARISONS: tuple[tuple[str, _Arm, _Arm], ...] = (
    *(("DawGen > FewGen in accuracy", ("DawGen", method, ""), ("FewGen", method, ""))
      for method in ("Syn only", _PAIRED, _SURGERY)),
    *(("synthetic data lifts prompt tuning", (generator, _SURGERY, ""), ("", "Prompt Tuning", variant))
      for generator in GENERATORS for variant in ("", "same-T")),
    *(("pairing beats ordering", (generator, _PAIRED, ""), (generator, method, ""))
      for generator in GENERATORS for method in ("Real -> Syn", "Syn -> Real")),
    *(("surgery helps", (generator, _SURGERY, ""), (generator, _PAIRED, "")) for generator in GENERATORS),
)


def _name(arm: _Arm) -> str:
    generator, method, variant = arm
    return (f"{generator}: " if generator else "") + method + (f" #{variant}" if variant else "")


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def _line(claim: str, compared: str, test: PairedTest) -> tuple[str, ...]:
    return (claim, compared, f"{100 * test.difference:+.2f}", str(test.n), f"{test.ahead[0]} of {test.ahead[1]}",
            _p(test.p_t), _p(test.p_permutation), test.verdict)


def _select(rows: Sequence[Row], arm: _Arm, writer: str) -> list[Row]:
    return [row for row in rows if (row.generator, row.method, row.variant) == arm
            and row.generator_backbone == (writer if row.generator else "")]


def claims(rows: Iterable[Row], synthetic: Iterable[SyntheticRow] = ()) -> list[Table]:
    """A table of verdicts for each classifier backbone, generator backbone and number of shots, and one for the
    label consistency of synthetic sets.

    Args:
      rows: of any runs; accuracy rows count. Comparisons without a common (task, seed) are left out.
      synthetic: quality rows; those with a consistency count.
    """
    rows = [row for row in rows if row.metric == "accuracy" and row.k_shot != "full"]
    settings = sorted({(row.backbone, row.generator_backbone, row.k_shot) for row in rows if row.generator})
    tables = []
    for backbone, writer, shots in settings:
        same = [row for row in rows if (row.backbone, row.k_shot) == (backbone, shots)]
        tests = [(claim, f"{_name(a)} vs. {_name(b)}", paired_test(_select(same, a, writer), _select(same, b, writer)))
                 for claim, a, b in _COMPARISONS]
        title = f"Claims in accuracy: {backbone}, {shots} shots, synthetic data by {writer or 'unknown'}"
        tables.append(_table(title, tests))
    synthetic = [row for row in synthetic if row.consistency is not None]
    for writer in sorted({row.backbone for row in synthetic}):
        arms = ([row for row in synthetic if (row.backbone, row.generator) == (writer, generator)]
                for generator in ("DawGen", "FewGen"))
        test = paired_test(*arms, field="consistency")
        tables.append(_table(f"Claim in label consistency: sets written by {writer}",
                             [("DawGen > FewGen in label consistency", "DawGen vs. FewGen", test)]))
    return [table for table in tables if table.rows]


def _table(title: str, tests: Iterable[tuple[str, str, PairedTest]]) -> Table:
    lines = tuple(_line(*test) for test in tests if test[2].n)
    columns = ("claim", "compared", "points", "pairs", "tasks ahead", "p (t)", "p (signs)", "verdict")
    notes = [f"Paired over (task, seed). Verdict: 'holds' where the difference is above 0 and p (signs) < {LEVEL}, "
             f"'does not hold' where it is below 0 and p (signs) < {LEVEL}, else 'undecided'. "
             "No correction for the number of lines."]
    if any(int(line[3]) < 6 for line in lines):
        notes.append("Fewer than 6 pairs cannot reach that level whatever they show.")
    return Table(title, columns, lines, tuple(notes))
