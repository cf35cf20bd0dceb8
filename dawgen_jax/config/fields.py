"""Fields of nested configs by dotted name, and digests of values."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

__all__ = ["digest", "fields_of"]


def digest(*parts: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of the canonical JSON of ``parts``.

    Dataclasses count as dictionaries and tuples as lists; the order of keys does not matter.

    Raises:
      TypeError: a part is none of these and not a JSON value either.

    >>> digest({"a": 1, "b": (2,)}) == digest({"b": [2], "a": 1})
    True
    """
    # json calls `default` for what it does not know; `asdict` takes dataclasses and raises for everything else.
    text = json.dumps(parts, sort_keys=True, default=dataclasses.asdict, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def fields_of(config: Any, prefix: str = "") -> dict[str, Any]:
    """The values of a config's fields and of the fields of configs inside it, by dotted name.

    >>> from dawgen_jax.config import Config
    >>> list(fields_of(Config()))[:3], fields_of(Config())["classifier.lora.rank"]
    (['name', 'tasks', 'own.name'], 8)
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        nested = dataclasses.is_dataclass(value)
        found |= fields_of(value, f"{prefix}{field.name}.") if nested else {prefix + field.name: value}
    return found
