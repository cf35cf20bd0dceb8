"""The seven mini tasks: the paper's, in the mini world, with labels that are computed.

Templates are the plain sequence sentence, <mask>, sentence, which pre-training text has too, with a joining word as the
answer. Label words are words of the world that have nothing to do with the task, so that a backbone knows little of it
before its prompt is tuned, as the paper's T5 does: zero-shot, mini-t5 is at chance on mini-snli (33.7 %) but not on
mini-rte (60.7 %). Generator phrases say with the world's own connectives what the paper's say.

``Departure:`` templates, label words and phrases (the paper's words do not occur in the world), the relation in the
infix instead of in front, and repetition penalties, chosen on generated sets of mini-snli by label consistency.
"""

from __future__ import annotations

import re

from dawgen_jax.miniworld.grammar import Sentence, parse
from dawgen_jax.miniworld.semantics import answer, meaning, relation, same_question
from dawgen_jax.tasks import Task

__all__ = ["TASKS", "consistency"]

_INFERENCE = ("entailment", "neutral", "contradiction")
_TWO_WAY = ("entailment", "not_entailment")


def _task(name: str, labels: tuple[str, ...], words: tuple[str, ...], nouns: tuple[str, str],
          relations: tuple[str, ...], penalties: tuple[float, ...], **options) -> Task:
    first, second = nouns
    phrases = tuple((f"{first} :", f"{relation} {second} :") for relation in relations)
    return Task(name, labels, "{sentence1} <mask> {sentence2}", words, phrases, penalties, (name,),
                test_split="test", **options)


_SENTENCES = ("first", "second")

TASKS: dict[str, Task] = {task.name: task for task in (
    _task("mini-qqp", ("not_duplicate", "duplicate"), ("red", "big"), _SENTENCES, ("also", "again"),
          (1.3, 1.0), positive="duplicate"),
    _task("mini-mrpc", ("not_equivalent", "equivalent"), ("red", "big"), _SENTENCES, ("rather", "likewise"),
          (1.3, 1.0), positive="equivalent"),
    _task("mini-mnli", _INFERENCE, ("red", "big", "two"), _SENTENCES, ("so", "maybe", "never"),
          (1.0, 1.3, 1.5)),
    _task("mini-snli", _INFERENCE, ("red", "big", "two"), _SENTENCES, ("so", "maybe", "never"),
          (1.0, 1.3, 1.5)),
    _task("mini-qnli", _TWO_WAY, ("red", "big"), ("question", "answer"), ("well", "anyway"), (1.0, 1.0),
          reject=("?",)),
    _task("mini-rte", _TWO_WAY, ("red", "big"), _SENTENCES, ("so", "maybe"), (1.0, 1.3)),
    _task("mini-sick", _INFERENCE, ("red", "big", "two"), _SENTENCES, ("so", "maybe", "never"),
          (1.0, 1.3, 1.5)),
)}
"""The mini tasks by name."""


def _read(sentence: str) -> Sentence | None:
    return parse(re.findall(r"\w+|[^\w\s]", sentence.lower()))


def consistency(task: str, sentence1: str, sentence2: str) -> str | None:
    """The true label of a pair, by the semantics of its two sentences; None where one is no sentence of the kind asked.

    >>> consistency("mini-snli", "a boy runs .", "a child moves .")
    'entailment'
    >>> consistency("mini-snli", "a boy runs .", "child a moves .") is None
    True
    """
    first, second = _read(sentence1), _read(sentence2)
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
