"""What a family of backbones offers to the rest of the project: numbers, tokens, and how both are read from a folder.

A :class:`Model` has the numerics: a short list of pure functions of the parameters ``theta``. It is static and
hashable, so that steps may close over it and compiled programs are cached by it. A :class:`Format` has everything about
tokens and templates. A :class:`Family` reads both from a checkpoint; :mod:`dawgen_jax.backbones.registry` lists the
families. Nothing outside a family's own folder knows its special tokens, what its decoder is fed or how its parameters
are laid out.
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
"""Axes of a mesh: copies of everything, parameters cut but gathered to be used, parameters cut and used apart."""
BATCH_AXES = ("data", "fsdp")
"""The axes that the examples of a batch are spread over."""


class Rows(NamedTuple):
    """A rectangle of inputs.

    Attributes:
      source: int32 [R, T] token ids, padded with 0.
      mask: bool [R, T] True at real positions.
      slots: int32 [R, T] index of the soft row at each position, -1 for the token itself.
      label: int32 [R].
    """

    source: jax.Array
    mask: jax.Array
    slots: jax.Array
    label: jax.Array


EmbedFn = Callable[[Any, Any, Rows], tuple[jax.Array, jax.Array]]
"""(theta, prompts, rows) -> (embeddings [R, T', H], mask bool [R, T']): puts soft prompts into a backbone's input."""


class Work(NamedTuple):
    """One sample to be generated.

    Attributes:
      label: chooses the prompt and, with ``index``, the random key.
      index: number of the sample within its label.
      source: int [T] input tokens. Those that are text are penalised from the start.
      slots: int [T] the soft row at each position, -1 for text; None for text only.
      sampling: settings.
    """

    label: int
    index: int
    source: np.ndarray
    slots: np.ndarray | None = None
    sampling: Sampling = Sampling()


class Generated(NamedTuple):
    """What was generated for a :class:`Work`.

    Attributes:
      label: of the work.
      index: of the work.
      tokens: int32 [U] without the end of sequence.
      finished: whether it ended with the end of sequence (and not at its budget).
    """

    label: int
    index: int
    tokens: np.ndarray
    finished: bool


class Prefilled(NamedTuple):
    """What decoding reads of R inputs, computed once per input.

    Attributes:
      layers: keys and values [R, heads, T', d] of each layer; any tree of such arrays.
      mask: bool [R, T'], True at the positions that decoding attends to.
      first: [R, H], the embedding that the first decoding step reads.
    """

    layers: Any
    mask: jax.Array
    first: jax.Array


class Cache(NamedTuple):
    """What decoding remembers of B samples.

    Attributes:
      inputs: of the samples' inputs.
      own: keys and values [B, heads, U, d] of the samples' own tokens; any tree of such arrays.
    """

    inputs: Prefilled
    own: Any


class Model(Protocol):
    """A backbone without its parameters; frozen and hashable.

    Attributes:
      width: H, of embeddings, states and virtual tokens.
      vocab_size: V, rows of the embedding.
      projections: paths in ``theta`` of the attention kernels [N, in, out], layers on axis 0.
      head: how many tokens at the start of a generator's input stand in front of the label prompts.
    """

    width: int
    vocab_size: int
    projections: tuple[tuple[str, ...], ...]
    head: int

    def abstract(self) -> Any:
        """A tree like ``theta`` with the shape of every leaf, in float32."""

    def layout(self, axes: Mapping[str, int]) -> Any:
        """A tree like ``theta`` with the ``PartitionSpec`` of every leaf, on a mesh with these sizes of axes."""

    def embed(self, theta, tokens) -> jax.Array:
        """Embeddings [B, T, H] of ``tokens`` [B, T] in the compute dtype: what the first layer is fed."""

    def input_states(self, theta, embeddings, mask) -> jax.Array:
        """States [B, T, H] of the inputs [B, T, H] themselves: their features."""

    def answer_states(self, theta, embeddings, mask) -> jax.Array:
        """States [B, H] at the position where the answer is read, for inputs [B, T, H] with ``mask`` bool [B, T].

        Padding may stand at either end, and changes nothing.
        """

    def summary_states(self, theta, embeddings, mask) -> jax.Array:
        """States [B, H] that summarise the input: what a new classification head reads."""

    def target_states(self, theta, embeddings, mask, target) -> jax.Array:
        """States Z [B, U, H] from which each token of ``target`` [B, U] is predicted, teacher forced."""

    def logits(self, theta, hidden, ids=None) -> jax.Array:
        """Scores of ``hidden`` [..., H] over the vocabulary, or over the tokens ``ids`` [n], in float32 or wider."""

    def operations(self, *, inputs: int, outputs: int | None = None,
                   trained: Literal["none", "prompt", "all"] = "none") -> float:
        """Floating-point operations of one example, two for a multiplication and an addition.

        Args:
          inputs: input positions, virtual tokens included; 0 decodes over keys and values that are cached.
          outputs: target tokens, each of which is scored over the vocabulary; None for the answer, whose few scores are
            not counted.
          trained: forward only; forward and backward with gradients of activations ('prompt'); or with gradients of
            all weights as well ('all'). Nothing that is computed again is counted.
        """

    # Decoding, for backbones/engine.py. ``layers`` is what ``unstack`` returns; ``embed`` and ``logits`` take it too.

    def unstack(self, theta) -> Any:
        """``theta`` in the form that decoding reads: in the compute dtype, without slicing stacked layers per token."""

    def unstacked_layout(self, axes: Mapping[str, int]) -> Any:
        """:meth:`layout` of what :meth:`unstack` returns."""

    def cache_heads(self, axes: Mapping[str, int]) -> str | None:
        """The mesh axis that the heads of a :class:`Cache` are cut over, if any."""

    def empty(self, slots: int, source: int, new_tokens: int) -> Cache:
        """A cache of B = ``slots`` samples, for T' = ``source`` input positions and U = ``new_tokens`` tokens."""

    def prefill(self, layers, embeddings, mask) -> Prefilled:
        """Read R inputs [R, T', H] with ``mask`` bool [R, T'], which may be padded on any side.

        A causal model leaves the last input position to the first decoding step: it gives that position's embedding
        as ``first`` and clears its place in the mask.
        """

    def step(self, layers, cache: Cache, inputs, position) -> tuple[jax.Array, Any]:
        """Decode one token per sample.

        Args:
          layers: parameters.
          cache: of B samples.
          inputs: [B, H] embeddings: ``first`` at position 0, later that of the sample's last token.
          position: int32 [B] in [0, U): where the keys and values of ``inputs`` belong in ``cache.own``. Behind it are
            those of an earlier sample, which must not be attended to.

        Returns:
          (states [B, H] from which the next tokens are predicted, the new ``cache.own``).
        """


class AnswerRows(NamedTuple):
    """Inputs of a classifier.

    Attributes:
      rows: N rows of token ids, which end where the answer is read.
      tail: the last so many tokens of every row of the task, whatever its texts, stand behind a soft prompt that is
        inserted into the row; None if the prompt is put in front of the row.
    """

    rows: list[list[int]]
    tail: int | None


class SourceRows(NamedTuple):
    """Inputs of a generator.

    Attributes:
      rows: N rows of token ids; places of the infix hold any id.
      slots: the index of the infix row at each position of ``rows``, -1 for the token itself.
      cut: whether each sentence lost its end.
    """

    rows: list[list[int]]
    slots: list[list[int]]
    cut: list[bool]


class Adapter(NamedTuple):
    """How PEFT holds a soft prompt in front of the input of a family.

    Attributes:
      config: fields of adapter_config.json that depend on the family, among them 'task_type'.
      auto_class: of ``transformers``, that loads the model.
      place: whose input the prompt stands in front of, for model cards.
      predict: (task) -> (Python code that defines ``predict(**texts)`` after ``model`` and ``tokenizer``, a sentence
        that says how the class is read).
    """

    config: Mapping[str, Any]
    auto_class: str
    place: str
    predict: Callable[[Task], tuple[str, str]]


class Format(Protocol):
    """How a family writes texts as tokens; it holds the tokenizer.

    Every id that it returns is below the V of its model. Rows are not padded here: batches pad on the right with 0,
    which no model reads behind its mask.

    Attributes:
      tokenizer: from ``transformers``.
      name: of the tokenizer, for messages.
      eos_id: end of sequence, which ends a sample.
      unk_id: the id that stands for what the vocabulary lacks; None if it lacks nothing.
      start: ids that every row begins with.
      adapter: how PEFT holds its prompts.
    """

    tokenizer: PreTrainedTokenizerBase
    name: str
    start: tuple[int, ...]
    eos_id: int
    unk_id: int | None
    adapter: Adapter

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of plain texts, nothing added; a text that spells a special piece gives ordinary pieces."""

    def texts(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Texts of rows of ids, special pieces left out, ends stripped."""

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Readable pieces; those that start a word begin with :data:`dawgen_jax.backbones.tokens.MARK`."""

    def label_ids(self, task: Task) -> np.ndarray:
        """The id of each label word's first token where the answer is read, int32 [L] in the order of ``task.labels``.

        Raises:
          LabelWordError: a label word is unknown, or two labels share their first token.
        """

    def word_start_ids(self) -> np.ndarray:
        """Ids of alphabetic pieces that start a word, int32 [n] ascending: what a prompt starts from."""

    def banned_ids(self) -> np.ndarray:
        """Ids that are never sampled, int32 [n] ascending: special ones but the end of sequence, rows without a
        piece."""

    def wording(self, task: Task) -> tuple[str, tuple[str, ...]]:
        """The template and the label words that the family reads of a task.

        Raises:
          UserError: the task has no template for the family.
        """

    def answer_rows(self, task: Task, texts: Sequence[Sequence[str]], max_tokens: int, *,
                    answers: Sequence[int] | None = None, bare: bool = False) -> AnswerRows:
        """Examples in the task's template.

        Args:
          task: its template and label words.
          texts: N texts for each of ``task.fields``.
          max_tokens: budget of a row. The texts are cut to fit: from their tails, the last placeholder of the template
            first.
          answers: the position of a label for each example, whose word stands in place of the mask: demonstrations,
            which are put in front of another row and so have no ``start``. None reads the answer there.
          bare: the texts alone, for a model with a head of its own.

        Raises:
          UserError: the template alone is over the budget, or the family cannot read it.
        """

    def source_rows(self, sentences: Sequence[str], infix_length: int, max_tokens: int) -> SourceRows:
        """Generator inputs: each sentence, cut to ``max_tokens``, and ``infix_length`` places after it."""

    def target_rows(self, sentences: Sequence[str], max_tokens: int) -> list[list[int]]:
        """What a generator learns to write, cut to ``max_tokens``; the end of sequence is the last of them."""


class Backbone(NamedTuple):
    """A frozen model, ready to be an argument of steps.

    Attributes:
      model: what is static.
      format: its tokens and templates.
      theta: its parameters, placed on the devices.
      label: its name in result rows.
      digest: of its weights, configuration, tokenizer and compute dtype.
      config: how it was loaded.
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
    """How the checkpoints of a family are read: one line of the registry.

    Attributes:
      load: (folder, config, shardings) -> (model, format, theta), each leaf placed as it is read.
      read_format: (folder) -> format, from config.json and the tokenizer.
      read_model: (folder, config) -> model, from config.json alone.
      shapes: published shapes by name, each (config) -> model.
      check: (folder) -> a report for people, with 'passed', by comparison with PyTorch where that is installed.
      convert: (tensors by name, source, target, dtype) -> number of parameters: writes a checkpoint whose tensors are
        not in safetensors, with the source's config.json and tokenizer files.
      adapter: how PEFT holds prompts of the family.
    """

    load: Callable[[pathlib.Path, BackboneConfig, Shardings], tuple[Model, Format, Any]]
    read_format: Callable[[pathlib.Path], Format]
    read_model: Callable[[pathlib.Path, BackboneConfig], Model]
    shapes: Mapping[str, Callable[[BackboneConfig], Model]]
    check: Callable[[pathlib.Path], dict[str, Any]]
    convert: Callable[[dict[str, np.ndarray], pathlib.Path, pathlib.Path, str], int]
    adapter: Adapter
