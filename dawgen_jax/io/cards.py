"""Cards: the README.md of an artefact as the Hugging Face hub reads it, safe against any text in names and data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from dawgen_jax.io.terminal import printable

__all__ = ["escaped", "facts_block", "front_matter", "table"]

_ACTIVE = re.compile(r"[\\`*_~\[\]|#!$:]")
"""Characters that Markdown may take for markup within a line; '<', '>' and '&' become entities."""
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def front_matter(values: Mapping[str, Any]) -> str:
    """The YAML head of a card: ``values`` in their order between two lines of dashes."""
    return "---\n" + yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=120) + "---\n"


def escaped(text: object) -> str:
    r"""Text as Markdown shows it literally, on one line.

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
    """Facts as a block of JSON; a string of JSON is one line, so that none can end the block."""
    return f"```json\n{json.dumps(dict(facts), indent=1, default=str)}\n```\n"
