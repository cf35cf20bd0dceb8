"""The paper's seven tasks.

The templates and label words of QQP, MRPC, MNLI, SNLI and SICK come from OPTIMA's prompt-tuning code (by the paper's
first author); those of QNLI and RTE are unpublished: ``Departure:`` ours. Generator phrases, repetition penalties and
lengths of first sentences come from FewGen (released code and data), which lacks SNLI and SICK: ``Departure:`` MNLI's
are used. QQP's two phrases look swapped in that code: ``Departure:`` they are unswapped here, and are only an
initialisation. Source tasks are OPTIMA's pairs; of its two source tasks for SICK, SNLI gave the published number.
Templates for causal models, which the paper does not have, are ours.
"""

from __future__ import annotations

import functools

from dawgen_jax.tasks.schema import Task

__all__ = ["SEVEN"]

_TWO_WAY = ("entailment", "not_entailment")
_INFERENCE_TEMPLATE = "hypothesis: {sentence2} premise: {sentence1} answer: <mask>"
_PARAPHRASE_TEMPLATE = "{sentence1} and {sentence2} are equivalent? <mask>"


def _phrases(noun: str, *relations: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{noun} 1 {relation} {noun} 2. {noun} 1:", f"{noun} 2:") for relation in relations)


_PARAPHRASE_RELATIONS = ("is different from", "is equivalent to")
_CAUSAL_INFERENCE = "Premise: {sentence1}\nHypothesis: {sentence2}\n<prompt>Answer:<mask>"
_inference = functools.partial(
    Task, labels=("entailment", "neutral", "contradiction"), template=_INFERENCE_TEMPLATE,
    label_words=("yes", "neutral", "no"), phrases=_phrases("Sentence", "implies", "supplements", "contradicts"),
    repetition_penalty=(1.1, 1.5, 1.1), corpus=("MNLI",), causal=(_CAUSAL_INFERENCE, ("Yes", "Maybe", "No")))

SEVEN: dict[str, Task] = {
    task.name: task
    for task in (
        Task("QQP", ("not_duplicate", "duplicate"), _PARAPHRASE_TEMPLATE, ("no", "yes"),
             _phrases("Question", *_PARAPHRASE_RELATIONS), (1.5, 1.0), ("QQP", "QNLI"),
             positive="duplicate", paper_n_test=40430, source="MRPC", causal=(
                 "Question 1: {sentence1}\nQuestion 2: {sentence2}\n<prompt>Same question:<mask>", ("No", "Yes"))),
        Task("MRPC", ("not_equivalent", "equivalent"), _PARAPHRASE_TEMPLATE, ("no", "yes"),
             _phrases("Sentence", *_PARAPHRASE_RELATIONS), (1.5, 1.0), ("MRPC", "RTE"), source_words=(20, 70),
             positive="equivalent", test_split="test", paper_n_test=1725, source="QQP", causal=(
                 "Sentence 1: {sentence1}\nSentence 2: {sentence2}\n<prompt>Same meaning:<mask>", ("No", "Yes"))),
        _inference("MNLI", source_words=(5, 30), paper_n_test=9815, source="SNLI"),
        _inference("SNLI", source_words=(5, 30), paper_n_test=9842, source="MNLI"),
        Task("QNLI", _TWO_WAY, "question: {sentence1} sentence: {sentence2} answer: <mask>", ("yes", "no"),
             tuple((f"Paragraph is {relation} to Question. Question:", "Paragraph:")
                   for relation in ("relevant", "irrelevant")),
             (1.0, 1.5), ("QNLI", "QQP"), reject=("?",), paper_n_test=5463, causal=(
                 "Question: {sentence1}\nSentence: {sentence2}\n<prompt>Answered:<mask>", ("Yes", "No"))),
        Task("RTE", _TWO_WAY, _INFERENCE_TEMPLATE, ("yes", "no"),
             _phrases("Sentence", "implies", "supplements"), (1.0, 1.5), ("RTE", "MRPC"), source_words=(20, 70),
             paper_n_test=277, causal=(_CAUSAL_INFERENCE, ("Yes", "No"))),
        _inference("SICK", source_words=(5, 15), test_split="test", paper_n_test=4906, draw="classes", source="SNLI"),
    )
}
"""The paper's seven tasks by name."""
