"""What can be checked of a task before anything is trained: its texts in the backbones' tokens, and what is wrong.

A problem must be fixed before a run; a warning says what a run will do that its user may not expect.
"""

from __future__ import annotations

import math
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dawgen_jax import miniworld
from dawgen_jax.backbones import fetch, registry
from dawgen_jax.backbones.base import Format
from dawgen_jax.backbones.templates import MASK
from dawgen_jax.backbones.tokens import MARK, LabelWordError
from dawgen_jax.config import Config
from dawgen_jax.data.encoding import template_rows
from dawgen_jax.data.pools import texts_of
from dawgen_jax.errors import UserError
from dawgen_jax.methods.arms import RELEASED, arms_of
from dawgen_jax.pipeline.inputs import TaskData, backbone_folder, is_own

__all__ = ["Examined", "examine"]

_SOME, _MOST = 0.02, 0.4
"""Shares of unknown pieces from which a backbone is warned of, and refused."""
_ANY = 1 << 20


class Examined(NamedTuple):
    """A task in the tokens of the backbones.

    Attributes:
      problems: what must be fixed, one sentence each.
      warnings: what may surprise, one sentence each.
      word_ids: the token of each label's word; empty if there is a problem with them.
      proposed: words of one token for the labels of a custom task, if there is a problem with its label words.
      rows: token ids of every example of the pool and then of the test set, in the template, uncut; empty where the
        template is a problem.
      unknown: share of the texts' pieces that the classifier's tokenizer does not know.
    """

    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    word_ids: tuple[int, ...]
    proposed: tuple[str, ...]
    rows: tuple[list[int], ...]
    unknown: float


def examine(given: TaskData, config: Config) -> Examined:
    """What is wrong with a task under a configuration, and its rows.

    Args:
      given: the task's data.
      config: its backbones, budgets and arms.

    Raises:
      UserError: a backbone has no tokenizer, or the task has no template for it.
    """
    task, classifier = given.task, config.classifier
    folder = backbone_folder(classifier.backbone.path)
    tokens = registry.read_format(folder)
    examples, problems, warnings = [*given.pools.train, *given.test], [], []
    unknown = _unknown(tokens, given)
    problem = f"{100 * unknown:.0f} % of the pieces of {task.name}'s texts are unknown to {classifier.backbone.label}"
    if unknown >= _MOST:  # all other advice would be about a model that cannot read them
        return Examined((f"{problem}; {_better(folder)}.",), (), (), (), (), unknown)
    if unknown >= _SOME:
        warnings.append(f"{problem}.")
    word_ids, proposed, rows = (), (), ()
    arms, own = arms_of(config), is_own(task.name, config)  # advice names own.* for custom tasks alone
    template, words = tokens.wording(task)
    if MASK not in template and not all(arm.method.trains and arm.method.trains.bare for arm in arms):
        problems.append(f"The template {template!r} of {task.name} has no <mask>, where the label word is read; "
                        "put it into own.template.")
    try:
        word_ids = tuple(tokens.label_ids(task).tolist())
        first = [piece.removeprefix(MARK) for piece in tokens.pieces(word_ids)]
        if parts := [f"'{word}' by '{piece}'" for word, piece in zip(words, first, strict=True) if word != piece]:
            warnings.append(f"Label words of several tokens are scored by their first tokens: {', '.join(parts)}.")
    except LabelWordError as error:
        proposed = error.proposed if own else ()
        problems.append(f"{error} " + (f"Set own.label_words to one word per label, in the order "
                                       f"{', '.join(task.labels)} (--own.label_words WORD WORD ...)." if own else
                                       "Give a backbone whose vocabulary has it (--classifier.backbone.path DIR)."))
    try:
        template_rows(tokens, task, examples[:1], classifier.max_tokens)
        rows = tuple(template_rows(tokens, task, examples, _ANY))
    except UserError as error:
        problems.append(str(error))
    warnings += _over(rows, classifier.max_tokens, "examples in the template", "classifier.max_tokens")
    warnings += _small(given, "give more in own.test" if own else "data.max_test = 0 scores all there are")
    if any(arm.generator not in ("", RELEASED) for arm in arms):
        more = _of_generator(given, config)
        problems += more[0]
        warnings += more[1]
    return Examined(tuple(problems), tuple(warnings), word_ids, proposed, rows, unknown)


def _better(folder: pathlib.Path) -> str:
    """Which backbone to take instead of one that cannot read the texts."""
    if folder.parent == miniworld.BACKBONES:
        name = next(iter(fetch.WHEELS))
        return (f"{folder.name} reads the mini world only. Get a language model: `dawgen backbone fetch {name}`, then "
                f"run the same command with `--backbone {name}`")
    return "give a backbone of their language (--backbone DIR)"


def _unknown(tokens: Format, given: TaskData) -> float:
    texts = [text for column in texts_of(given.task, given.pools.train) for text in column]
    pieces = Counter(piece for row in tokens.ids(texts) for piece in row)
    return pieces[tokens.unk_id] / max(1, pieces.total())


def _over(rows: Sequence[Sequence[int]], budget: int, what: str, field: str) -> list[str]:
    long = sum(len(row) > budget for row in rows)
    return [f"{long} of {len(rows)} {what} are longer than {field} = {budget} tokens (up to {max(map(len, rows))}) and "
            "lose their ends."] if long else []


def _small(given: TaskData, advice: str) -> list[str]:
    """What a small or one-sided test set can tell."""
    counts = Counter(example.label for example in given.test)
    size, warnings = len(given.test), []
    if size < 100:
        warnings.append(f"The test set has {size} examples: at an accuracy of 75 % chance alone moves it by "
                        f"{100 * 1.96 * math.sqrt(0.75 * 0.25 / size):.0f} points either way (95 %); {advice}.")
    missing = [label for label in given.task.labels if not counts[label]]
    if missing:
        warnings.append(f"The test set has no example of {', '.join(missing)}.")
    elif max(counts.values()) > 2 * size / len(counts):
        most, number = counts.most_common(1)[0]
        warnings.append(f"{number} of {size} test examples are of class '{most}': look at F1 rather than at accuracy.")
    return warnings


def _of_generator(given: TaskData, config: Config) -> tuple[list[str], list[str]]:
    """Problems and warnings of tuning a generator and of writing with it."""
    task, generator, synthesis = given.task, config.generator, config.synthesis
    tokens = registry.read_format(backbone_folder(generator.backbone.path))
    problems, warnings = [], []
    if given.k < generator.examples_per_label:
        problems.append(f"A generator of {task.name} is tuned on {given.k} example(s) a class, but a batch takes "
                        f"generator.examples_per_label = {generator.examples_per_label} different ones: add examples, "
                        "raise data.k, or run arms without a generator.")
    *firsts, learned = texts_of(task, given.pools.train)
    if firsts:
        warnings += _over(tokens.ids(firsts[0]), generator.max_source_tokens, "first sentences",
                          "generator.max_source_tokens")
    ended = tokens.target_rows(learned, _ANY)
    warnings += _over(ended, generator.max_target_tokens, "texts to be learned from", "generator.max_target_tokens")
    if int(np.median([len(row) for row in ended])) > synthesis.max_new_tokens:
        warnings.append(f"Most texts of {task.name} have more tokens than synthesis.max_new_tokens = "
                        f"{synthesis.max_new_tokens}: generated ones will not end in time; raise it.")
    fronts, middles = (tokens.ids(column) for column in zip(*task.phrases, strict=True))
    warnings += [f"Of the phrase of '{label}' only the last {generator.prompt_length} of {len(row)} tokens fit: "
                 "generator.prompt_length." for label, row in zip(task.labels, fronts, strict=True)
                 if len(row) > generator.prompt_length]
    starts = [(front[-generator.prompt_length:], middle) for front, middle in zip(fronts, middles, strict=True)]
    if alike := [label for label, start in zip(task.labels, starts, strict=True) if starts.count(start) > 1]:
        warnings.append(f"The phrases of {', '.join(alike)} are the same pieces to {generator.backbone.label}, and "
                        "their generator's prompts start alike" + (": set own.phrases to words that it knows."
                                                             if is_own(task.name, config) else "."))
    if given.sentences and not given.repeats and len(given.sentences) < synthesis.samples_per_label:
        warnings.append(f"{len(given.sentences)} first sentences allow no more samples per label, and "
                        f"synthesis.samples_per_label = {synthesis.samples_per_label} asks for more: give a text file "
                        "in data.corpus, or sample at a synthesis.temperature above 0.")
    return problems, warnings
