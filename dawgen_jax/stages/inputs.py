"""What stages read: backbones, tasks, few-shot splits and first sentences, each with a digest for the stages' keys."""

from __future__ import annotations

import functools
import hashlib
import pathlib
from typing import Any, NamedTuple

from jax.sharding import Mesh

from dawgen_jax import miniworld, sharding
from dawgen_jax.config import BackboneConfig, DataConfig, UserError, digest
from dawgen_jax.data import corpora, fewshot, pools
from dawgen_jax.data.fewshot import Split
from dawgen_jax.data.pools import Pools
from dawgen_jax.data.tokenizer import load_tokenizer
from dawgen_jax.t5 import convert
from dawgen_jax.t5.config import T5Config
from dawgen_jax.tasks import SEVEN, Task

__all__ = ["Backbone", "backbone_folder", "find_task", "first_sentences", "load_backbone", "load_pools", "load_split"]


class Backbone(NamedTuple):
    """A frozen T5, ready to be an argument of steps.

    Attributes:
      t5: its configuration.
      theta: its parameters, replicated over the mesh.
      tokenizer: its tokenizer.
      label: its name in result rows.
      digest: of its weights, configuration, tokenizer and compute dtype.
    """

    t5: T5Config
    theta: Any
    tokenizer: Any
    label: str
    digest: str


def backbone_folder(path: str) -> pathlib.Path:
    """The folder of a backbone: a directory, or the name of an embedded one."""
    folder = pathlib.Path(path)
    embedded = miniworld.BACKBONES / path
    if folder.is_dir():
        return folder
    if embedded.is_dir():
        return embedded
    names = ", ".join(sorted(entry.name for entry in miniworld.BACKBONES.iterdir() if entry.is_dir()))
    raise UserError(f"backbone.path = '{path}': no such directory, and the embedded backbones are: {names}.")


@functools.lru_cache(maxsize=4)
def load_backbone(config: BackboneConfig, mesh: Mesh) -> Backbone:
    """Load a backbone and its tokenizer and place it on the mesh; a second call returns the same."""
    folder = backbone_folder(config.path)
    t5, theta = convert.load(folder, dtype=config.dtype, compute_dtype=config.dtype, scan_unroll=config.scan_unroll,
                             remat=config.remat, sharding=sharding.replicated(mesh))
    content = hashlib.sha256()
    tokenizer_files = [folder / name for name in convert.TOKENIZER_FILES if (folder / name).is_file()]
    for file in [*sorted(folder.glob("*.safetensors")), folder / "config.json", *tokenizer_files]:
        with file.open("rb") as stream:
            content.update(hashlib.file_digest(stream, "sha256").digest())
    tokenizer = load_tokenizer(folder, t5.vocab_size)
    return Backbone(t5, theta, tokenizer, config.label, digest(content.hexdigest(), config.dtype))


def find_task(name: str) -> Task:
    """The task of that name, one of the seven or of the mini world's.

    Raises:
      UserError: there is none.
    """
    known = SEVEN | miniworld.TASKS
    if name not in known:
        raise UserError(f"Config.tasks: '{name}' is no task; there are {', '.join(known)}.")
    return known[name]


@functools.lru_cache(maxsize=8)
def load_pools(name: str, root: str) -> Pools:
    """The train, validation and test examples of a task.

    Raises:
      UserError: data.root is needed or wrong.
    """
    if name in miniworld.TASKS and not root:
        return miniworld.pools(name)
    return pools.load_pools(find_task(name), root)


def load_split(name: str, data: DataConfig, seed: int) -> Split:
    """The few-shot split of a task by seed: a ready one where data.kshot has it, else drawn from the pool."""
    return fewshot.draw_split(find_task(name), data, load_pools(name, data.root).train, seed)


def first_sentences(name: str, data: DataConfig) -> list[str]:
    """First sentences of a task in the order in which they are used, the same for every label."""
    if name in miniworld.TASKS and not data.root and not data.corpus:
        return corpora.arrange(miniworld.first_sentences(name), data.corpus_seed)
    return corpora.first_sentences(find_task(name), data, load_pools(name, data.root))
