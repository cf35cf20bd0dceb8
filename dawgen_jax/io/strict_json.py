"""JSON as files of this project and of its users must be: what two programs could read differently is refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from dawgen_jax.config import shown

__all__ = ["is_number", "json_text", "parse_json"]

_DEEPEST = 64
_LARGEST = 10**300
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def is_number(value: Any) -> bool:
    """Whether a value that was read is a finite number which a float can hold; true and false are none.

    >>> is_number(2), is_number(0.5), is_number(True), is_number(float("nan")), is_number(10**400), is_number("2")
    (True, True, False, False, False, False)
    """
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the name {shown(twice)} stands twice in one object")
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [part for one in level if isinstance(one, dict | list)
                    for part in (one.values() if isinstance(one, dict) else one)]:
        depth += 1
    return depth


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON; write a finite one, or null")


def _float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(shown(text))


def json_text(value: Any, indent: int | None = None) -> str:
    """The JSON of a value; a number that is not finite, such as a measure that is not defined, is null.

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


def parse_json(text: str) -> Any:
    r"""The value of a JSON text.

    Raises:
      ValueError: it is not JSON, a number is not finite (Python's reader takes NaN, Infinity and 1e999), an object has
        a name twice, a string holds half of a surrogate pair (which no UTF-8 file can hold), a number has thousands of
        digits, or values are nested more than 64 deep.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: the name 'a' stands twice in one object
    >>> parse_json('[NaN]')
    Traceback (most recent call last):
    ValueError: NaN is no number of JSON; write a finite one, or null
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_float=_float)
    except RecursionError:
        raise ValueError(f"values are nested more than {_DEEPEST} deep") from None
    except ValueError as error:
        if "int_max_str_digits" in str(error):
            raise ValueError("a number has thousands of digits") from None
        raise
    if text.count("[") + text.count("{") > _DEEPEST and _depth(value) > _DEEPEST:
        raise ValueError(f"values are nested more than {_DEEPEST} deep")
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a string holds half of a surrogate pair") from None
    return value
