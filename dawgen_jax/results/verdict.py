"""The verdict on a run: which arm is best, its difference from prompt tuning, and whether it is significant.

Arms of one backbone and number of shots are compared with Prompt Tuning (its best arm, such as #same-T) over pairs
(task, seed), by the sign permutation test of :mod:`dawgen_jax.results.paired`. The best of k arms is chosen after
looking at the results, so its p is corrected by Holm's method over all k. An arm is compared only if it has every pair
of the reference and the same value of every setting that both read.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dawgen_jax.methods.rows import REFERENCE
from dawgen_jax.miniworld.tasks import TASKS as MINI
from dawgen_jax.results.arms import arm_names, disagreements, grouped, updates
from dawgen_jax.results.paired import LEVEL, PairedTest, holm, paired_test
from dawgen_jax.results.published import OURS, ZERO_SHOT
from dawgen_jax.results.rows import Row

__all__ = ["METRIC_NAMES", "Verdict", "caveats", "levels", "verdicts"]

METRIC_NAMES = {"accuracy": "accuracy", "f1": "F1"}
"""Names of metrics in sentences."""


class Verdict(NamedTuple):
    """Sentences on the arms of one backbone and number of shots.

    Attributes:
      title: names backbone and shots.
      headline: the verdict.
      sentences: its evidence.
    """

    title: str
    headline: str
    sentences: list[str]


class _Compared(NamedTuple):
    """An arm compared with the reference, with Holm's p."""

    name: str
    row: Row
    test: PairedTest
    p: float

    @property
    def decided(self) -> bool:
        return self.test.verdict(self.p) != "undecided"


def _few(values: Sequence[str], most: int = 4) -> str:
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more


def _average(rows: Iterable[Row]) -> float:
    """Mean over tasks of the means over seeds."""
    return statistics.fmean(statistics.fmean(row.value for row in same) for _, same in grouped(
        rows, lambda row: row.task))


def _pairs(rows: Iterable[Row]) -> set[tuple[str, int]]:
    return {(row.task, row.seed) for row in rows}


def _points(value: float) -> str:
    return f"{100 * value:.2f}"


def _p(value: float) -> str:
    """A p value with three decimals and without a leading zero: '= .031', '< .001', '= 1'."""
    return "< .001" if value < 0.0005 else "= " + (f"{value:.3f}".rstrip("0").lstrip("0") if value < 1 else "1")


def _evidence(best: _Compared, arms: int, tasks: int) -> str:
    """The difference with its interval and p, or the reason why p cannot be small."""
    test = best.test
    plural = "s" if test.n > 1 else ""
    pairs = f"{test.n} seed{plural}" if tasks == 1 else f"{test.n} pair{plural} of (task, seed)"
    interval = " (95% interval [{:+.2f}, {:+.2f}])".format(*(100 * end for end in test.interval)) if test.n > 1 else ""
    difference = f"Mean paired difference over {pairs}: {100 * test.difference:+.2f} points{interval}"
    least = 2.0**(1 - test.n)
    corrected = f", corrected for the choice among {arms} arms" if arms > 1 else ""
    if arms * least < LEVEL:
        needed = (f" A single test of an effect of this size needs about {max(test.n_power, 6)} pairs."
                  if test.n_power and not best.decided else "")
        return f"{difference}; p {_p(best.p)} in a sign permutation test{corrected}.{needed}"
    bound = f"{difference}. With {pairs} p cannot be below {_p(least).removeprefix('= ')}"
    if least < LEVEL:
        bound += f", or below {_p(min(1.0, arms * least)).removeprefix('= ')} after correction for {arms} arms"
    return bound + ", whatever the outcome: more seeds or tasks are needed."


def levels(rows: Sequence[Row], tasks: Iterable[str], metric: str = "accuracy") -> dict[str, float]:
    """Values with which a result is compared, if every task has them: name -> mean over the tasks.

    Args:
      rows: rows of one backbone and metric.
      tasks: tasks to average over.
      metric: guessing has a known value only for accuracy.
    """
    tasks, found = set(tasks), {}
    classes = {row.task: len(row.class_counts) for row in rows if row.class_counts and row.task in tasks}
    if classes.keys() == tasks and metric == "accuracy":
        found["guessing"] = statistics.fmean(1 / count for count in classes.values())
    for name, method, variant in (("zero-shot prompting", ZERO_SHOT, ""),
                                  ("calibrated zero-shot prompting", ZERO_SHOT, "calibrated"),
                                  ("prompt tuning on the whole training pool", REFERENCE, "")):
        chosen = [row for row in rows if row.task in tasks and (row.method, row.variant) == (method, variant)
                  and (row.k_shot == "full" or method == ZERO_SHOT)]
        if {row.task for row in chosen} == tasks:
            found[name] = _average(chosen)
    return found


def _compare(arms: Mapping[str, list[Row]], base: Sequence[Row]) -> tuple[list[_Compared], list[str]]:
    """The compared arms, best first, and notes on the others."""
    tests, different, unfinished = {}, [], []
    for name, rows in arms.items():
        if disagreements(rows[0], base[0]):
            different.append(f"{name} ({_few(disagreements(rows[0], base[0]))})")
        elif not _pairs(base) <= _pairs(rows):
            unfinished.append(name)
        else:
            tests[name] = paired_test(rows, base)
    adjusted = holm([test.p_permutation for test in tests.values()])
    compared = [_Compared(name, arms[name][0], test, p)
                for (name, test), p in zip(tests.items(), adjusted, strict=True)]
    notes = [f"Not compared, because {why}: {_few(names)}." for why, names in (
        ("their settings differ", different), ("they are not finished on all tasks and seeds", unfinished)) if names]
    return sorted(compared, key=lambda arm: -arm.test.difference), notes


def _verdict(rows: Sequence[Row], shots: int | str, names: Mapping[tuple, str], metric: str) -> tuple[str, list[str]]:
    """Headline and sentences on the arms of one backbone and number of shots."""
    few, what = [row for row in rows if row.k_shot == shots and row.method != ZERO_SHOT], METRIC_NAMES[metric]
    arms = {names[key]: same for key, same in grouped(few, lambda row: row.arm_key)}
    references = [name for name, (row, *_) in arms.items() if row.method == REFERENCE]
    if not references:
        best = max(arms, key=lambda name: _average(arms[name]))
        return (f"{best} has the highest mean {what}, {_points(_average(arms[best]))}%.",
                [f"{REFERENCE} on the real examples was not run, so there is nothing to compare it with."])
    name = max(references, key=lambda name: (len(arms[name]), _average(arms[name])))
    base = arms[name]
    others = {other: arms[other] for other in references if other != name}
    arms = {other: same for other, same in arms.items() if other not in references}
    tasks = list(dict.fromkeys(row.task for row in base))
    where = f"on {tasks[0]}" if len(tasks) == 1 else f"as a mean over {len(tasks)} tasks"
    compared, notes = _compare(arms, base)
    if not compared:
        return (f"{name}: {_points(_average(base))}% {what} {where}.",
                ["No other arm can be compared with it yet.", *notes])
    best = compared[0]
    if best.test.difference > 0:
        verb = "is best:" if best.decided else "has the highest mean,"
        headline = (f"{best.name} {verb} {_points(best.test.mean_a)}% {what} {where}, "
                    f"{_points(best.test.difference)} points above {name} ({_points(best.test.mean_b)}%)")
    else:
        headline = (f"No arm has a higher mean than {name}, {_points(best.test.mean_b)}% {what} {where}; "
                    f"the next, {best.name}, has {_points(best.test.mean_a)}%")
    headline += "." if best.decided else ", but the difference may be due to chance."
    held = levels(rows, tasks, metric)
    untrained = {value: name for name, value in held.items() if name.endswith("zero-shot prompting")}
    if untrained and max(untrained) >= max(best.test.mean_a, best.test.mean_b):
        headline += f" No trained arm is above {untrained[max(untrained)]}, {_points(max(untrained))}%."
    sentences = [_evidence(best, len(compared), len(tasks))]
    if best.row.trainable_parameters != base[0].trainable_parameters:
        sentences.append(f"{best.name} trains {best.row.trainable_parameters:,} parameters, {name} "
                         f"{base[0].trainable_parameters:,}.")
    ours = next((arm for arm in compared if (arm.row.generator, arm.row.method, arm.row.variant) == (*OURS, "")), None)
    if ours and ours is not best:
        sentences.append(f"The paper's method, {ours.name}: {_points(ours.test.mean_a)}%, "
                         f"{100 * ours.test.difference:+.2f} points, {'' if ours.decided else 'not '}significant.")
    held |= {other: _average(same) for other, same in others.items() if _pairs(same) == _pairs(base)}
    if held:
        sentences.append(f"For scale: {', '.join(f'{level} {_points(value)}%' for level, value in held.items())}.")
    return headline, [*sentences, *notes]


def verdicts(rows: Iterable[Row], metric: str = "accuracy") -> list[Verdict]:
    """The verdict for each backbone and number of shots.

    Args:
      rows: rows of a run.
      metric: 'accuracy' or 'f1', whose rows are read.
    """
    rows = [row for row in rows if row.metric == metric]
    names, found = arm_names(rows), []
    for backbone, same in grouped(rows, lambda row: row.backbone):
        shots = dict.fromkeys(row.k_shot for row in same if row.k_shot != "full" and row.method != ZERO_SHOT)
        found += [Verdict(f"{backbone}, {k} examples per class", *_verdict(same, k, names, metric)) for k in shots]
    return found


def caveats(rows: Iterable[Row], metric: str = "accuracy") -> list[str]:
    """Limitations of the results: few seeds, few test examples, unequal numbers of updates, an artificial world."""
    rows = [row for row in rows if row.metric == metric and row.method != ZERO_SHOT]
    if not rows:
        return []
    names, sentences = arm_names(rows), []
    fewest = min(len(same) for _, same in grouped(rows, lambda row: (row.task, row.arm_key)))
    size = min(row.n_test for row in rows)
    if fewest < 6:  # with 6 seeds or more the test of the verdict can reach p = .05, and says what is due to chance
        seeds = f"{fewest} seeds" if fewest > 1 else "one seed"
        sentences.append(f"With {seeds} the order of arms may be due to chance; ± is the deviation of single runs.")
    sentences.append(f"With {size:,} test examples an accuracy near 50% is uncertain by ±{100 / math.sqrt(size):.1f} "
                     "points (two standard errors) from the choice of these examples alone.")
    lengths = grouped(dict.fromkeys((names[row.arm_key], updates(row)) for row in rows if updates(row)),
                      lambda arm: arm[1])
    if len(lengths) > 1:
        sentences.append("The arms have different numbers of updates: " + "; ".join(
            f"{count:,}: {_few([name for name, _ in same])}" for count, same in sorted(lengths)) + ".")
    if any(row.task in MINI for row in rows):
        sentences.append("The mini tasks are text of a small grammar: they show that the method runs, not how well it "
                         "does on natural language.")
    return sentences
