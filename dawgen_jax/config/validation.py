"""Frozen dataclasses whose fields pydantic checks, with errors of one line.

A constraint is written once, in the field's type. Construction, ``dataclasses.replace`` and
:func:`~dawgen_jax.io.strict_json.parse_json` raise :class:`~dawgen_jax.errors.ConfigError`, which names the class, the
field, its value and what it must be. Lists are converted to tuples, so that configs are hashable; strings are never
converted to numbers.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import pydantic.dataclasses
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError

from dawgen_jax.errors import ConfigError

__all__ = ["DISTINCT", "AsTuple", "Count", "Items", "Line", "Printable", "Seed", "Share", "is_printable", "must",
           "refusal", "shown", "validated"]

T = TypeVar("T")


def shown(value: Any) -> str:
    """The ``repr`` of a value for an error message, shortened to about 80 characters.

    >>> shown("b" * 100)
    "'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb... (102 characters)"
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python prints no integer of more than 4,300 digits
        return f"a value of type {type(value).__name__} that is too large to print"
    return text if len(text) <= 80 else f"{text[:56]}... ({len(text)} characters)"


def must(expectation: str, holds: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """A check for ``AfterValidator``: the value must ``expectation``, that is ``holds(value)`` must be true."""
    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError(f"must {expectation}")
        return value

    return check


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value


AsTuple = BeforeValidator(_as_tuple)
Items = Annotated[tuple[T, ...], AsTuple]
"""A tuple of any length, also given as a list in Python and JSON."""
DISTINCT = AfterValidator(must("have no repeats", lambda items: len(set(items)) == len(items)))


def is_printable(text: str) -> bool:
    """Whether a text has no control characters and no lone surrogates.

    The joiners U+200C and U+200D, which Persian words and many emoji need, are allowed.
    """
    return text.replace("\u200c", "").replace("\u200d", "").isprintable()


_PRINTABLE = AfterValidator(must("be printable", is_printable))
Printable = Annotated[str, _PRINTABLE]
Line = Annotated[str, Field(max_length=100), _PRINTABLE]
"""A name in tables and file names."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""NumPy takes seeds below 2**32, and JAX's 32-bit integers end at 2**31."""
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
"""A number in a file, which other programs read as a 64-bit integer."""


@typing.dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, Field))
def validated(cls: Any = None, *, extra: Literal["forbid", "ignore"] = "forbid") -> Any:
    """Make a class a frozen dataclass that checks its fields.

    Args:
      cls: the class, if used without parentheses.
      extra: unknown fields are errors, or (for files with fields that only people read) ignored.

    >>> @validated
    ... class Example:
    ...     rank: pydantic.PositiveInt = 8
    >>> Example(rank=0)
    Traceback (most recent call last):
    dawgen_jax.errors.ConfigError: Example.rank = 0: must be greater than 0.
    """
    if cls is None:
        return functools.partial(validated, extra=extra)
    settings = ConfigDict(strict=True, extra=extra, allow_inf_nan=False)
    made = pydantic.dataclasses.dataclass(frozen=True, config=settings)(cls)
    construct = made.__init__

    @functools.wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            construct(self, *args, **kwargs)
        except ValidationError as error:
            raise refusal(error, made) from None

    setattr(made, "__init__", __init__)  # noqa: B010 (a type checker refuses the plain assignment)
    return made


_PLAINER = ((r"^\w+ (should|must) ", "must "), (" after validation", ""), (r"\ba valid (?=[aeiou])", "an "),
            (r"\ba valid ", "a "), (r"greater than or equal to (\S+)", r"\1 or more"),
            ("less than or equal to", "at most"))
"""Patterns in pydantic's wording, and plainer words for them."""


def refusal(error: ValidationError, kind: Any) -> ConfigError:
    """The first fault that pydantic found in a value of type ``kind``, as a sentence."""
    first = error.errors(include_url=False)[0]
    cause, place = first.get("ctx", {}).get("error"), first["loc"]
    names = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    if names and place and isinstance(place[0], int) and place[0] < len(names):  # of a positional argument
        place = (names[place[0]], *place[1:])
    where = kind.__name__ if isinstance(kind, type) else ""
    for part in place:
        plain = isinstance(part, str) and part.isidentifier() and len(part) <= 80
        where += f".{part}" if plain else f"[{shown(part)}]"
    where = where.removeprefix(".") or "the value"
    if isinstance(cause, ConfigError):  # raised by __post_init__, which checks fields against each other
        return ConfigError(f"{where}: {cause}") if place else cause
    if first["type"] == "unexpected_keyword_argument":
        near = difflib.get_close_matches(str(place[0]), names, 1, 0) if len(place) == 1 else []
        return ConfigError(f"{where}: unknown field{f'; the nearest is {near[0]!r}' if near else ''}.")
    if first["type"].startswith("missing"):
        return ConfigError(f"{where}: is missing.")
    want = str(cause) if isinstance(cause, ValueError) else first["msg"]
    for pattern, plainer in _PLAINER:
        want = re.sub(pattern, plainer, want)
    return ConfigError(f"{where} = {shown(first['input'])}: {want}.")

