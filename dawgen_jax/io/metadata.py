"""meta.json of an artefact: the fields that later stages read; other fields are only for people and cards."""

from __future__ import annotations

import pathlib

from dawgen_jax.config.validation import Items, validated
from dawgen_jax.io.files import read_json

__all__ = ["Meta", "read_meta"]


@validated(extra="ignore")
class Meta:
    """Metadata of a generator or a synthetic set; empty fields are unknown."""

    task: str = ""
    """Name of the task."""
    labels: Items[str] = ()
    """Labels of a generator's prompts, in order."""
    languages: Items[str] = ()
    """Language codes of a set's texts."""
    generator_backbone: str = ""
    """Name of the model that writes, or wrote, the set."""
    generator_artefact: str = ""
    """Folder name of the generator that wrote the set."""
    selected_step: int | None = None
    """The update after which the label prompts were saved."""


def read_meta(folder: pathlib.Path) -> Meta:
    """The metadata in an artefact's folder; all fields are unknown if meta.json does not exist.

    Raises:
      UserError: meta.json cannot be read, or a field has the wrong type.
    """
    return read_json(folder / "meta.json", Meta, missing_ok=True, advice="fix or remove the file") or Meta()
