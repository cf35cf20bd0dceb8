"""The two errors that the project raises for mistakes in what it was given, and the gist of other errors.

It imports nothing.
"""

from __future__ import annotations

__all__ = ["ConfigError", "UserError", "first_line"]


class UserError(Exception):
    """A mistake in what the user gave.

    The message is one sentence that names the file, line or field, says what is wrong and offers one next step. The
    commands print it without a traceback and exit with status 2.
    """


class ConfigError(UserError, ValueError):
    """A field of a configuration, or an argument, is out of range; the message names it."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
