"""What stages read: backbones, and each task's examples, which are read, hashed and encoded once."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import logging
import os
import pathlib
from collections.abc import Collection, Sequence

import numpy as np

from dawgen_jax import miniworld
from dawgen_jax.backbones import fetch, hub, registry
from dawgen_jax.backbones.base import Backbone, Family, Format
from dawgen_jax.config import BackboneConfig, ClassifierConfig, Config, DataConfig, SynthesisConfig, digest
from dawgen_jax.data import corpora, fewshot, pools
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.data.encoding import classifier_arrays, template_rows
from dawgen_jax.data.fewshot import Split
from dawgen_jax.data.own import read_own, read_own_task
from dawgen_jax.data.pools import Example, Layout, Pools, alike, overlap, texts_of
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.methods.contexts import Contexts
from dawgen_jax.tasks import SAMPLE_DATA, SAMPLES, SEVEN, Task
from dawgen_jax.training.placement import Placement

__all__ = ["KNOWN", "RELEASED_FILES", "SPLIT_FILES", "Encoded", "TaskData", "backbone_folder", "content_digest",
           "find_task", "is_own", "labelled_examples", "load_backbone", "load_pools", "no_sentences", "prompt_tail",
           "read_task", "resolved", "warn_of_unknown", "wording_key"]

log = logging.getLogger(__name__)
KNOWN = SEVEN | SAMPLES | miniworld.TASKS
"""All tasks but custom ones, by name."""
RELEASED_FILES, SPLIT_FILES = "*/*/gen-train.jsonl*", "*/*/*.jsonl"
"""Files of a folder of released synthetic sets, and of one of fixed few-shot splits."""
_UNCUT = 1 << 20
"""A budget that no text reaches."""


def backbone_folder(path: str) -> pathlib.Path:
    """The folder of a backbone: a directory, a .gguf file, hub:ORG/NAME, or the name of an embedded or fetched one.

    Raises:
      UserError: no such folder, or it cannot be downloaded or converted.
    """
    if path.startswith(hub.PREFIX):
        return hub.snapshot(path)
    folder = pathlib.Path(path)
    embedded = miniworld.BACKBONES / path
    if os.path.isdir(folder):  # which, unlike the path's own, takes a name that is too long for none
        return folder
    if os.path.isdir(embedded):
        return embedded
    if path.endswith(".gguf") and os.path.isfile(folder):
        return fetch.converted(folder)
    if downloaded := fetch.fetched(path):
        return downloaded
    names = ", ".join(sorted(entry.name for entry in miniworld.BACKBONES.iterdir() if entry.is_dir()))
    raise UserError(f"backbone.path = '{path}': no such folder; the embedded backbones are {names}, and "
                    f"`dawgen backbone fetch` knows {', '.join(fetch.WHEELS)}.")


def resolved(config: ClassifierConfig, family: Family | None = None) -> ClassifierConfig:
    """A classifier's configuration with its family's values in place of None.

    Args:
      config: of the classifier.
      family: of its backbone; None reads the backbone's config.json.

    Raises:
      UserError: the backbone does not exist, or its family cannot have the prompt where the configuration wants it.
    """
    family = family or registry.family_of(backbone_folder(config.backbone.path))
    if config.prompt_place not in (None, *family.places):
        raise ConfigError(f"classifier.prompt_place = '{config.prompt_place}': {config.backbone.label} reads its input "
                          f"in both directions; set it to '{family.places[0]}'.")
    values = {field: value for field, value in family.classifier.items() if getattr(config, field) is None}
    return dataclasses.replace(config, **values)


def load_backbone(config: BackboneConfig, placement: Placement, *, storage: str = "") -> Backbone:
    """Load a backbone and its tokenizer and place it on the devices.

    Args:
      config: which checkpoint, and its compute dtype.
      placement: devices.
      storage: dtype of the parameters in memory; by default the compute dtype.
    """
    return registry.load(backbone_folder(config.path), config,
                         lambda model: placement.shardings({"theta": model.abstract()}, model)["theta"],
                         storage or config.dtype)


def find_task(name: str, config: Config | None = None) -> Task:
    """The task of that name: one of the seven, of the mini world's, or the configuration's own.

    Raises:
      UserError: unknown task, or the custom task's data is missing or broken.
    """
    if config and is_own(name, config):
        return read_own_task(config.own)
    if name in KNOWN:
        return KNOWN[name]
    raise UserError(f"Config.tasks: '{name}' is an unknown task; there are {', '.join(KNOWN)}, and your own task "
                    "(configs/own_task.py shows how).")


def content_digest(path: str, pattern: str = "") -> str:
    """The digest of a file, or of the files of a folder that match a pattern, wherever they lie; '' for an empty path.

    Settings hold it in place of a path, so that rows of another corpus of the same name are other rows.
    """
    root = pathlib.Path(path)
    files = [root] if root.is_file() or not path else sorted(root.glob(pattern))
    return path and digest([(str(file.relative_to(root)), _sha256(file, file.stat().st_mtime_ns)) for file in files])


@functools.lru_cache(maxsize=4096)
def _sha256(file: pathlib.Path, changed: int) -> str:
    del changed  # a file that changes is read again
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_own(name: str, config: Config) -> bool:
    """Whether a task is the configuration's own.

    Raises:
      UserError: its name is that of another task.
    """
    taken = name in KNOWN
    if taken and name == config.own.name:
        raise UserError(f"own.name = '{name}': is the name of a task that is there already; choose another.")
    return not taken and name == config.own.name


def load_pools(name: str, root: str, needed: Collection[str] = ()) -> Pools:
    """The train, validation and test examples of a task, as :func:`dawgen_jax.data.pools.load_pools` reads them.

    Raises:
      UserError: data.root is needed or wrong.
    """
    if name in miniworld.TASKS and not root:
        return miniworld.pools(name)
    if name in SAMPLES and not root:
        root = str(SAMPLE_DATA)
    return pools.load_pools(find_task(name), root, needed)


def labelled_examples(path: str | pathlib.Path, task: Task, columns: Sequence[str] = (), label: str = ""
                      ) -> list[Example]:
    """The labelled examples of a file.

    Args:
      path: a .jsonl, .csv, .tsv or .parquet file.
      task: a custom task, whose labels are written as its names; or another one, whose labels may be positions.
      columns: the text's column, or the pair's two; by default those with the usual names, and for a custom task
        otherwise those that can hold texts.
      label: the label's column; by default one with a usual name.

    Raises:
      UserError: the file is missing or broken, has no label, or has a label that the task has not.
    """
    wanted = pools.preset(task) if task.name in KNOWN else Layout(count=len(task.fields))
    return pools.read_examples(path, task, wanted.named(columns, label))


@dataclasses.dataclass(frozen=True)
class TaskData:
    """A task's data, read once.

    Attributes:
      task: what it is.
      pools: all examples.
      splits: the few-shot split of each seed.
      sentences: first sentences in the order in which they are used, the same for every label; empty if no
        generator runs.
      test: the examples that results are reported on.
      k: examples per class of a few-shot split, and as many for dev.
      repeats: first sentences come again, each time for another sample.
      digests: of each split ('split', seed), the test examples ('test') and the sentences ('sentences').
    """

    task: Task
    pools: Pools
    splits: dict[int, Split]
    sentences: list[str]
    test: list[Example]
    digests: dict[object, str]
    k: int
    repeats: bool = False

    @functools.cached_property
    def full(self) -> dict[int, Split]:
        """The whole training pool without the dev set, for each seed."""
        def whole(split: Split) -> Split:
            held_out = set(map(alike, split.dev))
            return split._replace(train=[example for example in self.pools.train if alike(example) not in held_out])

        return {seed: whole(split) for seed, split in self.splits.items()}

    @functools.cached_property
    def digest(self) -> str:
        """The digest of a classifier's task: words, template, training pool and test set, whatever part is scored."""
        task = self.task
        return digest(task.labels, task.template, task.label_words, task.positive, self.pools.train,
                      self.pools.scored(task))

    def split_digest(self, seed: int, *, full: bool) -> str:
        """The digest of a seed's few-shot split, or of the whole pool without its dev set; computed once."""
        name = ("full" if full else "split", seed)
        if name not in self.digests:
            self.digests[name] = digest(self.full[seed])
        return self.digests[name]


def read_task(name: str, config: Config, *, generates: bool) -> TaskData:
    """Read the data of a task.

    Args:
      name: of the task.
      config: ``data`` and ``seeds`` are read.
      generates: whether a generator will need first sentences.

    Raises:
      UserError: the task is unknown, or an input is missing or broken.
    """
    own = is_own(name, config)
    if own:
        task, found, k, _ = read_own(config.own, config.data.k)
        data = dataclasses.replace(config.data, k=k, root=config.own.data)
    else:
        task, found, data = _read(name, config)
    splits = {seed: fewshot.draw_split(task, data, found.train, seed) for seed in config.seeds}
    test = found.scored(task)[:data.max_test or None]
    if shared := overlap(test, [*found.train, *(one for split in splits.values() for one in split.train + split.dev)]):
        log.warning("%s: %d of %d test examples have the texts of a training example; texts are compared without case, "
                    "extra spaces and Unicode forms.", name, shared, len(test))
    sentences, repeats = _first_sentences(task, config, found, own=own) if generates else ([], False)
    digests = {("split", seed): digest(split) for seed, split in splits.items()}
    return TaskData(task, found, splits, sentences, test,
                    digests | {"test": digest(test), "sentences": digest(sentences)}, data.k, repeats)


def _read(name: str, config: Config) -> tuple[Task, Pools, DataConfig]:
    if not config.data.k:
        raise UserError(f"data.k = 0: say how many examples a class {name} is tuned on; only an own task takes as many "
                        "as fit.")
    data = config.data
    if name in SAMPLES and not data.root and not data.kshot:
        data = dataclasses.replace(data, kshot=str(SAMPLE_DATA))
    return find_task(name), load_pools(name, data.root), data


_TRIES = 10
"""Samples that are made for one that is wanted, at most, where first sentences may come again."""


def no_sentences(task: Task, config: SynthesisConfig) -> list[str]:
    """The empty first sentences of a task of single texts, one for every sample that may be tried.

    Raises:
      UserError: they would all give the same sample.
    """
    if not config.temperature:
        raise UserError(f"synthesis.temperature = 0: {task.name} is a task of single texts, and every sample of a "
                        "label would be the same text; set it above 0, for instance to 1.0.")
    return [""] * (_TRIES * config.samples_per_label)


def _first_sentences(task: Task, config: Config, found: Pools, *, own: bool) -> tuple[list[str], bool]:
    """First sentences in the order of use, and whether they repeat.

    A single text has none: all of its samples start from the label's prompt alone, and differ by their random keys. An
    custom task's pool of first sentences is small, and repeats.
    """
    data, synthesis = config.data, config.synthesis
    if task.name in miniworld.TASKS and not data.root and not data.corpus:
        return corpora.arrange(miniworld.first_sentences(task.name), data.corpus_seed), False
    if len(task.fields) == 1:
        return no_sentences(task, synthesis), True
    sentences = corpora.first_sentences(task, data, found)
    if not own or data.corpus != "pool" or not synthesis.temperature:
        return sentences, False
    again = -(-_TRIES * synthesis.samples_per_label // len(sentences))
    return sentences * again, again > 1


def warn_of_unknown(task: Task, backbone: Backbone, tokens: np.ndarray, mask: np.ndarray) -> None:
    """Log how many tokens of a task's examples are unknown, if more than one in a hundred.

    Args:
      task: named in the warning.
      backbone: whose format made the tokens.
      tokens: int32 [N, T].
      mask: bool [N, T] True at real positions.
    """
    unknown, total = int((tokens == backbone.format.unk_id)[mask].sum()), int(mask.sum())
    if 100 * unknown > total:
        log.warning("%s: %d of the first %d tokens of its examples are unknown to %s, which cannot distinguish them; "
                    "take a backbone whose vocabulary has them.", task.name, unknown, total, backbone.label)


def wording_key(tokens: Format, task: Task) -> tuple:
    """What cache keys hold of a family's own template and label words; nothing if these are the task's ``template``."""
    wording = tokens.wording(task)
    return () if wording == (task.template, task.label_words) else wording


def prompt_tail(tokens: Format, task: Task, config: ClassifierConfig) -> int | None:
    """How many tokens of a task's rows follow the soft prompt; None if the prompt precedes the whole row."""
    if config.prompt_place == "before":
        return None
    return tokens.answer_rows(task, [[""] for _ in task.fields], _UNCUT).tail


class Encoded:
    """Token arrays of one task's examples for one backbone; each set is encoded once per template.

    Attributes:
      label_ids: token ids of the L label words.
      tail: how many tokens of a row follow the soft prompt, see :class:`dawgen_jax.backbones.base.AnswerRows`.
    """

    def __init__(self, task: Task, backbone: Backbone, config: ClassifierConfig):
        self.task, self.backbone, self._config = task, backbone, config
        self.label_ids = tuple(backbone.format.label_ids(task).tolist())
        self.tail = prompt_tail(backbone.format, task, config)
        self._arrays: dict[tuple, ClassifierBatch] = {}

    @functools.cached_property
    def contexts(self) -> Contexts | None:
        """Contexts of texts in front of a prompt, kept in memory; None for prompts in front or without memory."""
        config = self._config
        if self.tail is None or not config.context_cache_gib:
            return None
        return Contexts(self.backbone, self.tail, gib=config.context_cache_gib, size=config.eval_batch_size,
                        multiple=config.pad_multiple)

    def arrays(self, examples: Sequence[Example], key: str, *, bare: bool = False) -> ClassifierBatch:
        """Arrays [N, ...] of examples.

        Args:
          examples: N of them.
          key: digest that names them.
          bare: the texts alone, without the task's template.
        """
        if (key, bare) not in self._arrays:
            first = not self._arrays
            self._arrays[key, bare] = classifier_arrays(
                self.backbone.format, self.task, examples, self._config.max_tokens, self._config.pad_multiple,
                bare=bare)
            if first:
                warn_of_unknown(self.task, self.backbone, *self._arrays[key, bare][:2])
            self.warn_of_losses(examples, self._arrays[key, bare].mask.sum(axis=1).tolist(), bare=bare)
        return self._arrays[key, bare]

    def without_content(self) -> ClassifierBatch:
        """Arrays of inputs that say nothing of their class: 'N/A', '[MASK]' and nothing in place of every text."""
        config, label = self._config, self.task.labels[0]
        examples = [Example(text, text, label) for text in ("N/A", "[MASK]", "")]
        return classifier_arrays(self.backbone.format, self.task, examples, config.max_tokens, config.pad_multiple)

    def warn_of_losses(self, examples: Sequence[Example], lengths: Sequence[int] = (), *, bare: bool = False) -> None:
        """Log how many examples lose tokens to the budget, and how many have an empty text.

        Args:
          examples: N of them.
          lengths: tokens of their rows, if known: only a row that fills the budget can have been cut.
          bare: the rows are the texts alone, without the template.
        """
        task = self.task
        budget = self._config.max_tokens
        full = [example for example, size in itertools.zip_longest(examples, lengths, fillvalue=budget)
                if size == budget]
        sizes = [len(row) for row in template_rows(self.backbone.format, task, full, _UNCUT, bare=bare)]
        if cut := sum(size > budget for size in sizes):
            log.warning("%s: %d of %d examples are longer than classifier.max_tokens = %d tokens (up to %d) and lose "
                        "their ends.", task.name, cut, len(examples), budget, max(sizes))
        if empty := sum(not all(map(str.strip, texts)) for texts in zip(*texts_of(task, examples), strict=True)):
            log.warning("%s: %d of %d examples have an empty text.", task.name, empty, len(examples))
