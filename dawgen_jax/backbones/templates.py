"""Templates in tokens: texts with placeholders become rows of ids within a budget, for every family.

The template's words are always kept. The texts of an example lose their ends, the last placeholder of the template
first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from dawgen_jax.errors import UserError

__all__ = ["MASK", "PROMPT", "Part", "fill", "spaced", "split"]

MASK, PROMPT = "<mask>", "<prompt>"
"""Marks for the position of the answer and of the soft prompt."""


class Part(NamedTuple):
    """A part of a template in tokens.

    Attributes:
      rows: its ids in each of N rows.
      cut: True for a text of the example, which may lose its end.
    """

    rows: Sequence[Sequence[int]]
    cut: bool = False


def split(template: str, *marks: str) -> list[str]:
    """Split a template into its placeholders '{field}', marks, and the text between them.

    >>> split("{sentence1} means {sentence2}? <mask>", MASK)
    ['{sentence1}', ' means ', '{sentence2}', '? ', '<mask>']
    """
    return [part for part in re.split(f"({'|'.join([r'{[a-z0-9]+}', *map(re.escape, marks)])})", template) if part]


def spaced(parts: Sequence[str]) -> list[tuple[str, str]]:
    """Parts as (preceding white space, rest): byte-level vocabularies join a space with the following word.

    White space at the end of the template is dropped.

    >>> spaced(["{sentence1}", " means ", "{sentence2}", "? ", "<mask>"])
    [('', '{sentence1}'), (' ', 'means'), (' ', '{sentence2}'), ('', '?'), (' ', '<mask>')]
    """
    found, lead = [], ""
    for part in parts:
        lead += part[:len(part) - len(part.lstrip())]
        if text := part.strip():
            found.append((lead, text))
            lead = part[len(part.rstrip()):]
    return found


def fill(parts: Sequence[Part], max_tokens: int, task: str, *, reserved: int = 0) -> list[list[int]]:
    """Concatenate a template's parts into rows, and cut the texts to fit.

    Args:
      parts: at least one, with the same N rows.
      max_tokens: budget per row.
      task: name for messages.
      reserved: tokens of the budget that the caller adds.

    Returns:
      N rows of at most ``max_tokens - reserved`` ids.

    Raises:
      UserError: the template alone exceeds the budget.
    """
    rows = []
    for row in zip(*(part.rows for part in parts), strict=True):
        fixed = reserved + sum(len(ids) for part, ids in zip(parts, row, strict=True) if not part.cut)
        if fixed > max_tokens:
            raise UserError(f"classifier.max_tokens = {max_tokens}: the template of {task} alone has {fixed} tokens; "
                            "raise it.")
        left, filled = max_tokens - fixed, []
        for part, ids in zip(parts, row, strict=True):
            kept = ids[:left] if part.cut else ids
            left -= len(kept) if part.cut else 0
            filled += kept
        rows.append(filled)
    return rows
