"""Verdicts on a synthetic set: figures, each with the same figure of real pairs and a sentence that interprets it.

Diversity depends on the size of a set, so it is averaged over samples of equal size from both sets. The set is compared
with held-out real pairs if there are any, otherwise with the shots; these are few, and the generator was tuned on them,
so the verdicts are weaker. The thresholds for warnings are our choice: a warning asks for inspection by a person, and
does not mean that the set is useless.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dawgen_jax.data.pools import Example
from dawgen_jax.evaluation.quality.flags import Flags, Match, Rules, flag, near_copies
from dawgen_jax.evaluation.quality.measures import (
    distinct,
    divergence,
    ngram_counts,
    self_bleu,
    share,
    two_sample,
    vendi,
    words,
)
from dawgen_jax.synthesis.filtering import Sample

__all__ = ["Appraisal", "Figure", "Real", "agreement", "appraise", "fidelity", "one_per_first_sentence"]

_DRAWS, _DRAWN = 3, 64  # self-BLEU takes half a second for 64 sentences
_UNSEEN = 1000  # held-out pairs that are searched for chance repetitions of the shots
_SLACK = 0.02  # allowed excess over the share of real pairs
_FEW = 100  # sentences per side: below, only a large difference can be detected
_ALPHA = 0.05


class Figure(NamedTuple):
    """One figure of a set.

    Attributes:
      name: the measured property.
      value: value of the set; None if it could not be computed.
      real: value of real pairs, or another value for comparison; None without one.
      unit: '%' for a share in [0, 1], otherwise the unit after the number.
      verdict: interpretation, as a sentence.
      warning: whether a person should inspect the set.
    """

    name: str
    value: float | None
    real: float | None
    unit: str
    verdict: str
    warning: bool = False


class Real(NamedTuple):
    """Real pairs: the ``shots`` on which the generator was tuned, and unseen ``heldout`` pairs."""

    shots: Sequence[Example]
    heldout: Sequence[Example] = ()

    @property
    def unseen(self) -> list[Example]:
        """The held-out pairs that are not among the shots."""
        seen = set(self.shots)
        return [pair for pair in self.heldout if pair not in seen]

    @property
    def reference(self) -> Sequence[Example]:
        """The pairs with which a set is compared."""
        return self.unseen or self.shots


class Appraisal(NamedTuple):
    """The figures of a set, the flags of each sample, and notes on missing figures."""

    figures: list[Figure]
    flags: list[Flags]
    skipped: list[str]


def appraise(samples: Sequence[Sample], labels: Sequence[str], real: Real, test: Sequence[Example] = (),
             rules: Rules = Rules(), *, seed: int = 0,
             encode: Callable[[list[str]], np.ndarray] | None = None,
             predict: Callable[[list[Example]], list[str]] | None = None) -> Appraisal:
    """Judge a synthetic set.

    Args:
      samples: the set.
      labels: labels of the task, in the order of the samples' scores.
      real: shots and held-out pairs.
      test: the pairs on which classifiers will be scored, to find leaks.
      rules: similarity of near copies.
      seed: seed for all sampling.
      encode: sentences -> features [N, H], for MMD, which is omitted without it.
      predict: pairs -> labels, by a prompt tuned on real pairs, for agreement, which is omitted without it.

    Raises:
      ValueError: there are no samples or no real pairs.
    """
    if not samples or not real.shots:
        raise ValueError("An appraisal needs at least one synthetic and one real pair.")
    flags = flag(samples, labels, real.shots, test, rules)
    pairs, reference = [sample.example for sample in samples], real.reference
    figures = [*_diversity(pairs, reference, seed), *_lengths(pairs, reference, seed), _balance(pairs, labels),
               _copies(pairs, flags, reference), _memory(flags, real, rules.near, seed),
               _duplicates(pairs, flags, rules.near), *([_leaks(flags)] if test else []),
               *_margins(pairs, flags, labels)]
    if encode:
        drawn = ([pair.sentence2 for pair in one_per_first_sentence(side, seed)] for side in (pairs, reference))
        figures.append(fidelity(*map(encode, drawn), seed=seed))
    if predict:
        known = [*pairs, *real.unseen]
        predicted = predict(known)
        figures.append(agreement([pair.label for pair in known], predicted, len(pairs), classes=len(labels)))
    skipped = [sentence for sentence, missing in (
        ("No features and no MMD: name a backbone with --backbone.", not encode),
        ("No agreement with a prompt: give a prompt that was tuned on the shots with --prompt.", not predict),
        ("No label margins: the set has no scores (synthesis.score writes them).", not any(s.scores for s in samples)),
        ("No search for leaks: give the test pairs with --test.", not test),
        ("Compared with the shots alone, which the generator knows: give unseen pairs with --heldout.",
         not real.heldout)) if missing]
    return Appraisal(figures, flags, skipped)


def _diversity(pairs: Sequence[Example], reference: Sequence[Example], seed: int) -> list[Figure]:
    size = min(len(pairs), len(reference), _DRAWN)
    if size < 2:
        return []
    figures = []
    for name, measure, good, poor in (
            ("distinct-1", lambda drawn: distinct(drawn, 1), "Words are as varied as in real sentences",
             "Words are less varied than in real sentences"),
            ("distinct-2", distinct, "Word pairs are as varied as in real sentences",
             "Word pairs are less varied than in real sentences"),
            ("self-BLEU", self_bleu, "Sentences resemble each other about as much as real ones",
             "Sentences resemble each other more than real ones do"),
            ("Vendi score", lambda drawn: vendi(ngram_counts(drawn)),
             "There are as many different sentences as among real ones",
             "There are fewer different sentences than among real ones")):
        value, other = (_mean_of_draws([pair.sentence2 for pair in side], size, seed, measure)
                        for side in (pairs, reference))
        # Two samples of real sentences differ by about a tenth.
        warning = value > other + 0.1 if measure is self_bleu else value < 0.8 * other
        figures.append(Figure(name, value, other, "", f"{poor if warning else good} ({size} of each).", warning))
    return figures


def _mean_of_draws(sentences: list[str], size: int, seed: int, measure: Callable[[list[str]], float]) -> float:
    draws = 1 if len(sentences) == size else _DRAWS
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(len(sentences), size, replace=False) for _ in range(draws)]
    return float(np.mean([measure([sentences[place] for place in places]) for places in chosen]))


def _lengths(pairs: Sequence[Example], reference: Sequence[Example], seed: int) -> list[Figure]:
    own, other = (np.array([len(words(pair.sentence2)) for pair in side]) for side in (pairs, reference))
    mean, real_mean = float(own.mean()), float(other.mean())
    off = not 0.8 * real_mean <= mean <= 1.25 * real_mean
    compared = ("shorter than" if mean < real_mean else "longer than") if off else "about as long as"
    rng, pooled = np.random.default_rng(seed), np.concatenate([own, other])

    def distance(lengths: np.ndarray) -> float:
        return divergence(*(dict(zip(*np.unique(part, return_counts=True), strict=True))
                            for part in (lengths[:len(own)], lengths[len(own):])))

    spread, chance = distance(pooled), float(np.quantile([distance(rng.permutation(pooled)) for _ in range(99)], 0.95))
    different = spread > max(chance, 0.05)
    return [
        Figure("length", mean, real_mean, "words", f"Sentences are {compared} real ones.", off),
        Figure("length distance", spread, chance, "bits", "Lengths are distributed "
               f"{'differently from' if different else 'much like'} real ones (0 is equal, 1 disjoint).", different),
    ]


def _balance(pairs: Sequence[Example], labels: Sequence[str]) -> Figure:
    counts = Counter(pair.label for pair in pairs)
    rarest = min(labels, key=lambda label: counts[label])
    part, even = counts[rarest] / len(pairs), 1 / len(labels)
    if not counts[rarest]:
        verdict = f"No sample has the label '{rarest}', so it cannot be learned."
    elif part < even / 2:
        verdict = f"Label '{rarest}' has only {counts[rarest]} of {len(pairs)} samples."
    else:
        verdict = "Every label has enough samples."
    return Figure("rarest label", part, even, "%", verdict, part < even / 2)


def _copies(pairs: Sequence[Example], flags: Sequence[Flags], reference: Sequence[Example]) -> Figure:
    copied = Counter(pair.label for pair, found in zip(pairs, flags, strict=True) if found.verbatim)
    part = copied.total() / len(pairs)
    other = share(words(pair.sentence1) == words(pair.sentence2) for pair in reference)
    warning = part > other + _SLACK
    return Figure("copies of sentence 1", part, other, "%",
                  f"Sentence 2 often only repeats sentence 1 ({_most(copied)}): --max-copy drops these." if warning else
                  "Sentence 2 seldom only repeats sentence 1.", warning)


def _memory(flags: Sequence[Flags], real: Real, near: float, seed: int) -> Figure:
    part, unseen, base = share(_is_near(found.shot, near) for found in flags), real.unseen, None
    if unseen:
        shown = [(sentence,) for shot in real.shots for sentence in shot[:2] if words(sentence)]
        chosen = np.random.default_rng(seed).permutation(len(unseen))[:_UNSEEN]
        base = share(map(bool, near_copies([(unseen[place].sentence2,) for place in chosen], shown, near)))
    warning = part > (base or 0.0) + _SLACK
    if not warning:
        verdict = "Sentences of the shots are seldom repeated" + (
            "." if base is None else ", or not more often than by chance.")
    elif base is None:
        verdict = "Sentences of the shots are repeated; only --heldout pairs can show whether by chance."
    else:
        verdict = "The generator has memorised sentences of the shots: --max-copy drops them."
    return Figure("near copies of shots", part, base, "%", verdict, warning)


def _duplicates(pairs: Sequence[Example], flags: Sequence[Flags], near: float) -> Figure:
    found = [(pair, one.duplicate) for pair, one in zip(pairs, flags, strict=True) if _is_near(one.duplicate, near)]
    contradictions = sum(pair.label != pairs[match.position].label for pair, match in found)
    warning = len(found) > _SLACK * len(pairs)
    verdict = f"{len(found)} samples nearly repeat another one" if found else "No sample nearly repeats another one"
    verdict += f", {contradictions} of them under another label" if contradictions else ""
    return Figure("near duplicates", len(found) / len(pairs), None, "%",
                  verdict + (": --dedup keeps one of each." if warning else "."), warning)


def _leaks(flags: Sequence[Flags]) -> Figure:
    count = sum(found.leak is not None for found in flags)
    verdict = (f"{count} samples nearly repeat a test pair, which inflates a score on it: --drop-leaks drops them."
               if count else "No sample nearly repeats a test pair.")
    return Figure("leaks of the test set", count / len(flags), None, "%", verdict, bool(count))


def _margins(pairs: Sequence[Example], flags: Sequence[Flags], labels: Sequence[str]) -> list[Figure]:
    scored = [(pair.label, found.margin) for pair, found in zip(pairs, flags, strict=True) if found.margin is not None]
    if not scored:
        return []
    margins = [margin for _, margin in scored]
    part, chance = share(margin > 0 for margin in margins), 1 / len(labels)
    weak = part < (1 + chance) / 2
    wrong = Counter(label for label, margin in scored if margin <= 0)
    verdict = ("The generator's own prompts often prefer another label" if weak else
               "The generator's own prompts mostly prefer the requested label")
    verdict += (f"; {wrong.total()} samples are likelier under another one ({_most(wrong)}): --min-margin 0 drops them."
                if wrong else ".")
    median = float(np.median(margins))
    times = f"{np.exp(min(median, 20)):.3g} times as likely" if median > 0 else "no likelier"
    return [Figure("margin above 0", part, chance, "%", verdict, weak),
            Figure("median margin", median, None, "nats", f"A typical sample is {times} under its own label's prompt "
                   "than under the next best one.", median <= 0)]


def agreement(labels: Sequence[str], predicted: Sequence[str], synthetic: int, *, classes: int) -> Figure:
    """How often a prompt that was tuned on real pairs predicts the label for which a sample was written.

    Args:
      labels: labels of the samples, followed by labels of held-out real pairs.
      predicted: the prompt's predictions for the same pairs.
      synthetic: number of samples.
      classes: number of labels.
    """
    right = [one == other for one, other in zip(labels, predicted, strict=True)]
    part, real = share(right[:synthetic]), share(right[synthetic:]) if right[synthetic:] else None
    name, good = "agreement with the prompt", (1 + 1 / classes) / 2
    if real is not None and real < good:
        return Figure(name, part, real, "%",
                      "The prompt is often wrong on real pairs, so its view of the set says little.", True)
    weak = part < (good if real is None else real - 0.1)
    return Figure(name, part, real, "%", f"A prompt tuned on real pairs {'often' if weak else 'seldom'} predicts "
                  "another label than the requested one.", weak)


def one_per_first_sentence(pairs: Sequence[Example], seed: int, at_most: int = 500) -> list[Example]:
    """A random pair per first sentence, because a permutation test needs independent samples.

    Samples of the same first sentence (one per label) resemble each other, and so do real pairs that share one. All
    pairs without a first sentence are kept.

    Args:
      pairs: synthetic or real.
      seed: seed for the choice.
      at_most: number of pairs.
    """
    order = np.random.default_rng(seed).permutation(len(pairs))
    return list({pairs[i].sentence1 or i: pairs[i] for i in order}.values())[:at_most]


def fidelity(synthetic: np.ndarray, real: np.ndarray, *, seed: int = 0) -> Figure:
    """Whether sentences can be distinguished from real ones in a feature space.

    Args:
      synthetic: features [m, H] of independent synthetic sentences.
      real: features [n, H] of independent real sentences.
      seed: seed for the permutations.
    """
    name, fewest = "MMD\N{SUPERSCRIPT TWO}", min(len(synthetic), len(real))
    if fewest < 2:
        return Figure(name, None, None, "", "Too few sentences to compare any.", True)
    tested = two_sample(synthetic, real, seed=seed)
    sizes = f"p = {tested.p:.3f}, {len(synthetic)} against {len(real)} sentences"
    if tested.p <= _ALPHA:
        verdict, warning = f"Features differ from those of real sentences by more than chance ({sizes}).", True
    elif fewest < _FEW:
        verdict, warning = f"Too few sentences to say: only a gross difference would be seen ({sizes}).", True
    else:
        verdict, warning = f"Features cannot be distinguished from those of real sentences ({sizes}).", False
    return Figure(name, tested.value, tested.chance, "", verdict, warning)


def _is_near(match: Match | None, near: float) -> bool:
    return match is not None and match.similarity >= near


def _most(counts: Counter[str]) -> str:
    label, count = counts.most_common(1)[0]
    return f"{count} of {counts.total()} with label '{label}'"
