"""JSON with a unique meaning: text that programs could read differently raises an error; values are type checked."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dawgen_jax.config.validation import refusal, shown

__all__ = ["is_number", "json_text", "parse_json"]

_LARGEST = 10**300


def is_number(value: Any) -> bool:
    """Whether a value is a finite number in the range of a float; true and false are not numbers.

    >>> is_number(2), is_number(0.5), is_number(True), is_number(float("nan")), is_number(10**400), is_number("2")
    (True, True, False, False, False, False)
    """
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def json_text(value: Any, indent: int | None = None) -> str:
    """The JSON of a value; non-finite numbers, such as an undefined measure, become null.

    >>> json_text({"a": [1, float("nan")]})
    '{"a": [1, null]}'
    """
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [plain(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def parse_json(text: str, kind: Any = Any) -> Any:
    """The value of a JSON text.

    Args:
      text: the JSON.
      kind: type of the value, for instance a validated dataclass or ``dict[str, int]``. Lists become tuples if the type
        says so; strings are never converted to numbers.

    Raises:
      ConfigError: a value does not fit its type.
      ValueError: the text is not JSON, an object has a name twice, a number is not finite, an integer has more than
        4,300 digits, a string has half of a surrogate pair, or values are nested more than 200 deep.

    >>> parse_json('{"a": [1, 2]}', dict[str, tuple[int, ...]])
    {'a': (1, 2)}
    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: the name 'a' is used twice in one object
    """
    try:
        value = _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise ValueError(first["ctx"]["error"]) from None
        raise refusal(error, kind) from None
    # pydantic accepts repeated names and non-finite numbers.
    json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_float=_float)
    return value


_adapter = functools.cache(TypeAdapter)


def _object(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the name {shown(twice)} is used twice in one object")


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number; write a finite number, or null")


def _float(text: str) -> None:
    if not math.isfinite(float(text)):
        _refuse(shown(text))
