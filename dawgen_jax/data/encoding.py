"""Examples to rectangular arrays of token ids.

Classifier: template text with the mask as <extra_id_0>, then </s>. The template's own words are tokenised apart from
the sentences, as OpenPrompt does; where white space stands between them that is the whole text's tokenisation. A row
over the budget loses tokens of its sentences only: from the tail, the last placeholder of the template first.

In-context learning: labelled pairs in the template, the label word in place of the mask, in front of every query.

Generator: sentence 1, one place for each infix row, </s> for the encoder; sentence 2 and </s> for the decoder. For a
single text the encoder has no more than the infix and </s>.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dawgen_jax.backbones.tokenizer import batch_ids, sentinel_id, text_ids
from dawgen_jax.config import GeneratorConfig
from dawgen_jax.data.batches import ClassifierBatch, GeneratorBatch, SourceBatch
from dawgen_jax.data.pools import Example, texts_of
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["classifier_arrays", "demonstration_arrays", "demonstration_rows", "generator_arrays", "label_word_ids",
           "rectangle", "source_arrays", "template_rows"]


def classifier_arrays(
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    max_tokens: int,
    pad_multiple: int,
) -> ClassifierBatch:
    """Templated rows of all ``examples``.

    Args:
      tokenizer: of the classifier's backbone.
      task: its template and labels.
      examples: N pairs.
      max_tokens: budget of a row, mask and end of sequence included.
      pad_multiple: the width T is the smallest multiple of this that holds the longest row, at most ``max_tokens``.

    Returns:
      A batch [N, T] with weights of 1.

    Raises:
      UserError: the template alone is over the budget.
    """
    rows = template_rows(tokenizer, task, examples, max_tokens)
    longest = max(map(len, rows), default=1)
    tokens, mask = rectangle(rows, pad_multiple, min(-(-longest // pad_multiple) * pad_multiple, max_tokens))
    return ClassifierBatch(tokens, mask, _positions(task, examples), np.ones(len(rows), np.float32))


def template_rows(
    tokenizer: PreTrainedTokenizerBase, task: Task, examples: Sequence[Example], max_tokens: int
) -> list[list[int]]:
    """Token ids of each example in the template, at most ``max_tokens`` a row, end of sequence last.

    Raises:
      UserError: the template alone is over the budget.
    """
    masks = [sentinel_id(tokenizer)] * len(examples)
    return [[*row, tokenizer.eos_token_id] for row in _filled(tokenizer, task, examples, masks, max_tokens)]


def _filled(tokenizer, task: Task, examples: Sequence[Example], answers: Sequence[int], max_tokens: int
            ) -> list[list[int]]:
    """Rows without end of sequence, which ``max_tokens`` has room for, with an answer's id at each mask."""
    slots = [f"{{{field}}}" for field in task.fields]
    pieces = [piece for piece in re.split(f"({'|'.join(map(re.escape, slots))}|<mask>)", task.template)
              if piece.strip()]
    sentences = {slot: batch_ids(tokenizer, texts) for slot, texts in zip(slots, texts_of(task, examples), strict=True)}
    fixed = {piece: text_ids(tokenizer, piece) for piece in pieces if piece not in sentences}
    fixed |= {"<mask>": answers[:1]} if "<mask>" in fixed else {}
    room = max_tokens - 1 - sum(map(len, fixed.values()))
    if room < 0:
        raise UserError(f"classifier.max_tokens = {max_tokens}: the template of {task.name} alone has "
                        f"{max_tokens - room} tokens; raise it.")
    rows = []
    for place, answer in enumerate(answers):
        filled, left = fixed | {"<mask>": [answer]}, room
        for slot in pieces:
            if slot in sentences:
                filled[slot] = sentences[slot][place][:left]
                left -= len(filled[slot])
        rows.append([token for piece in pieces for token in filled[piece]])
    return rows


def demonstration_rows(
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    shots: Sequence[Example],
    examples: Sequence[Example],
    max_tokens: int,
    seed: int,
    *,
    pair_tokens: int | None = None,
) -> tuple[list[list[int]], int]:
    """Token ids of each example behind labelled demonstrations: in-context learning.

    ``[demonstration 1 ; ... ; demonstration n ; query ; </s>]``: a demonstration is a shot in the task's template with
    the label word in place of the mask, the query keeps its mask. The demonstrations are the same for every query: m
    of each class, the first ones of the shots as shuffled by ``seed``, in that order, where m is the largest number
    for which they fit in front of the longest query. They are never cut to fit.

    Args:
      tokenizer: of the classifier's backbone.
      task: its template and label words.
      shots: labelled pairs, of every class.
      examples: N queries.
      max_tokens: budget of a row, end of sequence included.
      seed: of the shuffle.
      pair_tokens: budget of one pair in the template, query or shot, as in :func:`template_rows`; None for no limit.

    Returns:
      (N rows, number of demonstrations m L).

    Raises:
      UserError: not even one demonstration of each class fits, or a class has no shot.
    """
    answers = label_word_ids(tokenizer, task).tolist()
    pair_tokens = max_tokens if pair_tokens is None else min(pair_tokens, max_tokens)
    order = np.random.default_rng(seed).permutation(len(shots))
    shuffled = [shots[i] for i in order]
    labels = _positions(task, shuffled)
    filled = _filled(tokenizer, task, shuffled, [answers[label] for label in labels], pair_tokens)
    rank = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)], int)
    queries = template_rows(tokenizer, task, examples, pair_tokens)
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
    return [front + query for query in queries], number * len(task.labels)


def demonstration_arrays(
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    shots: Sequence[Example],
    examples: Sequence[Example],
    max_tokens: int,
    pad_multiple: int,
    seed: int,
    *,
    pair_tokens: int | None = None,
) -> tuple[ClassifierBatch, int]:
    """The rows of :func:`demonstration_rows` as a batch [N, T] with weights of 1, and the number of demonstrations.

    T is the smallest multiple of ``pad_multiple`` that holds the longest row.

    Raises:
      UserError: as in :func:`demonstration_rows`.
    """
    rows, count = demonstration_rows(tokenizer, task, shots, examples, max_tokens, seed, pair_tokens=pair_tokens)
    tokens, mask = rectangle(rows, pad_multiple)
    return ClassifierBatch(tokens, mask, _positions(task, examples), np.ones(len(rows), np.float32)), count


def label_word_ids(tokenizer: PreTrainedTokenizerBase, task: Task) -> np.ndarray:
    """The id of each label word.

    Returns:
      int32 [L] in the order of ``task.labels``.

    Raises:
      UserError: a label word is not one known piece, or two labels share one.
    """
    rows = batch_ids(tokenizer, task.label_words)
    for label, word, row in zip(task.labels, task.label_words, rows, strict=True):
        if len(row) != 1 or row[0] == tokenizer.unk_token_id:
            pieces = " ".join(tokenizer.convert_ids_to_tokens(row)) or "nothing"
            raise UserError(f"Task {task.name}: the label word '{word}' of '{label}' is not one piece of the "
                            f"vocabulary of {tokenizer.name_or_path} but {pieces}: choose a word that is one.")
    ids = np.array([row[0] for row in rows], np.int32)
    if len(set(ids.tolist())) < len(ids):
        raise UserError(f"Task {task.name}: two labels share a label word ({', '.join(task.label_words)}); give each "
                        "its own.")
    return ids


def generator_arrays(
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    infix_length: int,
    config: GeneratorConfig,
    *,
    pad_multiple: int = 8,
) -> GeneratorBatch:
    """Rows of all ``examples`` for tuning the generator.

    Args:
      tokenizer: of the generator's backbone.
      task: its labels.
      examples: N pairs.
      infix_length: I, places for the infix after sentence 1.
      config: its budgets ``max_source_tokens`` (sentence 1) and ``max_target_tokens`` (sentence 2 and </s>).
      pad_multiple: widths T and U are the smallest multiples of this that hold the longest row.

    Returns:
      A batch [N, T] and [N, U]; end of sequence stays where sentence 2 is cut.
    """
    source = source_arrays(tokenizer, [example.sentence1 for example in examples], infix_length, config,
                           pad_multiple=pad_multiple)
    sentences = batch_ids(tokenizer, [example.sentence2 for example in examples])
    rows = [[*ids[: config.max_target_tokens - 1], tokenizer.eos_token_id] for ids in sentences]
    target, target_mask = rectangle(rows, pad_multiple)
    return GeneratorBatch(source.source, source.source_mask, source.slots, target, target_mask,
                          _positions(task, examples))


def source_arrays(
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    infix_length: int,
    config: GeneratorConfig,
    *,
    pad_multiple: int = 8,
) -> SourceBatch:
    """Encoder rows of first sentences for synthesis: the rows that :func:`generator_arrays` makes.

    Args:
      tokenizer: of the generator's backbone.
      sentences: N first sentences.
      infix_length: I, places for the infix after sentence 1.
      config: its budget ``max_source_tokens``.
      pad_multiple: the width T is the smallest multiple of this that holds the longest row.

    Returns:
      A batch [N, T]; ``cut`` marks the sentences that were over the budget.
    """
    found = batch_ids(tokenizer, sentences)
    kept = [ids[: config.max_source_tokens] for ids in found]
    rows = [ids + [tokenizer.pad_token_id] * infix_length + [tokenizer.eos_token_id] for ids in kept]
    source, mask = rectangle(rows, pad_multiple)
    lengths = np.array([len(ids) for ids in kept], np.int32)[:, None]
    offset = np.arange(source.shape[1], dtype=np.int32)[None, :] - lengths
    slots = np.where((offset >= 0) & (offset < infix_length), offset, np.int32(-1))
    cut = np.array([len(ids) > config.max_source_tokens for ids in found], bool)
    return SourceBatch(source, mask, slots, cut)


def rectangle(rows: Sequence[Sequence[int]], multiple: int, width: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ids padded with 0 on the right.

    Args:
      rows: N rows of ids.
      multiple: the width is the smallest positive multiple of this that holds the longest row.
      width: a fixed width instead.

    Returns:
      (int32 [N, width], bool [N, width] True at ids).

    Raises:
      ValueError: a row is longer than the fixed width.
    """
    lengths = np.array([len(row) for row in rows], np.int32)
    longest = int(lengths.max(initial=1))
    if width is None:
        width = -(-longest // multiple) * multiple
    if longest > width:
        raise ValueError(f"a row of {longest} tokens does not fit a width of {width}")
    mask = np.arange(width)[None, :] < lengths[:, None]
    padded = np.zeros(mask.shape, np.int32)
    padded[mask] = np.fromiter((token for row in rows for token in row), np.int32, int(lengths.sum()))
    return padded, mask


def _positions(task: Task, examples: Sequence[Example]) -> np.ndarray:
    position = {label: i for i, label in enumerate(task.labels)}
    return np.array([position[example.label] for example in examples], np.int32)
