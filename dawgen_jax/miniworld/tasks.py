"""The seven mini tasks: the paper's tasks in the mini world, with computed labels.

A template is sentence, <mask>, sentence, a form that also occurs in pre-training text, where the mask is a joining
word. Label words are unrelated to the task, so that a backbone knows little about the task before its prompt is tuned,
like the paper's T5: zero-shot, mini-t5 is at chance on mini-snli (33.7 %) but not on mini-rte (60.7 %). All labels have
the same generator phrases and repetition penalties, so that a generator learns the labels from the shots alone. Each
task has a variant, such as mini-snli-worded, with the same data whose phrases contain a joining word of the relation.

``Departure:`` templates, label words and phrases. The paper's words do not occur in this world, and its phrases name
the relation; with such phrases, which only the worded variants have, a generator of this world would need no shots to
write consistent pairs.
"""

from __future__ import annotations

import dataclasses
import re

from dawgen_jax.miniworld.grammar import Sentence, parse
from dawgen_jax.miniworld.semantics import answer, meaning, relation, same_question
from dawgen_jax.tasks import Task

__all__ = ["TASKS", "consistency", "unworded"]

_INFERENCE = ("entailment", "neutral", "contradiction")
_TWO_WAY = ("entailment", "not_entailment")
_PENALTY = 1.2
"""Repetition penalty of every label, chosen on sets of mini-snli; without a penalty, sentence 1 is copied."""


def _task(name: str, labels: tuple[str, ...], words: tuple[str, ...], nouns: tuple[str, str] = ("first", "second"),
          **options) -> Task:
    first, second = nouns
    phrases = ((f"{first} :", f"{second} :"),) * len(labels)
    return Task(name, labels, "{sentence1} <mask> {sentence2}", words, phrases, (_PENALTY,) * len(labels), (name,),
                test_split="test", **options)


_NEUTRAL = (
    _task("mini-qqp", ("not_duplicate", "duplicate"), ("red", "big"), positive="duplicate", source="mini-mrpc"),
    _task("mini-mrpc", ("not_equivalent", "equivalent"), ("red", "big"), positive="equivalent", source="mini-qqp"),
    _task("mini-mnli", _INFERENCE, ("red", "big", "two"), source="mini-snli"),
    _task("mini-snli", _INFERENCE, ("red", "big", "two"), source="mini-mnli"),
    _task("mini-qnli", _TWO_WAY, ("red", "big"), ("question", "answer"), reject=("?",)),
    _task("mini-rte", _TWO_WAY, ("red", "big")),
    _task("mini-sick", _INFERENCE, ("red", "big", "two"), source="mini-snli"),
)
_INFERRING = ("so", "maybe", "never")
_RELATIONS = {"mini-qqp": ("also", "again"), "mini-mrpc": ("rather", "likewise"), "mini-mnli": _INFERRING,
              "mini-snli": _INFERRING, "mini-qnli": ("well", "anyway"), "mini-rte": ("so", "maybe"),
              "mini-sick": _INFERRING}
"""The joining word of each label, which precedes the second phrase of a worded variant."""


def _worded(task: Task) -> Task:
    phrases = tuple((first, f"{relation} {second}") for relation, (first, second) in
                    zip(_RELATIONS[task.name], task.phrases, strict=True))
    return dataclasses.replace(task, name=f"{task.name}-worded", phrases=phrases)


TASKS: dict[str, Task] = {task.name: task for task in (*_NEUTRAL, *map(_worded, _NEUTRAL))}
"""The mini tasks by name, and their worded variants."""


def unworded(name: str) -> str:
    """The mini task whose data ``name`` uses.

    >>> unworded("mini-snli-worded"), unworded("mini-snli")
    ('mini-snli', 'mini-snli')
    """
    return name.removesuffix("-worded")


def _read(sentence: str) -> Sentence | None:
    return parse(re.findall(r"\w+|[^\w\s]", sentence.lower()))


def consistency(task: str, sentence1: str, sentence2: str) -> str | None:
    """The true label of a pair, by the semantics of its sentences; None if one does not parse as the required kind.

    >>> consistency("mini-snli", "a boy runs .", "a child moves .")
    'entailment'
    >>> consistency("mini-snli", "a boy runs .", "child a moves .") is None
    True
    """
    task, first, second = unworded(task), _read(sentence1), _read(sentence2)
    if first is None or second is None:
        return None
    asks = tuple(sentence.kind != "statement" for sentence in (first, second))
    if asks != {"mini-qqp": (True, True), "mini-qnli": (True, False)}.get(task, (False, False)):
        return None
    labels = TASKS[task].labels
    if task == "mini-qqp":
        return labels[same_question(first, second)]
    if task == "mini-qnli":
        return labels[answer(second, first) is None]
    how = relation(meaning(first), meaning(second))
    if task == "mini-mrpc":
        return labels[how == "equivalent"]
    how = "entailment" if how == "equivalent" else how
    return how if how in labels else "not_entailment"
