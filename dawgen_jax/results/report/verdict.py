"""The verdict on a run, in sentences: which arm is best, by how much over prompt tuning on the real shots, and whether
that is decided.

Arms of one backbone and number of shots are compared with Prompt Tuning in pairs (task, seed), by the permutation of
signs of :mod:`dawgen_jax.results.paired`. The best of k arms is a choice made by looking, so that its p is Holm's over
all k. Only arms with every pair of Prompt Tuning's, and with its value of every setting that both read, compete.
"""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dawgen_jax.miniworld.tasks import TASKS as MINI
from dawgen_jax.results.arms import arm_names, disagreements
from dawgen_jax.results.paired import LEVEL, PairedTest, holm, paired_test
from dawgen_jax.results.published import OURS, ZERO_SHOT
from dawgen_jax.results.report.reading import grouped
from dawgen_jax.results.rows import Row

__all__ = ["BASELINE", "NAMES", "caveats", "chance", "verdict_html", "verdicts"]

BASELINE = "Prompt Tuning"
NAMES = {"accuracy": "accuracy", "f1": "F1"}
"""Metrics as sentences name them."""


class _Compared(NamedTuple):
    """An arm against the baseline, with Holm's p."""

    name: str
    row: Row
    test: PairedTest
    p: float

    @property
    def decided(self) -> bool:
        return self.test.verdict(self.p) != "undecided"


def chance(row: Row) -> float | None:
    """Accuracy of guessing among the classes; None where the row does not name them."""
    return 1 / len(row.class_counts) if row.class_counts else None


def _few(values: Sequence[str], most: int = 4) -> str:
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more


def _average(rows: Sequence[Row]) -> float:
    """Mean over tasks of the means over seeds."""
    return statistics.fmean(statistics.fmean(row.value for row in same) for _, same in grouped(
        rows, lambda row: row.task))


def _pairs(rows: Iterable[Row]) -> set[tuple[str, int]]:
    return {(row.task, row.seed) for row in rows}


def _points(value: float) -> str:
    return f"{100 * value:.2f}"


def _interval(test: PairedTest) -> str:
    if test.n < 2:
        return "no interval, as there is one pair"
    return "95% interval [{:+.2f}, {:+.2f}]".format(*(100 * end for end in test.interval))


def _decision(best: _Compared, arms: int) -> str:
    """Whether the difference is decided, and why not."""
    test = best.test
    choice = f", corrected for the {arms} arms compared" if arms > 1 else ""
    told = (f"the paired difference over {test.n} {'pairs' if test.n > 1 else 'pair'} of (task, seed) is "
            f"{100 * test.difference:+.2f} points ({_interval(test)}); p = {best.p:.2g} by permuting signs{choice}.")
    if best.decided:
        return f"Decided: {told}"
    if arms * 2.0**(1 - test.n) >= LEVEL:
        seen = f"{test.n} {'pairs' if test.n > 1 else 'pair'}" + (f" and {arms} arms" if arms > 1 else "")
        why = f"With {seen} it cannot be decided: no outcome would reach p < {LEVEL}. More seeds or tasks would."
    elif test.n_power:
        why = f"A single test of an effect of this size needs about {max(test.n_power, 6)} pairs."
    else:
        why = ""
    return f"Undecided: {told} {why}".strip()


def _scale(rows: Sequence[Row], base: Sequence[Row]) -> str:
    """What the numbers are to be held against: chance, zero-shot, as many updates, the whole pool."""
    tasks = {row.task for row in base}
    marks = {}
    levels = {row.task: chance(row) for row in base}
    if all(levels.values()):
        marks["chance"] = statistics.fmean(levels.values())
    for name, chosen in (
            ("zero-shot prompting", lambda row: row.method == ZERO_SHOT),
            ("prompt tuning with as many updates as the arms with synthetic data",
             lambda row: (row.method, row.variant, row.k_shot) == (BASELINE, "same-T", base[0].k_shot)),
            ("prompt tuning on the whole training pool",
             lambda row: (row.method, row.variant, row.k_shot) == (BASELINE, "", "full"))):
        found = [row for row in rows if row.task in tasks and not row.generator and chosen(row)]
        if found and {row.task for row in found} == tasks:
            marks[name] = _average(found)
    return f"For scale: {', '.join(f'{name} {_points(value)}%' for name, value in marks.items())}." if marks else ""


def _compare(arms: Mapping[str, list[Row]], base: Sequence[Row]) -> tuple[list[_Compared], list[str]]:
    """The arms that compete, the best first, and sentences on the others."""
    tests, apart, unfinished = {}, [], []
    for name, rows in arms.items():
        if disagreements(rows[0], base[0]):
            apart.append(f"{name} ({_few(disagreements(rows[0], base[0]))})")
        elif not _pairs(base) <= _pairs(rows):
            unfinished.append(name)
        else:
            tests[name] = paired_test(rows, base)
    adjusted = holm([test.p_permutation for test in tests.values()])
    compared = [_Compared(name, arms[name][0], test, p)
                for (name, test), p in zip(tests.items(), adjusted, strict=True)]
    notes = [f"Not compared, as {why}: {_few(names)}." for why, names in (
        ("their settings differ", apart), ("they are not finished on all tasks and seeds", unfinished)) if names]
    return sorted(compared, key=lambda arm: -arm.test.difference), notes


def _verdict(rows: Sequence[Row], shots: int | str, names: Mapping[tuple, str], what: str) -> list[str]:
    """Sentences on the arms of one backbone and number of shots, the headline first."""
    few = [row for row in rows if row.k_shot == shots and row.method != ZERO_SHOT]
    arms = {names[key]: same for key, same in grouped(few, lambda row: row.arm_key)}
    bases = [name for name, (row, *_) in arms.items() if (row.method, row.variant, row.generator) == (BASELINE, "", "")]
    if not bases:
        best = max(arms, key=lambda name: _average(arms[name]))
        return [f"{best} has the highest mean {what}, {_points(_average(arms[best]))}%.",
                f"{BASELINE} on the real shots was not run, so that nothing tells what an arm adds to it."]
    name = max(bases, key=lambda name: _average(arms[name]))
    base = arms.pop(name)
    tasks = list(dict.fromkeys(row.task for row in base))
    where = f"on {tasks[0]}" if len(tasks) == 1 else f"as a mean over {len(tasks)} tasks"
    compared, notes = _compare(arms, base)
    if not compared:
        return [f"{name} on the real shots: {_points(_average(base))}% {what} {where}.",
                "No other arm can be compared with it yet.", *notes]
    best = compared[0]
    reached, reference = f"{_points(best.test.mean_a)}% {what}", f"{name} on the real shots"
    if best.test.difference <= 0:
        told = [f"No arm has a higher mean than {reference}, {_points(best.test.mean_b)}% {what} {where}; the next, "
                f"{best.name}, has {_points(best.test.mean_a)}%."]
    else:
        start = f"{best.name} is best:" if best.decided else f"Undecided. {best.name} has the highest mean,"
        told = [f"{start} {reached} {where}, {_points(best.test.difference)} points above {reference} "
                f"({_points(best.test.mean_b)}%)."]
    untuned = [row for row in rows if row.method == ZERO_SHOT and row.task in tasks]
    if {row.task for row in untuned} == set(tasks) and _average(untuned) >= max(best.test.mean_a, best.test.mean_b):
        told[0] += f" But no tuned arm is above zero-shot prompting, {_points(_average(untuned))}%."
    told.append(_decision(best, len(compared)))
    if best.row.trainable_parameters != base[0].trainable_parameters:
        told.append(f"{best.name} trains {best.row.trainable_parameters:,} parameters, {name} "
                    f"{base[0].trainable_parameters:,}.")
    ours = next((arm for arm in compared if (arm.row.generator, arm.row.method, arm.row.variant) == (*OURS, "")), None)
    if ours and ours is not best:
        told.append(f"The paper's method, {ours.name}: {_points(ours.test.mean_a)}%, {100 * ours.test.difference:+.2f} "
                    f"points ({_interval(ours.test)}), {'decided' if ours.decided else 'undecided'}.")
    return [*told, *filter(None, [_scale(rows, base)]), *notes]


def verdicts(rows: Iterable[Row], metric: str = "accuracy") -> list[tuple[str, list[str]]]:
    """What the rows of a run tell.

    Args:
      rows: of a run.
      metric: 'accuracy' or 'f1', whose rows are read.

    Returns:
      (backbone and shots, sentences with the headline first) for each backbone and number of shots.
    """
    rows = [row for row in rows if row.metric == metric]
    names, told = arm_names(rows), []
    for backbone, same in grouped(rows, lambda row: row.backbone):
        shots = dict.fromkeys(row.k_shot for row in same if row.k_shot != "full" and row.method != ZERO_SHOT)
        told += [(f"{backbone}, {k} shots a class", _verdict(same, k, names, NAMES[metric])) for k in shots]
    return told


def caveats(rows: Iterable[Row], metric: str = "accuracy") -> list[str]:
    """What a reader of the table must know: few seeds, few test examples, an artificial world."""
    rows = [row for row in rows if row.metric == metric and row.method != ZERO_SHOT]
    if not rows:
        return []
    groups = grouped(rows, lambda row: (row.task, row.arm_key))
    fewest, size = min(len(same) for _, same in groups), min(row.n_test for row in rows)
    told = []
    if fewest < 10:
        seeds = f"{fewest} seeds tell" if fewest > 1 else "One seed tells"
        told.append(f"{seeds} little: the order of arms in a table may be chance, and the deviation after ± is that of "
                    "single runs. The verdict and the tests in pairs say what is decided.")
    told.append(f"With {size:,} test examples an accuracy near 50% is uncertain by ±{100 / math.sqrt(size):.1f} points "
                "(two standard errors) from the choice of these examples alone.")
    if any(row.task in MINI for row in rows):
        told.append("The mini tasks are text of a small grammar: they show that the method runs, not how well it does "
                    "on natural language.")
    return told


def verdict_html(rows: Sequence[Row], metric: str = "accuracy") -> str:
    """The verdict as the opening of the page."""
    told = verdicts(rows, metric)
    if not told:
        return ('<div class="verdict"><p class="headline">No verdict yet: no cell with shots is finished.</p></div>')
    blocks = []
    for title, (headline, *sentences) in told:
        heading = f"<h3>{html.escape(title)}</h3>" if len(told) > 1 else ""
        blocks.append(f'<div class="verdict">{heading}<p class="headline">{html.escape(headline)}</p>'
                      + "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences) + "</div>")
    return "".join(blocks)
