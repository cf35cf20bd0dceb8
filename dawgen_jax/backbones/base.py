"""The interface between a family of backbones and the rest of the project.

A :class:`Model` holds the numerics: pure functions of the parameters ``theta``. It is static and hashable, so steps may
close over it and compiled programs are cached by it. A :class:`Format` holds everything about tokens and templates.
A :class:`Family` reads both from a checkpoint; :mod:`dawgen_jax.backbones.registry` lists the families. Special tokens,
decoder inputs and the layout of parameters are known only inside a family's folder.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import jax
import numpy as np

from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.config import BackboneConfig
from dawgen_jax.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["AXES", "BATCH_AXES", "Adapter", "AnswerRows", "Backbone", "Cache", "EmbedFn", "Family", "Format",
           "Generated", "Model", "Prefilled", "Rows", "Shardings", "SourceRows", "Work"]

AXES = ("data", "fsdp", "tensor")
"""Mesh axes: data parallelism, parameters gathered for each use (ZeRO), and tensor parallelism."""
BATCH_AXES = ("data", "fsdp")
"""The mesh axes over which the examples of a batch are spread."""


class Rows(NamedTuple):
    """A padded batch of inputs.

    Attributes:
      source: int32 [R, T] token ids, padded with 0.
      mask: bool [R, T], True at real positions.
      slots: int32 [R, T], index of the soft row that replaces the token; -1 keeps the token.
      label: int32 [R].
    """

    source: jax.Array
    mask: jax.Array
    slots: jax.Array
    label: jax.Array


EmbedFn = Callable[[Any, Any, Rows], tuple[jax.Array, jax.Array]]
"""(theta, prompts, rows) -> (embeddings [R, T', H], mask bool [R, T']): inserts soft prompts into a model's input."""


class Work(NamedTuple):
    """A request for one sample.

    Attributes:
      label: selects the prompt and, with ``index``, the random key.
      index: number of the sample within its label.
      source: int [T] input tokens. A repetition penalty applies to the text tokens from the start.
      slots: int [T], the soft row at each position, -1 for text; None if there are no soft rows.
      sampling: decoding settings.
    """

    label: int
    index: int
    source: np.ndarray
    slots: np.ndarray | None = None
    sampling: Sampling = Sampling()


class Generated(NamedTuple):
    """The sample generated for a :class:`Work`.

    Attributes:
      label: label of the request.
      index: index of the request.
      tokens: int32 [U], without the end of sequence.
      finished: True if the sample ended with the end of sequence, False if it reached its budget.
    """

    label: int
    index: int
    tokens: np.ndarray
    finished: bool


class Prefilled(NamedTuple):
    """The prefilled state of R inputs: everything about them that decoding reads.

    Attributes:
      layers: keys and values [R, heads, T', d] of each layer; any tree of such arrays.
      mask: bool [R, T'], True at the positions that decoding attends to.
      first: [R, H], the embedding that the first decoding step reads.
    """

    layers: Any
    mask: jax.Array
    first: jax.Array


class Cache(NamedTuple):
    """The decoding state of B samples.

    Attributes:
      inputs: prefilled inputs of the samples.
      own: keys and values [B, heads, U, d] of the generated tokens; any tree of such arrays.
    """

    inputs: Prefilled
    own: Any


class Model(Protocol):
    """A backbone without its parameters; frozen and hashable.

    Attributes:
      width: H, of embeddings, states and virtual tokens.
      vocab_size: V, rows of the embedding.
      projections: paths in ``theta`` of the attention kernels [N, in, out], layers on axis 0.
      head: number of tokens at the start of a generator's input that precede the label prompt.
    """

    width: int
    vocab_size: int
    projections: tuple[tuple[str, ...], ...]
    head: int

    def abstract(self) -> Any:
        """Shapes of all parameters, as a tree like ``theta`` of float32 ``jax.ShapeDtypeStruct``."""

    def layout(self, axes: Mapping[str, int]) -> Any:
        """``PartitionSpec`` of every parameter, on a mesh with these axis sizes."""

    def embed(self, theta, tokens) -> jax.Array:
        """Embeddings [B, T, H] of ``tokens`` [B, T] in the compute dtype, as the first layer reads them."""

    def input_states(self, theta, embeddings, mask) -> jax.Array:
        """Hidden states [B, T, H] of the inputs [B, T, H], used as features."""

    def context(self, theta, embeddings, mask) -> Any:
        """What later positions read of a text [B, T, H], without gradient, as a tree of [B, T, ...].

        None if the states of a text depend on later positions.
        """

    def answer_states(self, theta, embeddings, mask, context=None) -> jax.Array:
        """State [B, H] at the position where the answer is read, for inputs [B, T, H] with ``mask`` bool [B, T].

        Padding may be on either side and never changes the result. ``context`` is the :meth:`context` of a text in
        front of the inputs, which is not computed again; None without one.
        """

    def summary_states(self, theta, embeddings, mask) -> jax.Array:
        """State [B, H] that summarises the input, for a new classification head."""

    def target_states(self, theta, embeddings, mask, target) -> jax.Array:
        """States [B, U, H] that predict each token of ``target`` [B, U], teacher forced."""

    def logits(self, theta, hidden, ids=None) -> jax.Array:
        """Logits of ``hidden`` [..., H] over the vocabulary, or over the tokens ``ids`` [n], in float32 or wider."""

    def operations(self, *, inputs: int, outputs: int | None = None,
                   trained: Literal["none", "prompt", "all"] = "none", context: int = 0) -> float:
        """Floating-point operations per example; a multiplication and an addition count as two.

        Args:
          inputs: input positions, virtual tokens included; 0 if the input's keys and values are cached.
          outputs: target tokens, each scored over the vocabulary; None for the answer.
          trained: 'none' counts the forward pass, 'prompt' adds gradients of activations, and 'all' also gradients of
            all weights. Recomputation is not counted.
          context: positions in front of the inputs whose keys and values are cached.
        """

    # Decoding, for backbones/engine.py. ``layers`` is the result of ``unstack``; ``embed`` and ``logits`` accept it.

    def unstack(self, theta) -> Any:
        """``theta`` in the compute dtype with one tree per layer, since slicing stacked layers per token is slow."""

    def unstacked_layout(self, axes: Mapping[str, int]) -> Any:
        """``PartitionSpec`` of every leaf of :meth:`unstack`'s result."""

    def cache_heads(self, axes: Mapping[str, int]) -> str | None:
        """The mesh axis over which the heads of a :class:`Cache` are sharded; None if they are replicated."""

    def empty(self, slots: int, source: int, new_tokens: int) -> Cache:
        """A cache of B = ``slots`` samples, for T' = ``source`` input positions and U = ``new_tokens`` tokens."""

    def prefill(self, layers, embeddings, mask) -> Prefilled:
        """Read R inputs [R, T', H] with ``mask`` bool [R, T']; padding may be anywhere.

        A causal model leaves the last input position to the first decoding step: it returns that position's embedding
        as ``first`` and masks the position out.
        """

    def step(self, layers, cache: Cache, inputs, position) -> tuple[jax.Array, Any]:
        """Decode one token per sample.

        Args:
          layers: parameters, from :meth:`unstack`.
          cache: state of B samples.
          inputs: embeddings [B, H]: ``first`` at position 0, afterwards the embedding of the last token.
          position: int32 [B] in [0, U), where the keys and values of ``inputs`` are written in ``cache.own``. Later
            positions may hold values of an earlier sample, which must be masked.

        Returns:
          (states [B, H] that predict the next tokens, the new ``cache.own``).
        """


class AnswerRows(NamedTuple):
    """Inputs of a classifier.

    Attributes:
      rows: N rows of token ids, which end where the answer is read.
      tail: number of tokens, equal for all rows, that follow a soft prompt inserted into the row; None if the prompt
        precedes the row.
    """

    rows: list[list[int]]
    tail: int | None


class SourceRows(NamedTuple):
    """Inputs of a generator.

    Attributes:
      rows: N rows of token ids; infix positions hold an arbitrary id.
      slots: index of the infix row at each position of ``rows``, -1 for text.
      cut: whether each sentence was truncated.
    """

    rows: list[list[int]]
    slots: list[list[int]]
    cut: list[bool]


class Adapter(NamedTuple):
    """How PEFT stores a soft prompt of a family.

    Attributes:
      config: fields of adapter_config.json that depend on the family, among them 'task_type'.
      auto_class: the class of ``transformers`` that loads the model.
      place: name of the part of the model that reads the prompt, for model cards.
      predict: (task) -> (Python code that defines ``predict(**texts)`` given ``model`` and ``tokenizer``, a sentence
        that explains how the class is read).
    """

    config: Mapping[str, Any]
    auto_class: str
    place: str
    predict: Callable[[Task], tuple[str, str]]


class Format(Protocol):
    """How a family writes texts as tokens; it holds the tokenizer.

    All ids are below the model's V. Rows are unpadded: batches pad them on the right with 0, which masks hide.

    Attributes:
      tokenizer: from ``transformers``.
      name: name of the tokenizer, for messages.
      eos_id: end of sequence, which ends a sample.
      unk_id: id of unknown text; None if the vocabulary covers all text.
      start: ids at the start of every row.
      adapter: how PEFT stores the prompts.
    """

    tokenizer: PreTrainedTokenizerBase
    name: str
    start: tuple[int, ...]
    eos_id: int
    unk_id: int | None
    adapter: Adapter

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of plain texts without special tokens; text that spells a special token is tokenised as plain text."""

    def texts(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Decoded rows of ids, without special tokens, stripped."""

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Readable tokens; a token that starts a word begins with :data:`dawgen_jax.backbones.tokens.MARK`."""

    def label_ids(self, task: Task) -> np.ndarray:
        """Id of each label word's first token at the answer position, int32 [L] in the order of ``task.labels``.

        Raises:
          LabelWordError: a label word is unknown, or two labels share their first token.
        """

    def word_start_ids(self) -> np.ndarray:
        """Ids of alphabetic tokens that start a word, int32 [n] ascending; prompts are initialised from them."""

    def banned_ids(self) -> np.ndarray:
        """Ids that are never sampled, int32 [n] ascending: unused ids, and special tokens except the end."""

    def wording(self, task: Task) -> tuple[str, tuple[str, ...]]:
        """The task's template and label words for this family.

        Raises:
          UserError: the task has no template for the family.
        """

    def answer_rows(self, task: Task, texts: Sequence[Sequence[str]], max_tokens: int, *,
                    answers: Sequence[int] | None = None, bare: bool = False) -> AnswerRows:
        """Examples in the task's template.

        Args:
          task: gives the template and the label words.
          texts: N texts per field of ``task.fields``.
          max_tokens: budget per row. Texts that exceed it lose their ends, the last placeholder first.
          answers: label index per example, whose word replaces the mask. Such rows are demonstrations that precede
            another row and have no ``start``. None leaves the answer to the model.
          bare: texts without the template, for a model with a classification head.

        Raises:
          UserError: the template alone exceeds the budget, or the family cannot read it.
        """

    def source_rows(self, sentences: Sequence[str], infix_length: int, max_tokens: int) -> SourceRows:
        """Generator inputs: each sentence, cut to ``max_tokens``, followed by ``infix_length`` infix positions."""

    def target_rows(self, sentences: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Generator targets: each sentence, cut to ``max_tokens`` including the end of sequence."""


class Backbone(NamedTuple):
    """A frozen model with its parameters, ready to be passed to steps.

    Attributes:
      model: the static part.
      format: its tokens and templates.
      theta: its parameters, placed on the devices.
      label: its name in result rows.
      digest: hash of weights, configuration, tokenizer and compute dtype.
      config: the settings that loaded it.
    """

    def __repr__(self) -> str:
        """Its name and size, without its parameters."""
        return f"Backbone({self.label}, {sum(leaf.size for leaf in jax.tree.leaves(self.theta)):,} parameters)"

    model: Model
    format: Format
    theta: Any
    label: str
    digest: str
    config: BackboneConfig = BackboneConfig()


Shardings = Callable[[Model], Any]
"""(model) -> a tree like ``theta`` with the sharding of every leaf."""


class Family(NamedTuple):
    """How the checkpoints of a family are read: one entry of the registry.

    Attributes:
      load: (folder, config, shardings, storage dtype) -> (model, format, theta); every leaf is placed as soon as it is
        read.
      read_format: (folder) -> format, from config.json and the tokenizer.
      read_model: (folder, config) -> model, from config.json alone.
      shapes: published sizes by name, each (config) -> model.
      check: (folder) -> a report with the key 'passed', which compares with PyTorch if that is installed.
      convert: (tensors by name, source, target, dtype) -> number of parameters; writes safetensors from another file
        format, with the source's config.json and tokenizer files.
      adapter: how PEFT stores prompts of the family.
      classifier: values of the fields of ``ClassifierConfig`` left at None in a configuration.
      places: where a classifier's prompt may be.
    """

    load: Callable[[pathlib.Path, BackboneConfig, Shardings, str], tuple[Model, Format, Any]]
    read_format: Callable[[pathlib.Path], Format]
    read_model: Callable[[pathlib.Path, BackboneConfig], Model]
    shapes: Mapping[str, Callable[[BackboneConfig], Model]]
    check: Callable[[pathlib.Path], dict[str, Any]]
    convert: Callable[[dict[str, np.ndarray], pathlib.Path, pathlib.Path, str], int]
    adapter: Adapter
    classifier: Mapping[str, Any]
    places: tuple[str, ...]
