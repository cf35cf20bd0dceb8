"""Is a synthetic set any good? Figures, each next to the same figure of real pairs and with a sentence of verdict.

A figure that depends on the size of a set (diversity) is the mean over draws of one size from both sets. What is
'real' is the held-out pairs where there are some, else the shots themselves: few, and known to the generator, so that
the verdicts then say less. The bounds at which a verdict turns into a warning are ours: they are where a person should
look, not where a set becomes useless.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dawgen_jax.data.pools import Example
from dawgen_jax.evaluation.diversity import distinct, ngram_counts, self_bleu, vendi, words
from dawgen_jax.evaluation.fidelity import divergence, two_sample
from dawgen_jax.evaluation.marks import Mark
from dawgen_jax.evaluation.similarity import matches
from dawgen_jax.synthesis.filtering import Sample

__all__ = ["Figure", "Real", "agreement", "appraise", "fidelity", "one_a_first_sentence"]

_DRAWS, _DRAWN = 3, 64  # self-BLEU takes half a second for 64 sentences
_UNSEEN = 1000  # held-out pairs of which it is asked how many repeat a shot by chance
_SLACK = 0.02  # of a share, above that of real pairs
_FEW = 100  # sentences on a side: below, only a gross difference is seen
_ALPHA = 0.05


class Figure(NamedTuple):
    """One figure of a set.

    Attributes:
      name: what it is.
      value: of the set; None where it could not be computed.
      real: the same of real pairs, or what a value is to be compared with; None where there is nothing.
      unit: '%' for a share in [0, 1], else what is written after the number.
      verdict: a sentence.
      warning: whether a person should look.
    """

    name: str
    value: float | None
    real: float | None
    unit: str
    verdict: str
    warning: bool = False


class Real(NamedTuple):
    """Real pairs: the ``shots`` that the generator was tuned on, and pairs that it has not seen."""

    shots: Sequence[Example]
    heldout: Sequence[Example] = ()

    @property
    def reference(self) -> Sequence[Example]:
        """What a set is compared with: the held-out pairs that are no shots, else the shots."""
        seen = set(self.shots)
        return [pair for pair in self.heldout if pair not in seen] or self.shots


def appraise(samples: Sequence[Sample], labels: Sequence[str], real: Real, marks: Sequence[Mark], *, near: float,
             tested: bool, seed: int = 0) -> list[Figure]:
    """The figures that need no backbone.

    Args:
      samples: the set.
      labels: of the task.
      real: shots and held-out pairs.
      marks: of the samples (:func:`dawgen_jax.evaluation.marks.mark`).
      near: similarity of near copies.
      tested: whether the marks know the test pairs.
      seed: of the draws.

    Raises:
      ValueError: there is no sample or no real pair.
    """
    if not samples or not real.shots:
        raise ValueError("An appraisal needs at least one synthetic and one real pair.")
    pairs = [sample.example for sample in samples]
    return [*_diversity(pairs, real.reference, seed), *_lengths(pairs, real.reference, seed), _balance(pairs, labels),
            _copies(pairs, marks, real.reference), _memory(marks, real, near, seed), _repeats(pairs, marks, near),
            *([_leaks(marks)] if tested else []), *_margins(pairs, marks, labels)]


def _diversity(pairs: Sequence[Example], reference: Sequence[Example], seed: int) -> list[Figure]:
    size = min(len(pairs), len(reference), _DRAWN)
    if size < 2:
        return []
    sides = [[pair.sentence2 for pair in side] for side in (pairs, reference)]

    def figure(name: str, measure: Callable[[list[str]], float], bound: Callable[[float, float], bool], more: str,
               fewer: str) -> Figure:
        value, other = (_mean_of_draws(side, size, seed, measure) for side in sides)
        warning = bound(value, other)
        return Figure(name, value, other, "", f"{fewer if warning else more} ({size} of each).", warning)

    def below(value: float, other: float) -> bool:
        return value < 0.8 * other  # one draw of real sentences differs from another by a tenth, and seldom by more

    return [
        figure("distinct-1", lambda drawn: distinct(drawn, 1), below, "Words are as varied as in real sentences",
               "Words are less varied than in real sentences"),
        figure("distinct-2", distinct, below, "Pairs of words are as varied as in real sentences",
               "Pairs of words are less varied than in real sentences"),
        figure("self-BLEU", self_bleu, lambda value, other: value > other + 0.1,
               "Sentences resemble each other no more than real ones do",
               "Sentences resemble each other more than real ones do"),
        figure("Vendi score", lambda drawn: vendi(ngram_counts(drawn)), below,
               "There are as many different sentences as among real ones",
               "There are fewer different sentences than among real ones"),
    ]


def _mean_of_draws(sentences: list[str], size: int, seed: int, measure: Callable[[list[str]], float]) -> float:
    draws = 1 if len(sentences) == size else _DRAWS
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(len(sentences), size, replace=False) for _ in range(draws)]
    return float(np.mean([measure([sentences[place] for place in places]) for places in chosen]))


def _lengths(pairs: Sequence[Example], reference: Sequence[Example], seed: int) -> list[Figure]:
    own, other = (np.array([len(words(pair.sentence2)) for pair in side]) for side in (pairs, reference))
    mean, real_mean = float(own.mean()), float(other.mean())
    off = not 0.8 * real_mean <= mean <= 1.25 * real_mean
    told = ("shorter than" if mean < real_mean else "longer than") if off else "about as long as"
    rng, pooled = np.random.default_rng(seed), np.concatenate([own, other])

    def distance(lengths: np.ndarray) -> float:
        return divergence(*(dict(zip(*np.unique(part, return_counts=True), strict=True))
                            for part in (lengths[:len(own)], lengths[len(own):])))

    spread, chance = distance(pooled), float(np.quantile([distance(rng.permutation(pooled)) for _ in range(99)], 0.95))
    apart = spread > max(chance, 0.05)
    return [
        Figure("length", mean, real_mean, "words", f"Sentences are {told} real ones.", off),
        Figure("length distance", spread, chance, "bits",
               f"Lengths are spread {'differently from' if apart else 'much like'} real ones (0 is alike, 1 disjoint).",
               apart),
    ]


def _balance(pairs: Sequence[Example], labels: Sequence[str]) -> Figure:
    counts = Counter(pair.label for pair in pairs)
    rarest = min(labels, key=lambda label: counts[label])
    share, even = counts[rarest] / len(pairs), 1 / len(labels)
    if not counts[rarest]:
        told = f"No sample has the label '{rarest}': it cannot be learned."
    elif share < even / 2:
        told = f"Label '{rarest}' has only {counts[rarest]} of {len(pairs)} samples."
    else:
        told = "Every label has a fair part."
    return Figure("rarest label", share, even, "%", told, share < even / 2)


def _copies(pairs: Sequence[Example], marks: Sequence[Mark], reference: Sequence[Example]) -> Figure:
    copied = Counter(pair.label for pair, mark in zip(pairs, marks, strict=True) if mark.verbatim)
    share = copied.total() / len(pairs)
    other = _share(words(pair.sentence1) == words(pair.sentence2) for pair in reference)
    warning = share > other + _SLACK
    return Figure("copies of sentence 1", share, other, "%",
                  f"Sentence 2 often only repeats sentence 1 ({_most(copied)}): --max-copy drops these." if warning else
                  "Sentence 2 seldom only repeats sentence 1.", warning)


def _memory(marks: Sequence[Mark], real: Real, near: float, seed: int) -> Figure:
    share = _share(_is_near(mark.shot, near) for mark in marks)
    unseen, base = real.reference, None
    if unseen is not real.shots:
        shown = [(sentence,) for shot in real.shots for sentence in (shot.sentence1, shot.sentence2) if words(sentence)]
        chosen = np.random.default_rng(seed).permutation(len(unseen))[:_UNSEEN]
        base = _share(map(bool, matches([(unseen[place].sentence2,) for place in chosen], shown, near)))
    warning = share > (base or 0.0) + _SLACK
    if not warning:
        told = "Sentences of the shots are hardly repeated" + ("." if base is None else ", or no more than by chance.")
    elif base is None:
        told = "Sentences of the shots are repeated; whether by chance, only --heldout pairs tell."
    else:
        told = "The generator has memorised sentences of the shots: --max-copy drops them."
    return Figure("near copies of shots", share, base, "%", told, warning)


def _repeats(pairs: Sequence[Example], marks: Sequence[Mark], near: float) -> Figure:
    found = [(pair, mark.twin) for pair, mark in zip(pairs, marks, strict=True) if _is_near(mark.twin, near)]
    torn = sum(pair.label != pairs[twin.position].label for pair, twin in found)
    warning = len(found) > _SLACK * len(pairs)
    told = f"{len(found)} samples nearly repeat another one" if found else "No sample nearly repeats another one"
    told += f", {torn} of them under another label" if torn else ""
    return Figure("near duplicates", len(found) / len(pairs), None, "%",
                  told + (": --dedup keeps one of each." if warning else "."), warning)


def _leaks(marks: Sequence[Mark]) -> Figure:
    count = sum(mark.leak is not None for mark in marks)
    told = (f"{count} samples nearly repeat a test pair, which flatters a score on it: --drop-leaks drops them."
            if count else "No sample nearly repeats a test pair.")
    return Figure("leaks of the test set", count / len(marks), None, "%", told, bool(count))


def _margins(pairs: Sequence[Example], marks: Sequence[Mark], labels: Sequence[str]) -> list[Figure]:
    scored = [(pair.label, mark.margin) for pair, mark in zip(pairs, marks, strict=True) if mark.margin is not None]
    if not scored:
        return []
    margins = [margin for _, margin in scored]
    told, chance = _share(margin > 0 for margin in margins), 1 / len(labels)
    weak = told < (1 + chance) / 2
    wrong = Counter(label for label, margin in scored if margin <= 0)
    verdict = ("The generator's own prompts often prefer another label" if weak else
               "The generator's own prompts mostly prefer the label asked for")
    verdict += (f"; {wrong.total()} samples are likelier under another one ({_most(wrong)}): --min-margin 0 drops them."
                if wrong else ".")
    median = float(np.median(margins))
    return [Figure("margin above 0", told, chance, "%", verdict, weak),
            Figure("median margin", median, None, "nats",
                   "A sample is typically "
                   + (f"{np.exp(min(median, 20)):.3g} times as likely" if median > 0 else "no likelier")
                   + " under its own label's prompt than under the next.", median <= 0)]


def agreement(labels: Sequence[str], predicted: Sequence[str], real_labels: Sequence[str] = (),
              real_predicted: Sequence[str] = (), *, classes: int) -> Figure:
    """How often a prompt that was tuned on real pairs gives a sample the label that it was written for.

    Args:
      labels: of the samples.
      predicted: by the prompt.
      real_labels: of held-out real pairs.
      real_predicted: by the prompt.
      classes: how many there are.
    """
    share = _share(one == other for one, other in zip(labels, predicted, strict=True))
    real = _share(one == other for one, other in zip(real_labels, real_predicted, strict=True)) if real_labels else None
    if real is not None and real < (1 + 1 / classes) / 2:
        return Figure("agreement with the prompt", share, real, "%",
                      "The prompt is often wrong on real pairs, so that its view of the set says little.", True)
    weak = share < (real - 0.1 if real is not None else (1 + 1 / classes) / 2)
    return Figure("agreement with the prompt", share, real, "%",
                  "A prompt tuned on real pairs often gives another label than was asked for." if weak else
                  "A prompt tuned on real pairs mostly gives the label that was asked for.", weak)


def one_a_first_sentence(pairs: Sequence[Example], seed: int, at_most: int = 500) -> list[Example]:
    """A random pair of each first sentence, at most so many: the independent draws that a permutation test wants.

    The samples of one first sentence (one a label) resemble each other, and so do real pairs that share one; a test
    that took them for independent would find differences that are none. Pairs without a first sentence are all kept.

    Args:
      pairs: synthetic or real.
      seed: of the draw.
      at_most: how many.
    """
    order = np.random.default_rng(seed).permutation(len(pairs))
    return list({pairs[place].sentence1 or place: pairs[place] for place in order}.values())[:at_most]


def fidelity(own: np.ndarray, other: np.ndarray, *, seed: int = 0) -> Figure:
    """Whether sentences can be told from real ones in a feature space.

    Args:
      own: features [m, H] of synthetic sentences, independent draws.
      other: features [n, H] of real ones.
      seed: of the permutations.
    """
    fewest = min(len(own), len(other))
    if fewest < 2:
        return Figure("MMD\N{SUPERSCRIPT TWO}", None, None, "", "Too few sentences to compare any.", True)
    tested = two_sample(own, other, seed=seed)
    sizes = f"p = {tested.p:.3f}, {len(own)} against {len(other)} sentences"
    if tested.p <= _ALPHA:
        told, warning = f"Features differ from those of real sentences by more than chance ({sizes}).", True
    elif fewest < _FEW:
        told, warning = f"Too few sentences to say: only a gross difference would be seen ({sizes}).", True
    else:
        told, warning = f"Features cannot be told from those of real sentences ({sizes}).", False
    return Figure("MMD\N{SUPERSCRIPT TWO}", tested.value, tested.chance, "", told, warning)


def _is_near(match: object, near: float) -> bool:
    return match is not None and match.similarity >= near


def _most(counts: Counter[str]) -> str:
    label, count = counts.most_common(1)[0]
    return f"{count} of {counts.total()} with label '{label}'"


def _share(flags: Iterable[bool]) -> float:
    return float(np.mean([*flags]))
