"""What stages read: backbones, and everything of a task, read, hashed and encoded once and passed on."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from dawgen_jax import miniworld
from dawgen_jax.backbones.base import Backbone
from dawgen_jax.backbones.t5 import convert
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.backbones.tokenizer import load_tokenizer, sentinel_id
from dawgen_jax.config import BackboneConfig, ClassifierConfig, Config, DataConfig, UserError, digest
from dawgen_jax.data import corpora, fewshot, pools
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.data.encoding import classifier_arrays, label_word_ids
from dawgen_jax.data.fewshot import Split
from dawgen_jax.data.pools import Example, Pools
from dawgen_jax.tasks import SEVEN, Task
from dawgen_jax.training.placement import Placement

__all__ = ["Encoded", "TaskData", "backbone_folder", "find_task", "load_backbone", "load_pools", "read_task",
           "warn_of_unknown"]

log = logging.getLogger(__name__)


def backbone_folder(path: str) -> pathlib.Path:
    """The folder of a backbone: a directory, or the name of an embedded one."""
    folder = pathlib.Path(path)
    embedded = miniworld.BACKBONES / path
    if os.path.isdir(folder):  # which, unlike the path's own, takes a name that is too long for none
        return folder
    if os.path.isdir(embedded):
        return embedded
    names = ", ".join(sorted(entry.name for entry in miniworld.BACKBONES.iterdir() if entry.is_dir()))
    raise UserError(f"backbone.path = '{path}': no such directory, and the embedded backbones are: {names}.")


def load_backbone(config: BackboneConfig, placement: Placement) -> Backbone:
    """Load a backbone and its tokenizer and place it on the devices."""
    folder = backbone_folder(config.path)
    t5, theta = convert.load(folder, dtype=config.dtype, compute_dtype=config.dtype, scan_unroll=config.scan_unroll,
                             remat=config.remat, sharding=placement.whole)
    content = hashlib.sha256()
    tokenizer_files = [folder / name for name in convert.TOKENIZER_FILES if (folder / name).is_file()]
    for file in [*sorted(folder.glob("*.safetensors")), folder / "config.json", *tokenizer_files]:
        with file.open("rb") as stream:
            content.update(hashlib.file_digest(stream, "sha256").digest())
    tokenizer = load_tokenizer(folder, t5.vocab_size)
    return Backbone(T5(t5, sentinel_id(tokenizer)), theta, tokenizer, config.label,
                    digest(content.hexdigest(), config.dtype))


def find_task(name: str) -> Task:
    """The task of that name, one of the seven or of the mini world's.

    Raises:
      UserError: there is none.
    """
    known = SEVEN | miniworld.TASKS
    if name not in known:
        raise UserError(f"Config.tasks: '{name}' is no task; there are {', '.join(known)}.")
    return known[name]


def load_pools(name: str, root: str) -> Pools:
    """The train, validation and test examples of a task.

    Raises:
      UserError: data.root is needed or wrong.
    """
    if name in miniworld.TASKS and not root:
        return miniworld.pools(name)
    return pools.load_pools(find_task(name), root)


@dataclasses.dataclass(frozen=True)
class TaskData:
    """A task's data, read once.

    Attributes:
      task: what it is.
      pools: all examples.
      splits: the few-shot split of each seed.
      sentences: first sentences in the order in which they are used, the same for every label; empty where no
        generator runs.
      test: the examples that results are reported on.
      digests: of each split ('split', seed), the test examples ('test') and the sentences ('sentences').
    """

    task: Task
    pools: Pools
    splits: dict[int, Split]
    sentences: list[str]
    test: list[Example]
    digests: dict[object, str]

    @functools.cached_property
    def full(self) -> dict[int, Split]:
        """The whole training pool without the dev set, for each seed."""
        def whole(split: Split) -> Split:
            held_out = set(split.dev)
            return split._replace(train=[example for example in self.pools.train if example not in held_out])

        return {seed: whole(split) for seed, split in self.splits.items()}

    def split_digest(self, seed: int, *, full: bool) -> str:
        """The digest of a seed's few-shot split, or of the whole pool without its dev set; computed once."""
        name = ("full" if full else "split", seed)
        if name not in self.digests:
            self.digests[name] = digest(self.full[seed])
        return self.digests[name]


def read_task(name: str, config: Config, *, generates: bool) -> TaskData:
    """Read everything of a task.

    Args:
      name: of the task.
      config: ``data`` and ``seeds`` are read.
      generates: whether a generator will need first sentences.

    Raises:
      UserError: there is no such task, or an input is missing or broken.
    """
    task, data = find_task(name), config.data
    found = load_pools(name, data.root)
    splits = {seed: fewshot.draw_split(task, data, found.train, seed) for seed in config.seeds}
    test = found.scored(task)[:data.max_test or None]
    sentences = _first_sentences(task, data, found) if generates else []
    digests = {("split", seed): digest(split) for seed, split in splits.items()}
    return TaskData(task, found, splits, sentences, test,
                    digests | {"test": digest(test), "sentences": digest(sentences)})


def _first_sentences(task: Task, data: DataConfig, found: Pools) -> list[str]:
    if task.name in miniworld.TASKS and not data.root and not data.corpus:
        return corpora.arrange(miniworld.first_sentences(task.name), data.corpus_seed)
    return corpora.first_sentences(task, data, found)


def warn_of_unknown(task: Task, backbone: Backbone, tokens: np.ndarray, mask: np.ndarray) -> None:
    """Log how many tokens of a task's pairs are the unknown piece, where that is more than one in a hundred.

    Args:
      task: named in the warning.
      backbone: whose tokenizer made the tokens.
      tokens: int32 [N, T].
      mask: bool [N, T] True at real positions.
    """
    unknown, total = int((tokens == backbone.tokenizer.unk_token_id)[mask].sum()), int(mask.sum())
    if 100 * unknown > total:
        log.warning("%s: %d of the first %d tokens of its pairs are unknown to %s, which cannot tell them apart; take "
                    "a backbone whose vocabulary has them.", task.name, unknown, total, backbone.label)


class Encoded:
    """Token arrays of one task's examples for one backbone; each set is encoded once a template."""

    def __init__(self, task: Task, backbone: Backbone, config: ClassifierConfig):
        self.task, self.backbone, self._config = task, backbone, config
        self.label_ids = tuple(label_word_ids(backbone.tokenizer, task).tolist())
        self._arrays: dict[tuple, ClassifierBatch] = {}

    def arrays(self, examples: Sequence[Example], key: str, *, template: str = "") -> ClassifierBatch:
        """Arrays [N, ...] of examples.

        Args:
          examples: N pairs.
          key: digest that names them.
          template: in place of the task's own.
        """
        if (key, template) not in self._arrays:
            first = not self._arrays
            task = dataclasses.replace(self.task, template=template) if template else self.task
            self._arrays[key, template] = classifier_arrays(
                self.backbone.tokenizer, task, examples, max_tokens=self._config.max_tokens,
                pad_multiple=self._config.pad_multiple)
            if first:
                warn_of_unknown(self.task, self.backbone, *self._arrays[key, template][:2])
        return self._arrays[key, template]
