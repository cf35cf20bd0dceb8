"""The results section: caveats, tables, what names mean, strips of seeds, tests, and what arms get wrong."""

from __future__ import annotations

import html
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dawgen_jax.results.arms import arm_names
from dawgen_jax.results.artefacts import read_mistakes
from dawgen_jax.results.claims import claims
from dawgen_jax.results.measures import conflict_table
from dawgen_jax.results.render import to_html
from dawgen_jax.results.report.reading import Cell, grouped, listed, missing
from dawgen_jax.results.report.verdict import BASELINE, NAMES, caveats, chance
from dawgen_jax.results.rows import Row, SyntheticRow
from dawgen_jax.results.tables import result_tables

__all__ = ["mistakes", "results"]

_TERMS = (
    ("Prompting (zero-shot)", "Prompting (zero-shot)", "nothing is trained; the bare template is scored"),
    ("In-Context", "In-Context", "nothing is trained; labelled examples stand in front of each test example"),
    ("FT", "FT, PFT", "all weights are trained: with a new head (FT), or in the template of prompts (prompt-based "
     "FT, PFT)"),
    ("Prompt Tuning", "Prompt Tuning", "a soft prompt tuned on the few real examples alone"),
    ("PPT", "PPT", "the prompt was first trained on pairs of sentences from plain documents"),
    ("SPoT", "SPoT", "the prompt was first trained on the whole training set of another task"),
    ("OPTIMA", "OPTIMA", "as SPoT, and on unlabelled pairs of this task, so that both tasks look alike to it"),
    ("LoRA", "LoRA", "low-rank updates of the backbone's weights are trained, not a prompt"),
    ("FewGen:", "FewGen", "the synthetic data was written by the earlier generator, whose token weights come from "
     "the tokens' losses"),
    ("DawGen:", "DawGen", "the synthetic data was written by the paper's generator, whose token weights come from "
     "hidden states and which holds the sentences of different labels apart (L_dist)"),
    ("GS", "GS", "gradient surgery: where the gradient on synthetic data points against that on real data (a negative "
     "cosine, a conflict), the conflicting part of the synthetic gradient is projected away"),
    ("(Real, Syn)", "(Real, Syn)", "every update takes a batch of real and one of synthetic data and adds their "
     "gradients"),
    ("Real+Syn", "Real+Syn", "both sets are pooled into one"),
    ("+LS", "LS", "label smoothing"),
    ("Real -> Syn", "Real -> Syn, Syn -> Real", "both sets in turn in every epoch"),
    ("Syn -> Real", "Real -> Syn, Syn -> Real", "both sets in turn in every epoch"),
    ("Syn only", "Syn only", "tuned on synthetic data alone; the real dev set still selects the best step"),
    ("#same-T", "#same-T", "as many updates as the arms with synthetic data have"),
    *((f"{mark}cut", "#cut", "synthetic sentences that did not end within their budget are kept, cut there")
      for mark in "#+"),
    *((f"{mark}pool", "#pool", "the generator continued first sentences of the task's own pool, not of a corpus")
      for mark in "#+"),
    ("#stages", "#stages", "one set to its best step on dev, then the other with a fresh optimiser"),
    ("@full", "@full", "on the whole training pool instead of the few shots"),
)
_MISTAKES = 6


def _terms(names: Sequence[str]) -> str:
    """What the names that occur mean."""
    told = {term: meaning for part, term, meaning in _TERMS if any(part in name for name in names)}
    parts = "".join(f"<dt>{html.escape(term)}</dt><dd>{html.escape(meaning)}.</dd>" for term, meaning in told.items())
    return f'<dl class="terms">{parts}</dl>' if parts else ""


def results(rows: Sequence[Row], synthetic: Sequence[SyntheticRow] = (), metric: str = "accuracy") -> str:
    """Tables with their caveats, a strip of seeds for each arm, the other metric and the tests in pairs."""
    if not rows:
        return missing("No results.jsonl with rows yet: no cell of this run is finished.")
    told = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in caveats(rows, metric))
    first, *others = [*map(to_html, result_tables(rows, metric)), ""]
    other = "f1" if metric == "accuracy" else "accuracy"
    second = "".join(map(to_html, result_tables(rows, other)))
    tested = "".join(map(to_html, claims(rows, synthetic)))
    conflicts = conflict_table(rows)
    folded = (("F1" if other == "f1" else "Accuracy", second), ("The paper's claims, tested in pairs", tested),
              ("Conflicts of real and synthetic gradients", to_html(conflicts) if conflicts.rows else ""))
    caveat = f'<ul class="caveat">{told}</ul>' if told else ""
    strips = _strips([row for row in rows if row.metric == metric], metric)
    return "".join([caveat, first, _terms(list(arm_names(rows).values())), *others, strips, *(
        f"<details><summary>{html.escape(title)}</summary>{part}</details>" for title, part in folded if part)])


def _levels(group: Sequence[Row], metric: str) -> dict[str, tuple[str, float]]:
    """The lines of a strip plot: class -> (what it is, the metric's value)."""
    levels, guessed = {}, chance(group[0]) if metric == "accuracy" else None
    if guessed:
        levels["chance"] = (f"guessing among {len(group[0].class_counts)} classes", guessed)
    full = [row.value for row in group if (row.method, row.k_shot, row.variant) == (BASELINE, "full", "")]
    if full:
        levels["full"] = ("prompt tuning on the whole training pool", statistics.fmean(full))
    return levels


def _strips(rows: Sequence[Row], metric: str) -> str:
    """One dot a seed and a stroke at the mean, for every arm of a task, on one scale with the levels as lines."""
    parts, names = [], arm_names(rows)
    for (backbone, task), group in grouped(rows, lambda row: (row.backbone, row.task)):
        levels = _levels(group, metric)
        values = [row.value for row in group] + [value for _, value in levels.values()]
        low = 10 * math.floor(10 * min(values))
        high = max(10 * math.ceil(10 * max(values)), low + 10)

        def place(value: float, low=low, high=high) -> str:
            return f'style="--x:{100 * (100 * value - low) / (high - low):.2f}%"'

        marks = "".join(f'<u class="{name}" {place(value)}></u>' for name, (_, value) in levels.items())
        shown = []
        for arm, cells in grouped(group, lambda row: names[row.arm_key]):
            mean = statistics.fmean(row.value for row in cells)
            dots = "".join(f'<i {place(row.value)} title="seed {row.seed}: {100 * row.value:.2f}"></i>'
                           for row in cells)
            shown.append(f'<div class="arm"><span>{html.escape(arm)}</span><span class="track">{marks}{dots}'
                         f'<b {place(mean)}></b></span><span class="number">{100 * mean:.2f}</span></div>')
        key = "".join(f'<span><u class="{name}"></u>{html.escape(what)}: {100 * value:.2f}</span>'
                      for name, (what, value) in levels.items())
        parts.append(
            f'<h3>{html.escape(task)}, {html.escape(backbone)}: {NAMES[metric]} of every seed</h3>'
            f'<div class="strip"><p class="key"><span><i></i>one seed</span><span><b></b>mean</span>{key}</p>'
            f'<div class="arm ends"><span></span><span class="track"><span>{low}</span><span>{high}</span></span>'
            f'<span></span></div>{"".join(shown)}</div>')
    return "".join(parts)


def _matrix(labels: Sequence[str], counts: np.ndarray) -> str:
    """Counts, a row a true class; shades are shares of the row."""
    head = "".join(f'<th scope="col">{html.escape(str(label))}</th>' for label in labels)
    body = ""
    for label, row in zip(labels, counts, strict=True):
        cells = "".join(f'<td style="--w:{count / max(row.sum(), 1):.3f}">{count}</td>' for count in row)
        body += f'<tr><th scope="row">{html.escape(str(label))}</th>{cells}</tr>'
    return (f'<div class="scroll"><table class="matrix"><thead><tr><th scope="col">true \\ predicted</th>{head}</tr>'
            f"</thead><tbody>{body}</tbody></table></div>")


def _examples(examples: Sequence[Mapping[str, Any]]) -> str:
    """A few examples, one of each kind of mistake first."""
    kinds = [same for _, same in grouped(examples, lambda one: (one.get("label"), one.get("predicted")))]
    mixed = list(filter(None, itertools.chain.from_iterable(itertools.zip_longest(*kinds))))[:_MISTAKES]
    items = (listed(number, [str(text) for name, text in one.items() if text and name not in ("label", "predicted")],
                    [f"true: {one.get('label')}"], [f"predicted: {one.get('predicted')}"])
             for number, one in enumerate(mixed, 1))
    return f'<ol class="pairs">{"".join(items)}</ol>' if mixed else ""


def mistakes(cells: Sequence[Cell], rows: Sequence[Row]) -> str:
    """The confusion matrix of each arm over its seeds, and wrong examples of the first of them."""
    names, parts = arm_names(rows), []
    for (task, backbone), group in grouped(cells, lambda cell: (cell[0].task, cell[0].backbone)):
        arms, shown = grouped(group, lambda cell: names.get(cell[0].arm_key, cell[0].arm)), []
        best = max(statistics.fmean(row.value for row, _ in same) for _, same in arms)
        for arm, same in arms:
            found = list(filter(None, (read_mistakes(folder / "wrong_examples.json") for _, folder in same)))
            found = [one for one in found if one.labels == found[0].labels]
            if found:
                counts = np.sum([one.confusion for one in found], axis=0)
                share = f"{counts.sum() - np.trace(counts):,} of {counts.sum():,} wrong"
                opened = " open" if statistics.fmean(row.value for row, _ in same) == best else ""
                shown.append(f"<details{opened}><summary>{html.escape(arm)} <small>{share}</small></summary>"
                             f"{_matrix(found[0].labels, counts)}{_examples(found[0].examples)}</details>")
        if shown:
            parts.append(f"<h3>{html.escape(task)}, {html.escape(backbone)}</h3>{''.join(shown)}")
    if not parts:
        return missing("No cell of results.jsonl has a wrong_examples.json; cells of version 0.1 wrote none.")
    return ('<p class="note">Counts over all seeds of an arm; a row is a true class, shaded by its share. Examples are '
            "the first wrong ones of the first seed, each kind of mistake in turn. The best arm is open.</p>"
            + "".join(parts))
