"""First sentences: unlabelled sentences that condition the generator.

They are distinct, with single spaces, and shuffled once with ``corpus_seed``. All labels use them in the same order, so
that labels share first sentences, as in FewGen. The list is never repeated.
"""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Iterator

import numpy as np

from dawgen_jax.config import DataConfig
from dawgen_jax.data.pools import Pools
from dawgen_jax.data.records import records
from dawgen_jax.errors import UserError
from dawgen_jax.io.lines import text_lines
from dawgen_jax.tasks import Task

__all__ = ["arrange", "first_sentences"]

log = logging.getLogger(__name__)


def first_sentences(task: Task, data: DataConfig, pools: Pools | None = None) -> list[str]:
    """Distinct first sentences for ``task``, in the order in which they are used.

    Args:
      task: its ``corpus`` names the released sets that fit it; its ``source_words`` bound the length.
      data: ``corpus`` is a text file (.txt, .txt.gz; one sentence per line), a folder of released sets
        (TASK/*/gen-train.jsonl[.gz]) or 'pool'; ``corpus_seed`` seeds the shuffle.
      pools: used for 'pool', with first sentences of any length: a variant that sees more than the k shots.

    Raises:
      UserError: the corpus does not exist, a line is broken, or no sentence has a suitable length.
    """
    if data.corpus == "pool":
        if pools is None:
            raise UserError("data.corpus = 'pool' needs the task's training pool; set data.root.")
        sentences, words = (example.sentence1 for example in pools.train), (0, 0)
    elif not data.corpus:
        raise UserError(f"data.corpus is empty, and {task.name} is not a task of the embedded mini world: set it to a "
                        "text file, to a folder of released sets, or to 'pool'.")
    else:
        path = pathlib.Path(data.corpus)
        words = task.source_words
        if path.is_dir():
            sentences = _released(path, task)
        elif path.name.endswith((".txt", ".txt.gz")):
            sentences = (text for _, text in text_lines(path))
        else:
            raise UserError(f"data.corpus = '{path}': neither a folder nor a text file (.txt, .txt.gz).")
    given = [sentence for sentence in sentences if sentence.strip()]
    arranged = arrange(given, data.corpus_seed, words)
    limits = f" of {words[0]} to {words[1] or 'any number of'} words" if any(words) else ""
    log.info("%s: %d distinct first sentences%s are used (of %d from %s).", task.name, len(arranged), limits,
             len(given), data.corpus)
    if not arranged:
        raise UserError(f"data.corpus = '{data.corpus}': no sentence{limits} for {task.name}; give another corpus.")
    return arranged


def arrange(sentences: Iterator[str] | list[str], seed: int, words: tuple[int, int] = (0, 0)) -> list[str]:
    """Distinct non-empty ``sentences`` of (fewest, most) ``words``, with single spaces, permuted with ``seed``.

    >>> sorted(arrange([" a  b", "a b", "", "a b c"], 0, (2, 0)))
    ['a b', 'a b c']
    """
    fewest, most = max(words[0], 1), words[1] or float("inf")
    kept = list(dict.fromkeys(" ".join(pieces) for sentence in sentences
                              if fewest <= len(pieces := sentence.split()) <= most))
    return [kept[i] for i in np.random.RandomState(seed).permutation(len(kept))]


def _released(folder: pathlib.Path, task: Task) -> Iterator[str]:
    names = task.corpus or (task.name,)
    paths = [path for name in names for path in sorted(folder.glob(f"{name}/*/gen-train.jsonl*"))]
    if not paths:
        raise UserError(f"data.corpus = '{folder}': no TASK/*/gen-train.jsonl[.gz] for TASK in {', '.join(names)}; "
                        "give another folder or a text file.")
    for path in paths:
        for location, row in records(path).rows:
            if not isinstance(row.get("sentence1"), str):
                raise UserError(f"{location}: no text in field 'sentence1'; fix the line.")
            yield row["sentence1"]
