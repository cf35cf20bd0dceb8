"""Names of arms that differ in their settings alone, and which arms a comparison may set against each other."""

from __future__ import annotations

from collections.abc import Iterable

from dawgen_jax.results.published import show_settings
from dawgen_jax.results.rows import Row, SyntheticRow

__all__ = ["arm_names", "disagreements"]


def arm_names(rows: Iterable[Row | SyntheticRow]) -> dict[tuple, str]:
    """The name of every arm: ``Row.arm``, and the fields in which arms of the same name differ.

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
    # A backbone's digest covers its dtype, which says more.
    differing -= {field.replace(".dtype", ".digest") for field in differing if field.endswith("backbone.dtype")}
    names = {}
    for key, row in arms.items():
        marks = show_settings({field: row.settings.get(field, "unset") for field in differing})
        if not row.settings and known:
            marks = "settings unknown"
        names[key] = row.arm + (f" [{marks}]" if marks else "")
    return names


def disagreements(a: Row | SyntheticRow, b: Row | SyntheticRow) -> list[str]:
    """The fields that both rows' methods read with different values; 'settings' where one's alone are unknown."""
    if bool(a.settings) != bool(b.settings):
        return ["settings"]
    return sorted(field for field in a.settings.keys() & b.settings.keys() if a.settings[field] != b.settings[field])
