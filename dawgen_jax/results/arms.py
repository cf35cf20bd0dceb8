"""Arms of results: names, groups, numbers of updates and explanations, and which arms may be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from dawgen_jax.generator.variants import ABOUT
from dawgen_jax.methods.arms import RELEASED
from dawgen_jax.methods.base import UNSTATED
from dawgen_jax.methods.rows import METHODS, SET_VARIANTS
from dawgen_jax.results.published import show_settings
from dawgen_jax.results.rows import Row, SyntheticRow

__all__ = ["arm_names", "disagreements", "explanations", "grouped", "updates"]

Item = TypeVar("Item")


def grouped(items: Iterable[Item], key: Callable[[Item], Any]) -> list[tuple[Any, list[Item]]]:
    """Items grouped by key; groups are in the order of their first items."""
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def arm_names(rows: Iterable[Row | SyntheticRow]) -> dict[tuple, str]:
    """The name of every arm: ``Row.arm``, followed by the fields in which arms of the same name differ.

    Args:
      rows: of any runs.

    Returns:
      ``Row.arm_key`` -> for instance 'Prompt Tuning [classifier.learning_rate=0.2]'.
    """
    groups: dict[tuple, dict[tuple, Row | SyntheticRow]] = {}
    for row in rows:
        groups.setdefault((row.backbone, row.arm), {})[row.arm_key] = row
    return {key: name for arms in groups.values() for key, name in _marked(arms).items()}


def _marked(arms: dict[tuple, Row | SyntheticRow]) -> dict[tuple, str]:
    known = [row.settings for row in arms.values() if row.settings]
    fields = sorted(set().union(*known))
    differing = {field for field in fields
                 if any(field not in one or one[field] != known[0].get(field) for one in known)}
    # A backbone's digest depends on its dtype, so the dtype is shown instead.
    differing -= {field.replace(".dtype", ".digest") for field in differing if field.endswith("backbone.dtype")}
    names = {}
    for key, row in arms.items():
        marks = show_settings({field: row.settings.get(field, "unset") for field in differing})
        if not row.settings and known:
            marks = "settings unknown"
        names[key] = row.arm + (f" [{marks}]" if marks else "")
    return names


def disagreements(a: Row | SyntheticRow, b: Row | SyntheticRow) -> list[str]:
    """The fields with different values that both rows' methods read; 'settings' if only one row's are known."""
    if bool(a.settings) != bool(b.settings):
        return ["settings"]
    first, second = (UNSTATED | row.settings if "classifier.prompt_length" in row.settings else row.settings
                     for row in (a, b))
    return sorted(field for field in first.keys() & second.keys() if first[field] != second[field])


def updates(row: Row) -> int | None:
    """The number of updates of a row's arm; None if it trains nothing or its settings are unknown."""
    steps = [value for field, value in row.settings.items()
             if field.startswith("classifier.") and field.endswith("steps")]
    return steps[0] if len(steps) == 1 else None


def explanations(rows: Iterable[Row]) -> dict[str, str]:
    """Explanations of the methods, generators and variants in the names of these rows' arms, by name."""
    found, generators = {}, ABOUT | {RELEASED: "the sets that the authors of FewGen published"}
    for row in sorted(rows, key=lambda row: row.order):
        marks = row.variant.split("+")
        names = [row.method, *(f"{row.method} #{mark}" for mark in marks)]
        names += [f"{row.method} @full"] if row.k_shot == "full" else []
        found |= {name: METHODS[name].about for name in names if name in METHODS}
        found |= {row.generator: generators[row.generator]} if row.generator in generators else {}
        found |= {f"#{mark}": SET_VARIANTS[mark] for mark in marks if mark in SET_VARIANTS}
    return found
