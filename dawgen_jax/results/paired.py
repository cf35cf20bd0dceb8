"""Paired tests of two arms over tasks and seeds.

A pair is one (task, seed): both arms used the same few shots and are scored on the same test pairs. With differences
d_1..d_n (arm a minus arm b), their mean m and sample deviation s:

    t test        t = m / (s / sqrt n), two-sided p from Student's t with n - 1 degrees of freedom
    interval      m ± t_{0.975, n-1} s / sqrt n, which contains the mean difference with 95% confidence
    permutation   two-sided p of |m| among the 2^n changes of signs of the d_i (all up to n = 16, a fixed random
                  100,000 for larger n)
    Holm          over the k claims of a table, sorted p_(1) <= .. <= p_(k): the i-th becomes the largest of
                  min(1, (k - j + 1) p_(j)) over j <= i; this bounds the chance of any false verdict by 0.05
    power         the fewest pairs for which a two-sided t test of level 0.05 detects an effect of the observed size
                  m / s in 80% of cases, by the noncentral t distribution

Holm's p of the permutation test decides, since that test assumes no distribution: a claim 'holds' if m > 0 and
p < 0.05, 'does not hold' if m < 0 and p < 0.05, and is 'undecided' otherwise. Fewer than 6 pairs cannot reach 0.05.
The tests describe these tasks, not tasks in general.

References:
  Holm. A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6, 1979.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from dawgen_jax.results.rows import Row, SyntheticRow

__all__ = ["LEVEL", "POWER", "PairedTest", "holm", "paired_test", "pairs_for_power"]

LEVEL = 0.05
"""Significance level of all verdicts."""
POWER = 0.8
"""Power for which the required number of pairs is computed."""
_EXACT = 16
_RESAMPLES = 100_000


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """A paired comparison of two arms.

    Attributes:
      mean_a, mean_b: means of the two arms over the pairs, in the unit of the values.
      difference: mean of a - b over the pairs.
      interval: ends of its 95% confidence interval; NaN for fewer than 2 pairs.
      n: number of pairs.
      ahead: (number of tasks whose mean difference is above 0, number of tasks).
      p_t, p_permutation: two-sided p values; NaN for fewer than 2 pairs (t) or 1 pair (permutation).
      n_power: number of pairs for a power of 80% at this effect size; None if the difference is 0 or n < 2.
    """

    mean_a: float
    mean_b: float
    difference: float
    interval: tuple[float, float]
    n: int
    ahead: tuple[int, int]
    p_t: float
    p_permutation: float
    n_power: int | None

    def verdict(self, p: float) -> str:
        """'holds', 'does not hold' or 'undecided', by the module's rule for a (corrected) p."""
        if not p < LEVEL:
            return "undecided"
        return "holds" if self.difference > 0 else "does not hold"


def _sign_flips(differences: np.ndarray) -> float:
    if len(differences) < 2:  # one difference and its mirror image are equally extreme
        return 1.0 if len(differences) else math.nan
    resamples = 2**len(differences) if len(differences) <= _EXACT else _RESAMPLES
    found = stats.permutation_test((differences,), np.mean, permutation_type="samples", vectorized=True,
                                   n_resamples=resamples, rng=np.random.default_rng(0))
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the given order.

    >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, largest, k = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, position in enumerate(sorted(range(k), key=lambda position: p_values[position])):
        largest = max(largest, min(1.0, (k - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted


def _power(effect: float, n: int) -> float:
    critical, shift = stats.t.ppf(1 - LEVEL / 2, n - 1), effect * math.sqrt(n)
    # The other tail is computed by symmetry: for a large shift, SciPy's cdf(-critical, n - 1, shift) may be NaN.
    return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.sf(critical, n - 1, -shift))


def pairs_for_power(effect: float) -> int | None:
    """The fewest pairs for which a two-sided paired t test of level 0.05 has a power of 80%.

    Args:
      effect: mean difference divided by its sample deviation; the sign does not matter.

    Returns:
      2 or more, or None if the effect is 0, NaN, or so small that more than 10^8 pairs would be needed.

    >>> pairs_for_power(0.5)
    34
    """
    effect = min(abs(effect), 100.0)  # two pairs suffice from there on
    high = next((size for exponent in range(1, 27) if _power(effect, size := 2**exponent) >= POWER), 0)
    return bisect.bisect_left(range(high), POWER, high // 2 + 1, key=lambda n: _power(effect, n)) if high else None


def _values(rows: Iterable[Row | SyntheticRow], field: str) -> dict[tuple[str, int], float]:
    values = {}
    for row in rows:
        if (row.task, row.seed) in values:
            raise ValueError(f"Two rows for task {row.task}, seed {row.seed}: an arm must have one each.")
        values[row.task, row.seed] = getattr(row, field)
    return values


def paired_test(rows_a: Iterable[Row | SyntheticRow], rows_b: Iterable[Row | SyntheticRow],
                field: str = "value") -> PairedTest:
    """Compare two arms on the (task, seed) pairs that both have.

    Args:
      rows_a, rows_b: rows of one arm each, one row per (task, seed).
      field: name of the compared number.

    Raises:
      ValueError: an arm has two rows for one task and seed.
    """
    a, b = _values(rows_a, field), _values(rows_b, field)
    pairs = sorted(a.keys() & b.keys())
    differences = np.array([a[pair] - b[pair] for pair in pairs], np.float64)
    tasks = sorted({task for task, _ in pairs})
    means = [np.mean([d for d, pair in zip(differences, pairs, strict=True) if pair[0] == task]) for task in tasks]
    mean_a, mean_b, mean = (float(np.mean(values)) if pairs else math.nan for values in (
        [a[pair] for pair in pairs], [b[pair] for pair in pairs], differences))
    n, deviation = len(pairs), float(differences.std(ddof=1)) if len(pairs) > 1 else math.nan
    error = deviation / math.sqrt(n or 1)
    half = float(stats.t.ppf(1 - LEVEL / 2, n - 1) * deviation / math.sqrt(n or 1))
    with np.errstate(divide="ignore"):  # equal differences
        statistic, effect = (np.divide(mean, scale) if mean else 0.0 for scale in (error, deviation))
    return PairedTest(mean_a, mean_b, mean, (mean - half, mean + half), n,
                      (sum(mean > 0 for mean in means), len(tasks)), float(2 * stats.t.sf(abs(statistic), n - 1)),
                      _sign_flips(differences), pairs_for_power(effect))
