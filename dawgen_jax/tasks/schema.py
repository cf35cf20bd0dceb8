"""Classification tasks of sentence pairs or of single texts.

A single text is a pair without sentence 1. In both cases a generator writes sentence 2, given the label and, for pairs,
sentence 1.

Files and tables use class names; arrays use positions in ``Task.labels``. The order of the labels belongs to the task,
and equals the order of the integer labels on the Hugging Face hub.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dawgen_jax.config.data import Penalty
from dawgen_jax.config.validation import DISTINCT, AsTuple, Items, must, shown, validated
from dawgen_jax.errors import ConfigError, UserError

__all__ = ["PAIR", "TEXT", "Task"]

PAIR = ("sentence1", "sentence2")
TEXT = ("text",)


def _is_template(text: str) -> bool:
    slots = _slots(text)
    return {slot.strip("{}") for slot in slots} - {"<mask>"} in (set(PAIR), set(TEXT)) and len(set(slots)) == len(slots)


@validated
class Task:
    """A classification task of sentence pairs or of single texts; its tuples are in the order of ``labels``.

    Attributes:
      name: name in the published tables.
      labels: class names.
      template: a text with {sentence1} and {sentence2}, or with {text}, and one <mask> (omitted for a model with a
        classification head). Its fields decide whether the task is of pairs or of single texts.
      label_words: one word per label; the logit of its first token at the mask is the class score.
      phrases: (before sentence 1, before the generated text): texts that initialise Q_l and the infix.
      repetition_penalty: CTRL's penalty on tokens of sentence 1 and on tokens generated so far; 1 disables.
      corpus: tasks whose released sets have suitable first sentences.
      source_words: (fewest, most) words of a first sentence from a corpus; 0 for most means any number.
      reject: a generated sentence 2 that contains one of these strings is rejected.
      positive: the class whose F1 is reported; empty for the macro average.
      test_split: the split of the published numbers.
      paper_n_test: its size in the paper; our numbers are compared with published ones only if n_test agrees.
      draw: how a few-shot split is sampled: all training lines are shuffled together, or each class separately.
      source: name of the labelled task whose prompt initialises SPoT and OPTIMA; empty without one.
      folder: name of its data folder, if different from ``name``.
      causal: (template, label words) for a causal model: <mask> is at the end, and <prompt> after all texts marks the
        position of a soft prompt. None derives both; see :attr:`completion`.

    Raises:
      ConfigError: a field is out of range, or fields contradict each other.

    >>> Task("reviews", ("bad", "good"), "{text} It was <mask>.", ("bad", "good"),
    ...      (("A bad review.", "Text:"), ("A good review.", "Text:")), (1.0, 1.0)).fields
    ('text',)
    """

    name: str
    labels: Annotated[Items[str], Field(min_length=2), DISTINCT]
    template: Annotated[str, AfterValidator(must(
        "have {sentence1} and {sentence2}, or {text}, and (if a prompt is tuned) <mask>, each once", _is_template))]
    label_words: Items[str]
    phrases: Items[tuple[str, str]]
    repetition_penalty: Items[Penalty]
    corpus: Items[str] = ()
    source_words: Annotated[tuple[int, int], AsTuple] = (0, 0)
    reject: Items[str] = ()
    positive: str = ""
    test_split: Literal["test", "validation"] = "validation"
    paper_n_test: int = 0
    draw: Literal["lines", "classes"] = "lines"
    source: str = ""
    folder: str = ""
    causal: Annotated[tuple[str, Items[str]], AsTuple] | None = None

    def __post_init__(self):
        for field in ("label_words", "phrases", "repetition_penalty"):
            if len(getattr(self, field)) != len(self.labels):
                raise ConfigError(f"Task.{field} = {shown(getattr(self, field))}: must have {len(self.labels)} items, "
                                  f"one per label of {self.name}.")
        if self.positive not in ("", *self.labels):
            raise ConfigError(f"Task.positive = {shown(self.positive)}: must be one of the labels of {self.name}, or "
                              "empty for macro F1.")
        if self.causal:
            template, words = self.causal
            texts, _, last = template.partition("<prompt>")
            fields = sorted(f"{{{field}}}" for field in self.fields)
            if (sorted(_slots(texts)) != fields or _slots(last, "<prompt>") != ["<mask>"]
                    or not last.endswith("<mask>") or len(words) != len(self.labels)):
                raise ConfigError(f"Task.causal = {shown(self.causal)}: must be a template with the fields of "
                                  f"{self.name}, then <prompt>, and <mask> at its end, and one word per label.")

    @property
    def data_folder(self) -> str:
        """The name of its subfolder in a data folder."""
        return self.folder or self.name

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of an example's texts in templates and files: ('sentence1', 'sentence2') or ('text',)."""
        return TEXT if "{text}" in self.template else PAIR

    @property
    def completion(self) -> tuple[str, tuple[str, ...]]:
        """``causal``, or the derived (template with <prompt> and a final <mask>, label words).

        A template without words becomes one line per text followed by 'Answer:'. Any other template must end with
        <mask>; it keeps its words, and <prompt> follows its last text.

        Raises:
          UserError: the template does not end with <mask>.

        >>> phrases = (("", ""), ("", ""))
        >>> Task("reviews", ("bad", "good"), "{text} It was <mask>", ("bad", "good"), phrases, (1.0, 1.0)).completion
        ('{text}<prompt> It was<mask>', ('bad', 'good'))
        """
        if self.causal:
            return self.causal
        placeholders = [f"{{{field}}}" for field in self.fields]
        if not re.sub(r"\{\w*\}|<mask>", "", self.template).strip():
            return "\n".join([*placeholders, "<prompt>Answer:<mask>"]), self.label_words
        front, mask, behind = self.template.partition("<mask>")
        if not mask or behind.strip():
            raise UserError(f"Task {self.name}: the template {shown(self.template)} does not end with <mask>, and a "
                            "causal model reads the answer at the end; move <mask> there (own.template), or give "
                            "Task.causal.")
        end = max(front.index(placeholder) + len(placeholder) for placeholder in placeholders)
        return f"{front[:end]}<prompt>{front[end:].rstrip()}<mask>", self.label_words

    @property
    def bare(self) -> str:
        """The template for a model with a classification head: only the texts."""
        return " ".join(f"{{{field}}}" for field in self.fields)


def _slots(template: str, *marks: str) -> list[str]:
    """Placeholders and marks of a template, in order."""
    return re.findall("|".join([r"\{\w*\}", "<mask>", *marks]), template)
