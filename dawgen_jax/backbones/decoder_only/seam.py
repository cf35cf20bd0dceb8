"""A decoder-only model as a :class:`dawgen_jax.backbones.base.Model`.

The answer, and the first token of a target, are predicted from the state at the last real position of the input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp

from dawgen_jax.backbones.base import Cache, Prefilled
from dawgen_jax.backbones.decoder_only import decode, model, partition
from dawgen_jax.backbones.decoder_only.config import DecoderConfig
from dawgen_jax.backbones.decoder_only.model import Context

__all__ = ["DecoderOnly"]


@dataclasses.dataclass(frozen=True)
class DecoderOnly:
    """A decoder-only model without its parameters.

    Attributes:
      config: shape and numerics.
      head: 1 if documents begin with a special token, which then stays in front of a generator's prompts; else 0.
    """

    config: DecoderConfig
    head: int = 0

    @property
    def width(self) -> int:
        """H."""
        return self.config.width

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.config.vocab_size

    @property
    def projections(self) -> tuple[tuple[str, ...], ...]:
        """Query, key, value and output kernels."""
        return tuple(("layers", "attention", kernel) for kernel in ("query", "key", "value", "output"))

    def abstract(self) -> dict:
        """A tree like ``theta`` with the shape of every leaf, in float32."""
        return model.abstract(self.config)

    def layout(self, axes: Mapping[str, int]) -> dict:
        """The ``PartitionSpec`` of every leaf of ``theta``; see :mod:`dawgen_jax.backbones.partition`."""
        return partition.layout(self.config, axes)

    def embed(self, theta, tokens) -> jax.Array:
        """Embeddings [B, T, H] in the compute dtype of ``tokens`` [B, T]."""
        return model.embed(theta, tokens, config=self.config)

    def input_states(self, theta, embeddings, mask) -> jax.Array:
        """States [B, T, H] after the final norm."""
        return model.run(theta, embeddings, mask, config=self.config)[0]

    def context(self, theta, embeddings, mask) -> Context:
        """Keys and values of a text in front of other inputs, without gradient."""
        return model.context(theta, embeddings, mask, config=self.config)

    def answer_states(self, theta, embeddings, mask, context: Context | None = None) -> jax.Array:
        """States [B, H] at the last real position.

        Args:
          theta: parameters.
          embeddings: [B, T, H].
          mask: bool [B, T].
          context: :meth:`context` of the text in front of these inputs, which then has no gradient and is not computed
            again; None if ``embeddings`` are the whole input.
        """
        states, _ = model.run(theta, embeddings, mask, config=self.config, context=context)
        return _at_last(states, mask)

    def summary_states(self, theta, embeddings, mask) -> jax.Array:
        """States [B, H] at the last real position, the only one that sees the whole input."""
        return self.answer_states(theta, embeddings, mask)

    def target_states(self, theta, embeddings, mask, target) -> jax.Array:
        """States [B, U, H] that predict ``target`` [B, U]: the last of the input's and those of target[:, :-1]."""
        length = embeddings.shape[1]
        written = self.embed(theta, target[:, :-1])
        whole = jnp.concatenate([embeddings.astype(written.dtype), written], axis=1)
        mask_of_whole = jnp.pad(mask, ((0, 0), (0, written.shape[1])), constant_values=True)
        states = self.input_states(theta, whole, mask_of_whole)
        return jnp.concatenate([_at_last(states[:, :length], mask)[:, None], states[:, length:]], axis=1)

    def logits(self, theta, hidden, ids=None) -> jax.Array:
        """Scores [..., V], or [..., n] of the tokens ``ids`` [n], of ``hidden`` [..., H]."""
        return model.logits(theta, hidden, ids)

    def operations(self, *, inputs: int, outputs: int | None = None,
                   trained: Literal["none", "prompt", "all"] = "none", context: int = 0) -> float:
        """Floating-point operations of one example; see :class:`dawgen_jax.backbones.base.Model`.

        The first output is read at the last input, so that inputs + outputs - 1 positions are computed. ``context`` is
        the number of positions in front of them whose keys and values are cached.

        >>> config = DecoderConfig(vocab_size=30, width=8, head_dim=4, d_ff=12, num_layers=1, num_heads=2,
        ...                        num_kv_heads=1)
        >>> DecoderOnly(config).operations(inputs=1) / 2 - (2 * 8 * 8 + 2 * 8 * 4 + 3 * 8 * 12)  # attention: 2 x 8
        16.0
        """
        scores, outputs = (0, 1) if outputs is None else (self.vocab_size, outputs)
        config, length = self.config, inputs + outputs - 1 if inputs else outputs
        inner, shared = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        layer = config.width * (2 * inner + 2 * shared + 3 * config.d_ff)
        kernels = config.num_layers * length * layer + outputs * config.width * scores
        attention = config.num_layers * 2 * inner * length * (length + context)
        # Backward, a product with weights costs once more (its input's gradient), or twice with the weights' own; a
        # product of two activations always twice.
        passes = {"none": (1, 1), "prompt": (2, 3), "all": (3, 3)}[trained]
        return 2.0 * (passes[0] * kernels + passes[1] * attention)

    def unstack(self, theta) -> dict:
        """``theta`` with a list of layers, in the compute dtype."""
        return model.unstack(theta, config=self.config)

    def unstacked_layout(self, axes: Mapping[str, int]) -> dict:
        """:meth:`layout` of :meth:`unstack`'s form."""
        return partition.unstacked(partition.layout(self.config, axes), self.config)

    def cache_heads(self, axes: Mapping[str, int]) -> str | None:
        """'tensor' if it divides the key heads."""
        return partition.heads_axis(self.config, axes)

    def empty(self, slots: int, source: int, new_tokens: int) -> Cache:
        """See :func:`dawgen_jax.backbones.decoder_only.decode.empty`."""
        return decode.empty(slots, source, new_tokens, config=self.config)

    def prefill(self, layers, embeddings, mask) -> Prefilled:
        """See :func:`dawgen_jax.backbones.decoder_only.decode.prefill`."""
        return decode.prefill(layers, embeddings, mask, config=self.config)

    def step(self, layers, cache: Cache, inputs, position) -> tuple[jax.Array, list]:
        """See :func:`dawgen_jax.backbones.decoder_only.decode.step`."""
        return decode.step(layers, cache, inputs, position, config=self.config)


def _at_last(states: jax.Array, mask: jax.Array) -> jax.Array:
    """[B, H] of [B, T, H] at the last real position."""
    return jnp.take_along_axis(states, model.last_position(mask)[:, None, None], axis=1, mode="clip")[:, 0]
