"""The two errors that the project raises for mistakes in what it was given; it imports nothing."""

from __future__ import annotations

__all__ = ["ConfigError", "UserError"]


class UserError(Exception):
    """A mistake in what the user gave.

    The message is one sentence that names the file, line or field, says what is wrong and offers one next step. The
    commands print it without a traceback and exit with status 2.
    """


class ConfigError(UserError, ValueError):
    """A field of a configuration, or an argument, is out of range; the message names it."""
