"""The section on synthetic sets: measures, counts of samples, and pages of pairs."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from dawgen_jax import miniworld
from dawgen_jax.evaluation.quality.flags import Rules, flag
from dawgen_jax.results.arms import grouped
from dawgen_jax.results.measures import quality_table
from dawgen_jax.results.render import Table
from dawgen_jax.results.report.reading import Artefact, names_of
from dawgen_jax.results.report.results import Example
from dawgen_jax.synthesis.files import read_counts, read_set
from dawgen_jax.synthesis.filtering import LabelCount

__all__ = ["Pairs", "set_counts", "set_pairs", "set_quality"]

_SCANNED, _PAIRS, _MOST, _ON_A_PAGE = 3000, 1200, 60, 10


Tab = tuple[str, list[tuple[str, list[Example]]]]
"""A title, and pages, each with its title and examples."""


class Pairs(NamedTuple):
    """The pairs of one set."""

    title: str
    tabs: list[Tab]


def _by_generator(sets: Sequence[Artefact]) -> list[tuple[tuple[str, str], list[Artefact]]]:
    """Sets grouped by task and generator."""
    name = names_of(sets)
    return grouped(sets, lambda made: (made[0].task, name(made)))


def set_quality(sets: Sequence[Artefact]) -> Table | None:
    """The measures of all sets."""
    return quality_table(row for row, _ in sets) if sets else None


def _counts(folder: Path) -> dict[str, LabelCount]:
    return read_counts(folder) if (folder / "counts.json").exists() else {}


def set_counts(sets: Sequence[Artefact]) -> Table | None:
    """Wanted, made, accepted and rejected samples per label, summed over the sets of all seeds."""
    rows, columns = [], ("wanted", "made", "accepted", "kept")
    for (task, name), group in _by_generator(sets):
        totals: dict[str, Counter] = {}
        reasons: dict[str, Counter] = {}
        for label, count in itertools.chain.from_iterable(_counts(folder).items() for _, folder in group):
            totals.setdefault(label, Counter()).update({column: getattr(count, column) for column in columns})
            reasons.setdefault(label, Counter()).update(count.rejected)
        for label, total in totals.items():
            why = "; ".join(f"{number:,} {reason}" for reason, number in reasons[label].most_common())
            rows.append((task, name, label, why or "none", *(f"{total[column]:,}" for column in columns)))
    return Table("Wanted, accepted and rejected samples", ("task", "generator", "label", "rejected", *columns),
                 tuple(rows), ("Summed over the sets of all seeds. Accepted samples broke no rule; kept ones are left "
                               "when all labels are cut to one size; the rest is surplus or rejected.",), 4
                 ) if rows else None


def _semantics(task: str, sentences: tuple[str, ...], label: str) -> tuple[str, str]:
    """A tag that states whether the semantics of a mini task agree with a label."""
    truth = miniworld.consistency(task, *sentences) if len(sentences) == 2 else None
    if truth is None:
        return "bad", "✗ not a sentence of the mini world"
    return ("good", "✓ label is right") if truth == label else ("bad", f"✗ true label: {truth}")


def _read(task: str, folder: Path) -> list[tuple[str, Example]]:
    """(label, example) of the first samples of a set, with tags for semantics, margin and flags."""
    if not (folder / "train.jsonl").exists():
        return []
    samples, labels = read_set(folder)[:_SCANNED], list(_counts(folder))
    if len(labels) < 2 or any(sample.example.label not in labels or len(sample.scores) not in (0, len(labels))
                              for sample in samples):
        samples = [sample._replace(scores=()) for sample in samples]  # the labels of the scores are unknown
    mark: Callable | None = functools.partial(_semantics, task) if task in miniworld.TASKS else None
    pairs = []
    for number, (sample, found) in enumerate(zip(samples, flag(samples, labels, (), (), Rules()), strict=True), 1):
        sentences, label = tuple(filter(None, sample.example[:2])), sample.example.label
        tags = [mark(sentences, label)] if mark else []
        if found.margin is not None:
            tags.append(("bad" if found.margin < 0 else "", f"margin {found.margin:+.2f}"))
        tags += [("bad", "copy of sentence 1")] if found.verbatim else []
        tags += [("bad", f"near copy of {found.duplicate.position + 1}")] if found.duplicate else []
        tags += [("bad", "cut")] if sample.cut else []
        pairs.append((label, Example(number, sentences, tags)))
    return pairs


def _tabs(pairs: Sequence[tuple[str, Example]], most: int) -> list[Tab]:
    """A tab per label, and one with all flagged pairs, each divided into pages."""
    flagged = [example._replace(tags=[("", label), *example.tags]) for label, example in pairs
               if any(kind == "bad" for kind, _ in example.tags)]
    tabs = [(label, [example for _, example in same]) for label, same in grouped(pairs, lambda pair: pair[0])]
    found = []
    for title, same in [*tabs, *([("flagged", flagged)] if flagged else [])]:
        last = min(len(same), most)
        pages = [(start, min(start + _ON_A_PAGE, last)) for start in range(0, last, _ON_A_PAGE)]
        found.append((f"{title} ({len(same):,})", [(f"{start + 1}–{stop}", same[start:stop]) for start, stop in pages]))
    return found


def set_pairs(sets: Sequence[Artefact]) -> tuple[int, list[Pairs]]:
    """The number of pairs per tab, and the pairs of the first set of each generator."""
    found = [(task, name, next(filter(None, (_read(task, folder) for _, folder in group)), []))
             for (task, name), group in _by_generator(sets)]
    tabs = sum(len({label for label, _ in pairs}) + 1 for _, _, pairs in found)
    most = max(_ON_A_PAGE, min(_MOST, _PAIRS // max(tabs, 1) // _ON_A_PAGE * _ON_A_PAGE))
    return most, [Pairs(f"{task}, {name}", _tabs(pairs, most)) for task, name, pairs in found if pairs]
