"""What a sentence-pair task is, and the paper's seven.

Everything is keyed by class *name* at the boundary (files, tables) and by position in ``Task.labels`` inside;
the order is fixed here and nowhere else. It is also the order of the integers of the Hugging Face hub.

Templates and label words of QQP, MRPC, MNLI, SNLI and SICK are those of OPTIMA's prompt-tuning code (the same
first author's); those of QNLI and RTE are not published: ``Departure:`` ours. Generator phrases, repetition
penalties and lengths of first sentences are FewGen's (released code and data); SNLI and SICK have none there:
``Departure:`` MNLI's. QQP's two phrases look swapped there: ``Departure:`` unswapped here (they are only a start).
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from dawgen_jax.config import ConfigError

__all__ = ["SEVEN", "Task"]


@dataclasses.dataclass(frozen=True)
class Task:
    """A sentence-pair classification task.

    Attributes (L labels, all tuples in the order of ``labels``):
      name: as in the published tables; also the name of its folder of data.
      labels: class names.
      template: encoder text with {sentence1}, {sentence2} and one <mask> (none for a model with a head of its own).
      label_words: one word a label; its single token's logit at the mask is the class score.
      phrases: (before sentence 1, between the sentences): the starts of Q_l and of the infix.
      repetition_penalty: CTRL's, over sentence 1's tokens and those generated so far; 1 is off.
      corpus: which released sets hold suitable first sentences (names of tasks).
      source_words: (fewest, most) words of a first sentence from a corpus; 0 for most is any number.
      reject: a generated sentence 2 that contains one of these strings is rejected.
      positive: the class whose F1 is reported; empty for the macro average.
      test_split: the split that the published numbers are taken on.
      paper_n_test: its size in the paper; published cells stand beside ours only where n_test agrees.
      draw: how a few-shot split is drawn: all training lines are shuffled, or those of each class apart.

    Raises:
      ConfigError: fields do not fit each other.
    """

    name: str
    labels: tuple[str, ...]
    template: str
    label_words: tuple[str, ...]
    phrases: tuple[tuple[str, str], ...]
    repetition_penalty: tuple[float, ...]
    corpus: tuple[str, ...] = ()
    source_words: tuple[int, int] = (0, 0)
    reject: tuple[str, ...] = ()
    positive: str = ""
    test_split: Literal["test", "validation"] = "validation"
    paper_n_test: int = 0
    draw: Literal["lines", "classes"] = "lines"

    def __post_init__(self):
        def check(field: str, ok: bool, want: str) -> None:
            if not ok:
                raise ConfigError(f"Task {self.name}: {field} = {getattr(self, field)!r}: must be {want}.")

        distinct = len(set(self.labels))
        check("labels", distinct > 1 and distinct == len(self.labels), "two or more distinct names")
        for field in ("label_words", "phrases", "repetition_penalty"):
            check(field, len(getattr(self, field)) == len(self.labels), f"one a label ({len(self.labels)})")
        slots = re.findall(r"\{\w*\}|<mask>", self.template)
        check("template", sorted(set(slots) - {"<mask>"}) == ["{sentence1}", "{sentence2}"]
              and len(set(slots)) == len(slots),
              "a text with {sentence1}, {sentence2} and (where a prompt is tuned) <mask>, each once")
        check("repetition_penalty", min(self.repetition_penalty) >= 1, "1 (off) or more")
        check("positive", self.positive in ("", *self.labels), "one of the labels, or empty for macro F1")
        check("test_split", self.test_split in ("test", "validation"), "'test' or 'validation'")
        check("draw", self.draw in ("lines", "classes"), "'lines' or 'classes'")


_INFERENCE = ("entailment", "neutral", "contradiction")
_TWO_WAY = ("entailment", "not_entailment")
_INFERENCE_WORDS = ("yes", "neutral", "no")
_INFERENCE_PENALTY = (1.1, 1.5, 1.1)
_INFERENCE_TEMPLATE = "hypothesis: {sentence2} premise: {sentence1} answer: <mask>"
_PARAPHRASE_TEMPLATE = "{sentence1} and {sentence2} are equivalent? <mask>"


def _phrases(noun: str, *relations: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{noun} 1 {relation} {noun} 2. {noun} 1:", f"{noun} 2:") for relation in relations)


_INFERENCE_PHRASES = _phrases("Sentence", "implies", "supplements", "contradicts")
_PARAPHRASE_RELATIONS = ("is different from", "is equivalent to")

SEVEN: dict[str, Task] = {
    task.name: task
    for task in (
        Task("QQP", ("not_duplicate", "duplicate"), _PARAPHRASE_TEMPLATE, ("no", "yes"),
             _phrases("Question", *_PARAPHRASE_RELATIONS), (1.5, 1.0), ("QQP", "QNLI"),
             positive="duplicate", paper_n_test=40430),
        Task("MRPC", ("not_equivalent", "equivalent"), _PARAPHRASE_TEMPLATE, ("no", "yes"),
             _phrases("Sentence", *_PARAPHRASE_RELATIONS), (1.5, 1.0), ("MRPC", "RTE"), source_words=(20, 70),
             positive="equivalent", test_split="test", paper_n_test=1725),
        Task("MNLI", _INFERENCE, _INFERENCE_TEMPLATE, _INFERENCE_WORDS, _INFERENCE_PHRASES,
             _INFERENCE_PENALTY, ("MNLI",), source_words=(5, 30), paper_n_test=9815),
        Task("SNLI", _INFERENCE, _INFERENCE_TEMPLATE, _INFERENCE_WORDS, _INFERENCE_PHRASES,
             _INFERENCE_PENALTY, ("MNLI",), source_words=(5, 30), paper_n_test=9842),
        Task("QNLI", _TWO_WAY, "question: {sentence1} sentence: {sentence2} answer: <mask>", ("yes", "no"),
             tuple((f"Paragraph is {relation} to Question. Question:", "Paragraph:")
                   for relation in ("relevant", "irrelevant")),
             (1.0, 1.5), ("QNLI", "QQP"), reject=("?",), paper_n_test=5463),
        Task("RTE", _TWO_WAY, _INFERENCE_TEMPLATE, ("yes", "no"),
             _phrases("Sentence", "implies", "supplements"), (1.0, 1.5), ("RTE", "MRPC"), source_words=(20, 70),
             paper_n_test=277),
        Task("SICK", _INFERENCE, _INFERENCE_TEMPLATE, _INFERENCE_WORDS, _INFERENCE_PHRASES,
             _INFERENCE_PENALTY, ("MNLI",), source_words=(5, 15), test_split="test", paper_n_test=4906,
             draw="classes"),
    )
}
"""The paper's seven tasks by name."""
