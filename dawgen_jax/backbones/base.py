"""What every backbone offers, whatever its shape: a short list of pure functions of its parameters.

A :class:`Model` is static and hashable (shape, numerics, where the answer is read), so that steps may close over it and
compiled programs be cached by it; ``theta``, the parameters, is an argument of every function. T5
(:mod:`dawgen_jax.backbones.t5`) is the first implementation. Nothing outside a backbone's own folder knows what its
decoder reads or how its parameters are laid out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import numpy as np

from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.config import BackboneConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["AXES", "BATCH_AXES", "Backbone", "Cache", "EmbedFn", "Generated", "Model", "Prefilled", "Rows", "Work"]

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
      width: H, of embeddings, states and soft prompt rows.
      vocab_size: V, rows of the embedding.
      projections: paths in ``theta`` of the attention kernels [N, in, out], layers on axis 0.
    """

    width: int
    vocab_size: int
    projections: tuple[tuple[str, ...], ...]

    def embed(self, theta, tokens) -> jax.Array:
        """Embeddings [B, T, H] in the compute dtype of ``tokens`` [B, T]."""

    def embedding(self, theta) -> jax.Array:
        """The embedding table [V, H] as it is stored: what soft prompts are started from."""

    def input_states(self, theta, embeddings, mask) -> jax.Array:
        """States [B, T, H] of the inputs [B, T, H] themselves: their features."""

    def answer_states(self, theta, embeddings, mask) -> jax.Array:
        """States [B, H] at the position where the answer is read, for inputs [B, T, H] with ``mask`` bool [B, T]."""

    def summary_states(self, theta, embeddings, mask) -> jax.Array:
        """States [B, H] that summarise the input: what a new classification head reads."""

    def target_states(self, theta, embeddings, mask, target) -> jax.Array:
        """States Z [B, U, H] from which each token of ``target`` [B, U] is predicted, teacher forced."""

    def logits(self, theta, hidden, ids=None) -> jax.Array:
        """Scores of ``hidden`` [..., H] over the vocabulary, or over the tokens ``ids`` [n], in float32 or wider."""

    def layout(self, axes: Mapping[str, int]) -> Any:
        """A tree like ``theta`` with the ``PartitionSpec`` of every leaf, on a mesh with these sizes of axes."""

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


class Backbone(NamedTuple):
    """A frozen model, ready to be an argument of steps.

    Attributes:
      model: what is static.
      theta: its parameters, placed on the devices.
      tokenizer: its tokenizer.
      label: its name in result rows.
      digest: of its weights, configuration, tokenizer and compute dtype.
      config: how it was loaded.
    """

    model: Model
    theta: Any
    tokenizer: PreTrainedTokenizerBase
    label: str
    digest: str
    config: BackboneConfig = BackboneConfig()
