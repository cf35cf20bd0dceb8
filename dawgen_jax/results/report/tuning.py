"""Curves of generator and prompt tuning, and the shades of token weights."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from dawgen_jax.backbones.tokens import MARK
from dawgen_jax.io.metrics_log import read_metrics
from dawgen_jax.io.strict_json import is_number
from dawgen_jax.results import curves
from dawgen_jax.results.arms import arm_names
from dawgen_jax.results.artefacts import WeightedSentence, read_token_weights
from dawgen_jax.results.report.reading import Cell, Made, grouped, missing, names_of
from dawgen_jax.results.rows import Row

__all__ = ["generator_curves", "prompt_curves", "shaded_words", "token_weights"]

GENERATOR_CURVES = {
    "loss": "loss",
    "loss_wgen": "L_wGen: weighted negative log-likelihood",
    "loss_disc": "L_disc: discriminative loss",
    "loss_dist": "L_dist: sentence-level hinge",
    "dist_active": "share of L_dist terms that are active",
    "weight_entropy": "entropy of the token weights",
    "grad_norm": "gradient norm of the prompts",
    "meta_grad_norm": "gradient norm of the weight net",
    "prompt_norm": "prompt norm",
}
CELL_CURVES = {
    "dev_accuracy": "accuracy on dev",
    "loss_real": "loss on real data",
    "loss_synthetic": "loss on synthetic data",
    "loss_real+synthetic": "loss on real and synthetic data (pooled, or in turn)",
    "loss_synthetic+real": "loss on synthetic and real data in turn",
    "cosine": "cosine of real and synthetic gradient",
    "conflict_rate": "conflict rate (cosine below 0)",
    "conflict": "conflict rate (cosine below 0)",
    "projected_share": "share of the synthetic gradient projected away",
    "grad_norm_real": "gradient norm, real",
    "grad_norm_synthetic": "gradient norm, synthetic",
    "grad_norm": "gradient norm",
    "update_norm": "norm of the update",
    "param_norm": "norm of what is trained",
    "distance": "distance of what is trained from its start",
}
_SHADED = 2
_TOGETHER = 8
_NOTE = ('<p class="note">Over updates. A line is the mean over the seeds (their number in brackets), its band reaches '
         f"from the least to the greatest seed. Where a caption says 'smoothed', the strong line and its band are a "
         f"centred moving average over {curves.WINDOW} of {curves.BINS} stretches of the run; the faint line behind is "
         "the mean of each stretch, cut off at spikes.</p>")


def _panels(series: Mapping[str, Sequence[Sequence[dict]]], known: Mapping[str, str]) -> str:
    """A panel for each known figure that occurs; a series is a legend entry with the lines of its runs."""
    names = list(series)
    legend = "".join(
        f'<li><i class="{"dashed" if index >= curves.PALETTE else "solid"}" '
        f'style="--c:var(--s{index % curves.PALETTE})"></i>{html.escape(name)} ({len(series[name])})</li>'
        for index, name in enumerate(names))
    panels = []
    for key, title in known.items():
        drawn = {}
        for index, name in enumerate(names):
            runs = [[line for line in run if isinstance(line.get(key), bool) or is_number(line.get(key))]
                    for run in series[name]]
            runs = [([line["step"] for line in run], [line[key] for line in run]) for run in runs if run]
            if runs:
                drawn[index] = runs
        if drawn:
            noisy = curves.noisy(drawn.values())
            caption = title + (", smoothed" if noisy else "")
            panels.append(f"<figure><figcaption>{html.escape(caption)}</figcaption>"
                          f"{curves.draw(drawn, title, smooth=noisy)}</figure>")
    return f'<ul class="legend">{legend}</ul><div class="panels">{"".join(panels)}</div>' if panels else ""


def _by_source(arms: Mapping[str, tuple[str, list]]) -> str:
    """The panels of a task's arms: together where they are few, else apart by who wrote the synthetic data."""
    if len(arms) <= _TOGETHER:
        return _panels({name: series for name, (_, series) in arms.items()}, CELL_CURVES)
    parts = []
    for writer, names in grouped(arms, lambda name: arms[name][0]):
        title = html.escape(f"Arms with synthetic data by {writer}" if writer else "Arms without synthetic data")
        panels = _panels({name: arms[name][1] for name in names}, CELL_CURVES)
        parts.append(f"<details{'' if parts else ' open'}><summary>{title} <small>{len(names)} arms</small>"
                     f"</summary>{panels}</details>")
    return "".join(parts)


def prompt_curves(cells: Sequence[Cell], rows: Sequence[Row]) -> str:
    """Curves of the cells; what trains nothing, such as zero-shot, has none."""
    names, by_task = arm_names(rows), {}
    for row, folder in cells:
        found = read_metrics(folder / "metrics.jsonl")
        if found:
            arms = by_task.setdefault(f"{row.task}, {row.backbone}", {})
            arms.setdefault(names.get(row.arm_key, row.arm), (row.generator, []))[1].append(found)
    parts = [f"<h3>{html.escape(task)}</h3>{_by_source(arms)}" for task, arms in by_task.items()]
    return _NOTE + "".join(parts) if parts else missing("No cell of results.jsonl has metrics yet.")


def generator_curves(generators: Sequence[Made]) -> str:
    """Curves of the generators that wrote the sets."""
    if not generators:
        return missing("No generator of the sets in synthetic.jsonl yet: this run has no arm with synthetic data, or "
                       "has not come so far.")
    parts, name_of = [_NOTE], names_of(generators)
    for task, group in grouped(generators, lambda made: made[0].task):
        series = {name: [read_metrics(folder / "metrics.jsonl") for _, folder in same]
                  for name, same in grouped(group, name_of)}
        panels = _panels(series, GENERATOR_CURVES)
        parts.append(f"<h3>{html.escape(task)}</h3>" + (panels or missing("No metrics.jsonl for these generators.")))
    return "".join(parts)


def shaded_words(example: WeightedSentence, heaviest: float) -> str:
    """The words of one generated sentence, each shaded by its weight relative to ``heaviest``.

    Args:
      example: with tokens of which MARK starts a word.
      heaviest: the weight of the darkest shade, above 0.
    """
    pieces = []
    for token, weight in zip(example.tokens, example.weights, strict=True):
        shown = " " if token.startswith(MARK) else ""
        word = html.escape(token.removeprefix(MARK)) or "&nbsp;"
        shade = min(1.0, max(0.0, weight) / heaviest)
        pieces.append(f'{shown}<span style="--w:{shade:.3f}" title="{weight:.4g}">{word}</span>')
    first = html.escape(example.sentence1)
    return (f'<p class="shades"><em class="tag">{html.escape(example.label)}</em>{first} '
            f"<br>{''.join(pieces)}</p>")


def token_weights(generators: Sequence[Made]) -> str:
    """Sentences of each generator's last step, all shaded on one scale."""
    shown: dict[tuple[str, str], list[WeightedSentence]] = {}
    name_of = names_of(generators)
    for key, group in grouped(generators, lambda made: (made[0].task, name_of(made))):
        found = (read_token_weights(folder / "token_weights.json") for _, folder in group)
        for _, same in grouped(next(filter(None, found), []), lambda example: example.label):
            shown.setdefault(key, []).extend(same[:_SHADED])
    if not shown:
        return missing("No token_weights.json of these generators.")
    heaviest = max((weight for group in shown.values() for one in group for weight in one.weights), default=0) or 1
    scale = "".join(f'<span style="--w:{part}">{part * heaviest:.3g}</span>' for part in (0, 0.25, 0.5, 0.75, 1))
    parts = [f"<h3>{html.escape(f'{task}, {generator}')}</h3>" + "".join(shaded_words(one, heaviest) for one in group)
             for (task, generator), group in shown.items()]
    return ('<p class="note">Sentence 1, and under it the sentence to be generated, each token shaded by its weight W '
            f'at the end of tuning. All shades of this page have one scale:</p><p class="shades scale">{scale}</p>'
            + "".join(parts))
