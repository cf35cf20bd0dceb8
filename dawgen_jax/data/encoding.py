"""Encoding of examples as rectangular arrays of token ids; the backbone's ``Format`` writes the rows.

Rows are padded on the right with 0, which masks hide.

For in-context learning, labelled examples in the template, with the label word as the answer, precede every query.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dawgen_jax.backbones.base import Format
from dawgen_jax.config import GeneratorConfig
from dawgen_jax.data.batches import ClassifierBatch, GeneratorBatch, SourceBatch
from dawgen_jax.data.pools import Example, texts_of
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import Task

__all__ = ["classifier_arrays", "demonstration_arrays", "generator_arrays", "rectangle",
           "source_arrays", "template_rows"]

_MULTIPLE = 8
"""The widths of a generator's arrays are multiples of this."""


def classifier_arrays(tokens: Format, task: Task, examples: Sequence[Example], max_tokens: int, pad_multiple: int, *,
                      bare: bool = False) -> ClassifierBatch:
    """Templated rows of all ``examples``.

    Args:
      tokens: the format of the classifier's backbone.
      task: its template and labels.
      examples: N examples.
      max_tokens: budget per row.
      pad_multiple: the width T is the smallest multiple of this that holds the longest row, at most ``max_tokens``.
      bare: texts without the template, for a model with a classification head.

    Returns:
      A batch [N, T] with weights of 1.

    Raises:
      UserError: the template alone exceeds the budget.
    """
    rows = template_rows(tokens, task, examples, max_tokens, bare=bare)
    padded, mask = rectangle(rows, pad_multiple, max_tokens)
    return ClassifierBatch(padded, mask, _positions(task, examples), np.ones(len(rows), np.float32))


def template_rows(tokens: Format, task: Task, examples: Sequence[Example], max_tokens: int, *, bare: bool = False
                  ) -> list[list[int]]:
    """Token ids of each example in the template, at most ``max_tokens`` per row.

    Raises:
      UserError: the template alone exceeds the budget.
    """
    return tokens.answer_rows(task, texts_of(task, examples), max_tokens, bare=bare).rows


def demonstration_arrays(tokens: Format, task: Task, shots: Sequence[Example], examples: Sequence[Example],
                         max_tokens: int, pad_multiple: int, seed: int, *, pair_tokens: int
                         ) -> tuple[ClassifierBatch, int]:
    """Rows of all ``examples`` after labelled demonstrations, for in-context learning.

    ``[demonstration 1 ; ... ; demonstration n ; query]``: a demonstration is a shot in the task's template with the
    label word instead of the mask. All queries have the same demonstrations: the first m shots per class after
    shuffling with ``seed``, in that order, where m is the largest number that fits in front of the longest query.
    Demonstrations are never cut.

    Args:
      tokens: the format of the classifier's backbone.
      task: its template and label words.
      shots: labelled examples of every class.
      examples: N queries.
      max_tokens: budget per row.
      pad_multiple: the width T is the smallest multiple of this that holds the longest row.
      seed: seed for shuffling.
      pair_tokens: budget of a single query or shot, as in :func:`template_rows`.

    Returns:
      (a batch [N, T] with weights of 1, number of demonstrations m L).

    Raises:
      UserError: one demonstration per class does not fit, or a class has no shot.
    """
    pair_tokens = min(pair_tokens, max_tokens)
    order = np.random.default_rng(seed).permutation(len(shots))
    shuffled = [shots[i] for i in order]
    labels = _positions(task, shuffled)
    filled = tokens.answer_rows(task, texts_of(task, shuffled), pair_tokens, answers=labels.tolist()).rows
    rank = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)], int)
    queries = template_rows(tokens, task, examples, pair_tokens)
    room = max_tokens - max(map(len, queries), default=1)
    fewest = int(np.bincount(labels, minlength=len(task.labels)).min())
    lengths = np.array([len(row) for row in filled], int)
    number = max((m for m in range(fewest + 1) if lengths[rank < m].sum() <= room), default=0)
    if number == 0:
        raise UserError(f"classifier.demonstration_tokens = {max_tokens}: one demonstration of each of the "
                        f"{len(task.labels)} classes of {task.name} (there are {fewest} of the rarest) does not fit in "
                        f"front of the longest query of {max_tokens - room} tokens; raise it, or lower "
                        "classifier.max_tokens.")
    front = [token for row, place in zip(filled, rank, strict=True) if place < number for token in row]
    start = list(tokens.start)
    padded, mask = rectangle([start + front + query[len(start):] for query in queries], pad_multiple)
    batch = ClassifierBatch(padded, mask, _positions(task, examples), np.ones(len(queries), np.float32))
    return batch, number * len(task.labels)


def generator_arrays(tokens: Format, task: Task, examples: Sequence[Example], infix_length: int,
                     config: GeneratorConfig) -> GeneratorBatch:
    """Rows of all ``examples`` for tuning the generator.

    Args:
      tokens: the format of the generator's backbone.
      task: its labels.
      examples: N examples.
      infix_length: I, number of infix positions after sentence 1.
      config: the budgets ``max_source_tokens`` (sentence 1) and ``max_target_tokens`` (sentence 2 and its end).

    Returns:
      A batch [N, T] and [N, U]; a truncated sentence 2 keeps its end of sequence.
    """
    source = source_arrays(tokens, [example.sentence1 for example in examples], infix_length, config)
    rows = tokens.target_rows([example.sentence2 for example in examples], config.max_target_tokens)
    target, target_mask = rectangle(rows, _MULTIPLE)
    return GeneratorBatch(*source[:3], target, target_mask, _positions(task, examples))


def source_arrays(tokens: Format, sentences: Sequence[str], infix_length: int, config: GeneratorConfig) -> SourceBatch:
    """Inputs of first sentences for synthesis, equal to the inputs of :func:`generator_arrays`.

    Args:
      tokens: the format of the generator's backbone.
      sentences: N first sentences.
      infix_length: I, number of infix positions after sentence 1.
      config: the budget ``max_source_tokens``.

    Returns:
      A batch [N, T]; ``cut`` marks sentences that exceeded the budget.
    """
    found = tokens.source_rows(sentences, infix_length, config.max_source_tokens)
    source, mask = rectangle(found.rows, _MULTIPLE)
    slots, _ = rectangle(found.slots, _MULTIPLE)
    return SourceBatch(source, mask, np.where(mask, slots, np.int32(-1)), np.array(found.cut, bool))


def rectangle(rows: Sequence[Sequence[int]], multiple: int, widest: int | None = None
              ) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ids padded with 0 on the right.

    Args:
      rows: N rows of ids.
      multiple: the width is the smallest positive multiple of this that holds the longest row.
      widest: the width at most; no row is longer.

    Returns:
      (int32 [N, width], bool [N, width], True at ids).
    """
    lengths = np.array([len(row) for row in rows], np.int32)
    width = -(-int(lengths.max(initial=1)) // multiple) * multiple
    width = min(width, widest or width)
    mask = np.arange(width)[None, :] < lengths[:, None]
    padded = np.zeros(mask.shape, np.int32)
    padded[mask] = np.fromiter((token for row in rows for token in row), np.int32, int(lengths.sum()))
    return padded, mask


def _positions(task: Task, examples: Sequence[Example]) -> np.ndarray:
    return np.array([task.labels.index(example.label) for example in examples], np.int32)
