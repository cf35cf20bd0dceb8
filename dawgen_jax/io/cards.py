"""Model and dataset cards (README.md for the Hugging Face hub), with escaping of names and data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from dawgen_jax.io.terminal import printable

__all__ = ["escaped", "facts_block", "front_matter", "table"]

_ACTIVE = re.compile(r"[\\`*_~\[\]|#!$:]")
"""Characters that may be Markdown markup within a line; '<', '>' and '&' become entities."""
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def front_matter(values: Mapping[str, Any]) -> str:
    """The YAML header of a card: ``values`` in order, between two lines of dashes."""
    return "---\n" + yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=120) + "---\n"


def escaped(text: object) -> str:
    r"""Text that Markdown shows literally, on a single line.

    >>> print(escaped("a|b *c* <img src=x>\n# d"))
    a\|b \*c\* &lt;img src=x&gt;\\n\# d
    """
    shown = _ACTIVE.sub(r"\\\g<0>", printable(text))
    return re.sub("[&<>]", lambda match: _ENTITIES[match[0]], shown)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; cells are escaped.

    >>> print(table(("label", "kept"), [("a|b", 3)]), end="")
    | label | kept |
    |---|---|
    | a\\|b | 3 |
    """
    lines = [header, *([escaped(cell) for cell in row] for row in rows)]
    text = [f"| {' | '.join(line)} |\n" for line in lines]
    return "".join([text[0], "|---" * len(header) + "|\n", *text[1:]])


def facts_block(facts: Mapping[str, Any]) -> str:
    """Facts as a block of JSON, without the seconds that they took, so that the same artefact has the same card.

    A JSON string is on one line, so it cannot end the block.
    """
    facts = {name: value for name, value in facts.items() if name != "seconds"}
    return f"```json\n{json.dumps(facts, indent=1, default=str)}\n```\n"
