"""What a terminal is shown: text from data and paths, whose control characters become their escapes, and progress."""

from __future__ import annotations

import logging
import re

from rich.text import Text
from tqdm import tqdm

__all__ = ["plain", "printable", "progress"]

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 (ESC, carriage return, ...), other line breaks, reversals of direction, and surrogates, which cannot be
printed at all."""


def printable(text: object, *, lines: bool = False) -> str:
    r"""Text with every control character shown as its escape, so that it cannot steer a terminal or forge a line.

    Args:
      text: of any kind; taken as a string.
      lines: keep line breaks and tabs.

    >>> print(printable("a\x1b[31mred\x1b[0m\n"))
    a\x1b[31mred\x1b[0m\n
    """
    def shown(match: re.Match) -> str:
        return match[0] if lines and match[0] in "\n\t" else match[0].encode("unicode_escape").decode()

    return _CONTROL.sub(shown, str(text))


def plain(text: object, style: str = "") -> Text:
    """The same for Rich, which takes nothing in it for markup or an emoji code; line breaks are kept."""
    return Text(printable(text, lines=True), style=style)


def progress(total: int, title: str, *, done: int = 0, unit: str = "it") -> tqdm:
    """A bar on standard error that goes as it ends, where this project's logger shows what it says at level INFO.

    The programs set that level (``--quiet`` does not); a library that is imported keeps silent.
    """
    shown = logging.getLogger("dawgen_jax").isEnabledFor(logging.INFO)
    return tqdm(total=total, initial=done, desc=printable(title), unit=unit, leave=False, disable=not shown)
