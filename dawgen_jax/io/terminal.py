"""What a terminal is shown: text from data and paths, whose control characters become their escapes, and progress."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rich.text import Text
from tqdm import tqdm

__all__ = ["Pace", "Step", "number", "plain", "printable", "progress"]

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 (ESC, carriage return, ...), other line breaks, reversals of direction, and surrogates, which cannot be
printed at all."""
_EVERY = 10.0
"""Seconds between two lines of progress in a file or a pipe."""


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


def number(count: int, noun: str) -> str:
    """A count and its noun, as in '1 arm' and '2 arms'."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


class Step(NamedTuple):
    """A part of a run.

    Attributes:
      place: its position in the run, for instance 'stage 3/3, arm 2/6'.
      operations: its floating-point operations.
      units: what all of its progress bars count together: updates, or samples.
    """

    place: str
    operations: float
    units: float


class Pace:
    """The time left of a run: operations of its unfinished steps / operations per second of what was timed.

    Steps of one kind (the first word of their keys) share a rate. A kind that was not timed yet takes the highest rate
    of the others. The clock of a step starts when a twentieth of it is done, because programs are compiled before.
    """

    def __init__(self, steps: Mapping[tuple[str, ...], Step]):
        self._steps, self._done = dict(steps), dict.fromkeys(steps, 0.0)
        self._rates: dict[str, float] = {}
        self._key: tuple[str, ...] = ()
        self._before = 0.0  # units that an earlier process did
        self._start: tuple[float, float] | None = None  # (time, units done) when the clock of the step started

    @contextlib.contextmanager
    def step(self, *key: str) -> Iterator[None]:
        """Progress bars that are opened inside belong to this step; it is finished at the end."""
        self._key, self._start, self._before = key, None, 0.0
        token = _PACE.set(self)
        try:
            yield
        finally:
            _PACE.reset(token)
            self._key, self._done[key] = (), math.inf

    @property
    def place(self) -> str:
        """Where the current step is in the run; empty outside of the plan."""
        return self._steps[self._key].place if self._key in self._steps else ""

    def report(self, units: float, *, timed: bool = True) -> None:
        """Count units of the current step; those that an earlier process did are not timed."""
        if self._key not in self._steps:
            return
        self._done[self._key] += units
        now = time.monotonic(), self._done[self._key]
        step = self._steps[self._key]
        if not timed:
            self._before = now[1]
        elif self._start is None:
            self._start = now if now[1] - self._before >= step.units / 20 else None
        else:
            seconds, done = now[0] - self._start[0], now[1] - self._start[1]
            if seconds > 0 and done > 0 and step.operations > 0 and step.units > 0:
                self._rates[self._key[0]] = step.operations / step.units * done / seconds

    @property
    def left(self) -> str:
        """The time left for people; empty if nothing was timed yet or nothing is left."""
        if not self._rates:
            return ""
        highest = max(self._rates.values())  # decoding, which has the lowest, says little of training
        seconds = sum(step.operations * max(0.0, 1 - self._done[key] / max(step.units, 1))
                      / self._rates.get(key[0], highest) for key, step in self._steps.items())
        if seconds < 60:
            return "less than a minute left" if seconds else ""
        return f"about {number(round(seconds / 60), 'minute')} left"


_PACE: contextvars.ContextVar[Pace | None] = contextvars.ContextVar("pace", default=None)


class _Bar(tqdm):
    """A bar on a terminal that disappears at its end; a plain line every 10 seconds elsewhere."""

    _printed = -math.inf  # when the last line was, of whatever bar

    def __init__(self, *args: Any, **options: Any):
        self._pace = _PACE.get()
        super().__init__(*args, **options)
        if self._pace and not self.disable:
            self._pace.report(self.n, timed=False)

    def update(self, n: float | None = 1) -> bool | None:
        """Count ``n`` more units, in the plan of the run as well."""
        if self._pace and not self.disable:
            self._pace.report(n or 0)
        return super().update(n)

    @property
    def format_dict(self) -> Any:
        """The fields of the bar's format, and 'left', the time left of the run."""
        left = self._pace.left if self._pace else ""
        return dict(super().format_dict, left=f", {left}" if left else "")

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Draw the bar; in a file or a pipe print a line, if the last one is old enough."""
        if self.fp.isatty():
            return super().display(msg, pos)
        if msg is None and time.monotonic() - _Bar._printed >= _EVERY:
            _Bar._printed = time.monotonic()
            self.fp.write(f"{self}\n")
            self.fp.flush()
        return None


def progress(total: int, title: str, *, done: int = 0, unit: str = "updates") -> tqdm:
    """Progress on standard error, unless the level of this project's logger is above INFO.

    The programs set INFO or, with ``--quiet``, WARNING. A program that imports the package and sets no level sees
    progress.

    Args:
      total: units in all.
      title: what is done; inside of :meth:`Pace.step` it follows the step's place.
      done: units that an earlier process did.
      unit: noun of the units, plural.
    """
    hidden = logging.getLogger("dawgen_jax").level > logging.INFO  # NOTSET, in other people's programs, is 0
    place = pace.place if (pace := _PACE.get()) else ""
    bar = sys.stderr.isatty()
    return _Bar(total=total, initial=done, desc=printable(": ".join(filter(None, (place, title)))), unit=unit,
                leave=False, disable=hidden, file=sys.stderr, miniters=1,
                delay=0 if bar else 1e-9,  # the first line has a figure, or says what is waited for
                bar_format="{desc}: " + ("{percentage:3.0f}%|{bar}| " if bar else "")
                + "{n_fmt} of {total_fmt} {unit}{postfix}"
                + ("{left}" if pace else " [{elapsed}, {remaining} left]"))
