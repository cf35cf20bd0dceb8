"""Frozen dataclasses from JSON: every value is checked against its field's type, and nothing else is let in."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from dawgen_jax.config import shown
from dawgen_jax.io.strict_json import is_number

__all__ = ["typed"]


def typed(kind: Any, value: Any, place: str = "") -> Any:
    """The value of type ``kind`` that a JSON value stands for.

    Args:
      kind: a dataclass, whose fields may be dataclasses again, or one of str, int, float, bool, ``tuple[...]``,
        ``Literal[...]`` and unions of these.
      value: of ``json.loads``; lists stand for tuples, whole numbers for floats too.
      place: names the value in errors.

    Raises:
      ValueError: it does not fit, or a field is missing or unknown.

    >>> typed(tuple[int, ...], [1, 2])
    (1, 2)
    >>> typed(float, "1", "rate")
    Traceback (most recent call last):
    ValueError: rate is '1', not float
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        return _dataclass(kind, value, place)
    if origin is typing.Literal and value in arguments and type(value) in map(type, arguments):
        return value
    if origin in (typing.Union, types.UnionType):
        for one in arguments:
            try:
                return typed(one, value, place)
            except ValueError:
                continue
    elif origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1:] == (...,) else arguments
        if len(kinds) == len(value):
            return tuple(typed(one, part, f"{place}[{i}]") for i, (one, part) in enumerate(zip(kinds, value,
                                                                                               strict=True)))
    elif kind is float and is_number(value):
        return float(value)
    elif type(value) is kind:
        return value
    wanted = kind.__name__ if isinstance(kind, type) else kind
    raise ValueError(f"{place or 'the value'} is {shown(value)}, not {wanted}")


def _dataclass(kind: type, value: dict, place: str) -> Any:
    kinds, front = typing.get_type_hints(kind), f"{place}." if place else ""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    required = {name for name, field in fields.items()
                if field.default is field.default_factory is dataclasses.MISSING}
    for name in sorted((value.keys() - fields.keys()) | (required - value.keys())):
        told = front + name if len(name) < 80 else shown(name)
        raise ValueError(f"{told} is {'unknown' if name in value else 'missing'}")
    return kind(**{name: typed(kinds[name], part, front + name) for name, part in value.items()})
