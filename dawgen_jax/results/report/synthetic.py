"""Synthetic sets: their measures and how to read them, what became of the samples, and pairs to page through.

Paging needs no script: of each group of radio buttons the page after the checked one is shown, by the style sheet.
"""

from __future__ import annotations

import html
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dawgen_jax.evaluation.quality.flags import Rules, flag
from dawgen_jax.results.measures import quality_table
from dawgen_jax.results.render import Table, to_html
from dawgen_jax.results.report.reading import Made, grouped, listed, missing, names_of
from dawgen_jax.synthesis.files import read_counts, read_set
from dawgen_jax.synthesis.filtering import LabelCount

__all__ = ["pair_pages", "set_counts", "set_quality"]

_READING = (
    ("label consistency", "share of pairs whose true label, computed by the semantics of the mini world, is the wanted "
     "one. Higher is better; guessing gives one in the number of labels. A dash: no semantics tells it."),
    ("distinct-2", "different pairs of adjacent words among all of them, a measure of diversity. Low means that "
     "the set repeats itself; larger sets have lower values."),
    ("distance from real", "divergence of the words' frequencies from those of the real training pool. 0: the same "
     "words as often; 100: no word in common. Lower is closer; copying the few shots would be close, too."),
    ("copies", "share of pairs whose second sentence has the words of the first. Lower is better."),
)
_SCANNED, _PAIRS, _MOST, _ON_A_PAGE = 3000, 1200, 60, 10


class _Pair(NamedTuple):
    """A sample as it is shown: its sentences, its label, the margin of that label, and what is odd about it."""

    number: int
    label: str
    sentences: tuple[str, ...]
    margin: float | None
    flags: tuple[str, ...]


def _by_generator(sets: Sequence[Made]) -> list[tuple[tuple[str, str], list[Made]]]:
    """Sets of one task and generator together."""
    name = names_of(sets)
    return grouped(sets, lambda made: (made[0].task, name(made)))


def set_quality(sets: Sequence[Made]) -> str:
    """The measures of all sets in one table, with a sentence on how to read each."""
    if not sets:
        return ""
    told = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(how)}</dd>" for name, how in _READING)
    return to_html(quality_table(row for row, _ in sets)) + f'<dl class="terms">{told}</dl>'


def _counts(folder: Path) -> dict[str, LabelCount]:
    return read_counts(folder) if (folder / "counts.json").exists() else {}


def set_counts(sets: Sequence[Made]) -> str:
    """Wanted, made, accepted and rejected samples, one line a label, summed over the sets of all seeds."""
    rows, columns = [], ("wanted", "made", "accepted", "kept")
    for (task, name), group in _by_generator(sets):
        totals: dict[str, Counter] = {}
        reasons: dict[str, Counter] = {}
        for label, count in itertools.chain.from_iterable(_counts(folder).items() for _, folder in group):
            totals.setdefault(label, Counter()).update({column: getattr(count, column) for column in columns})
            reasons.setdefault(label, Counter()).update(count.rejected)
        for label, total in totals.items():
            why = "; ".join(f"{number:,} {reason}" for reason, number in reasons[label].most_common())
            rows.append((task, name, label, *(f"{total[column]:,}" for column in columns), why or "none"))
    if not rows:
        return ""
    notes = ("Summed over the sets of all seeds. Made are all samples that were drawn, accepted those that broke no "
             "rule, kept those that are left when labels are cut to one size; the rest are surplus or rejected.",)
    table = Table("Wanted, accepted and rejected", ("task", "generator", "label", *columns, "rejected"), tuple(rows),
                  notes, 3)
    return to_html(table, "text counts")


def _read(folder: Path) -> list[_Pair]:
    """The first samples of a set with their margins and flags."""
    if not (folder / "train.jsonl").exists():
        return []
    samples, labels = read_set(folder)[:_SCANNED], list(_counts(folder))
    if len(labels) < 2 or any(sample.example.label not in labels or len(sample.scores) not in (0, len(labels))
                              for sample in samples):
        samples = [sample._replace(scores=()) for sample in samples]  # whose scores they are is not known
    pairs = []
    for number, (sample, found) in enumerate(zip(samples, flag(samples, labels, (), (), Rules()), strict=True), 1):
        flags = (("copy of sentence 1", found.verbatim),
                 (f"near copy of {found.duplicate and found.duplicate.position + 1}", found.duplicate),
                 ("cut", sample.cut), ("margin below 0", found.margin is not None and found.margin < 0))
        pairs.append(_Pair(number, sample.example.label, tuple(filter(None, sample.example[:2])), found.margin,
                           tuple(flag for flag, raised in flags if raised)))
    return pairs


def _list(pairs: Sequence[_Pair], labelled: bool) -> str:
    shown = []
    for pair in pairs:
        tags = [pair.label] if labelled else []
        tags += [f"margin {pair.margin:+.2f}"] if pair.margin is not None else []
        shown.append(listed(pair.number, pair.sentences, tags, pair.flags))
    return f'<ol class="pairs">{"".join(shown)}</ol>'


def _pager(group: str, pages: Sequence[tuple[str, str]]) -> str:
    """Tabs without a script: a radio button, its label and its page, for each (title, HTML)."""
    parts = "".join(
        f'<input type="radio" name="{group}" id="{group}-{index}"{"" if index else " checked"}>'
        f'<label for="{group}-{index}">{html.escape(title)}</label><div class="page">{page}</div>'
        for index, (title, page) in enumerate(pages))
    return f'<div class="pager">{parts}</div>'


def _tabs(name: str, pairs: Sequence[_Pair], most: int) -> str:
    """A tab a label, and one of all flagged pairs; in each, pages of a few pairs."""
    flagged = [pair for pair in pairs if pair.flags]
    tabs = [(label, same, False) for label, same in grouped(pairs, lambda pair: pair.label)]
    shown = []
    for position, (title, same, labelled) in enumerate([*tabs, *([("flagged", flagged, True)] if flagged else [])]):
        cut = same[:most]
        starts = range(0, len(cut), _ON_A_PAGE)
        pages = [(f"{start + 1}–{min(start + _ON_A_PAGE, len(cut))}", _list(cut[start:start + _ON_A_PAGE], labelled))
                 for start in starts]
        shown.append((f"{title} ({len(same):,})", _pager(f"{name}-{position}", pages)))
    return _pager(name, shown)


def pair_pages(sets: Sequence[Made]) -> str:
    """Pairs of the first set of each generator, to page through by label, with margins and flags."""
    groups = _by_generator(sets)
    found = [(task, name, next(filter(None, (_read(folder) for _, folder in group)), []))
             for (task, name), group in groups]
    tabs = sum(len({pair.label for pair in pairs}) + 1 for _, _, pairs in found)
    most = max(_ON_A_PAGE, min(_MOST, _PAIRS // max(tabs, 1) // _ON_A_PAGE * _ON_A_PAGE))
    parts = [f"<h3>{html.escape(f'{task}, {name}')}</h3>{_tabs(f'pairs{position}', pairs, most)}"
             for position, (task, name, pairs) in enumerate(found) if pairs]
    if not parts:
        return missing("No synthetic set of synthetic.jsonl yet.")
    return (f'<p class="note">The first {most} pairs of each label in the first seed\'s set, with the number of their '
            "line in its train.jsonl; a tab says how many there are. Margin: log-probability under the own label's "
            "prompt less the greatest under another's (synthesis.score = True computes it); below 0, another prompt "
            f"finds the sentence likelier. Near copy: shares at least {100 * Rules().near:.0f}% of its character "
            '4-grams with the pair of that line. Cut: ended at the budget.</p>' + "".join(parts))
