"""Backbones of the Hugging Face hub by id: 'hub:ORG/NAME' or 'hub:ORG/NAME@REVISION'.

Only config.json, safetensors and tokenizer files are downloaded, never a pickle or code. Files in the hub's local cache
need no network.
"""

from __future__ import annotations

import pathlib
import re
from typing import Any

from dawgen_jax.backbones.checkpoint import read_object
from dawgen_jax.backbones.tokens import TOKENIZER_FILES
from dawgen_jax.errors import UserError

__all__ = ["PREFIX", "snapshot"]

PREFIX = "hub:"
_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_PATTERNS = ["config.json", "*.safetensors", "model.safetensors.index.json", *TOKENIZER_FILES]


def snapshot(name: str) -> pathlib.Path:
    """The folder of a hub id, downloaded if it is not cached.

    Args:
      name: 'hub:ORG/NAME' or 'hub:ORG/NAME@REVISION'.

    Raises:
      UserError: the id is malformed or unknown, the network is down, or the repository has no safetensors.
    """
    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    if not _ID.fullmatch(repository):
        raise UserError(f"backbone.path = '{name}': must be hub:ORG/NAME or hub:ORG/NAME@REVISION.")
    import huggingface_hub

    options = {"repo_id": repository, "revision": revision or None, "allow_patterns": _PATTERNS}
    try:
        folder = _cached(huggingface_hub, options) or pathlib.Path(huggingface_hub.snapshot_download(**options))
    except Exception as error:  # the hub's library, its HTTP client and the system raise many types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"backbone.path = '{name}': cannot be downloaded ({reason}); check the id and the network, or "
                        "give a local folder.") from None
    if not _complete(folder):
        raise UserError(f"backbone.path = '{name}': the repository has no config.json or no complete safetensors "
                        "weights; choose another, or convert its weights to safetensors.")
    return folder


def _cached(library: Any, options: dict[str, Any]) -> pathlib.Path | None:
    """The folder in the hub's local cache, if it is complete."""
    try:
        folder = pathlib.Path(library.snapshot_download(**options, local_files_only=True))
    except library.errors.LocalEntryNotFoundError:
        return None
    return folder if _complete(folder) else None


def _complete(folder: pathlib.Path) -> bool:
    """Whether all weights of a snapshot exist: an interrupted download leaves only some of the files."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = read_object(index).get("weight_map")
        weights = set(named.values()) if isinstance(named, dict) else {""}
    else:
        weights = {"model.safetensors"}
    return (folder / "config.json").is_file() and all((folder / str(one)).is_file() for one in weights)
