"""T5 as a :class:`dawgen_jax.backbones.base.Model`.

The encoder reads the input. The answer is the token <extra_id_0> of the template: the decoder reads
``[start, <extra_id_0>]``, and the second position gives the answer's state. (OpenPrompt also feeds the end of sequence
as a third decoder token; the decoder is causal, so the result is the same.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from dawgen_jax.backbones.base import Cache, Prefilled
from dawgen_jax.backbones.t5 import decode, model, partition
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.sizes import BACKWARD, FORWARD, TRAINING, operations

__all__ = ["T5"]


@dataclasses.dataclass(frozen=True)
class T5:
    """A T5 without its parameters.

    Attributes:
      config: shape and numerics.
      mask_id: id of <extra_id_0>, which the decoder reads before the answer.
      head: 0, since no special token starts an input.
    """

    config: T5Config
    mask_id: int = 0
    head: ClassVar[int] = 0

    @property
    def width(self) -> int:
        """H."""
        return self.config.d_model

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.config.vocab_size

    @property
    def projections(self) -> tuple[tuple[str, ...], ...]:
        """Kernels of self-attention and of the decoder's attention to the encoder."""
        modules = (("encoder", "attention"), ("decoder", "attention"), ("decoder", "cross"))
        return tuple((side, "layers", module, kernel) for side, module in modules
                     for kernel in ("query", "key", "value", "output"))

    def embed(self, theta, tokens) -> jax.Array:
        """Embeddings [B, T, H] of ``tokens`` [B, T], in the compute dtype."""
        return model.embed(theta, tokens, config=self.config)

    def abstract(self) -> dict:
        """Shapes of all parameters, in float32."""
        return model.abstract(self.config)

    def input_states(self, theta, embeddings, mask) -> jax.Array:
        """The encoder's states [B, T, H], after its final norm."""
        return model.encode(theta, embeddings, mask, config=self.config)

    def context(self, theta, embeddings, mask) -> None:
        """None: the encoder reads in both directions."""

    def answer_states(self, theta, embeddings, mask, context: None = None) -> jax.Array:
        """The decoder's states [B, H] at <extra_id_0>, over the encoded input [B, T, H]."""
        return self._decode(theta, embeddings, mask, [self.config.decoder_start_id, self.mask_id])[:, 1]

    def summary_states(self, theta, embeddings, mask) -> jax.Array:
        """The decoder's states [B, H] at the start token alone, over the encoded input [B, T, H]."""
        return self._decode(theta, embeddings, mask, [self.config.decoder_start_id])[:, 0]

    def target_states(self, theta, embeddings, mask, target) -> jax.Array:
        """The decoder's states [B, U, H], teacher forced on ``target`` [B, U], after its final norm."""
        encoded = model.encode(theta, embeddings, mask, config=self.config)
        start = jnp.full((target.shape[0], 1), self.config.decoder_start_id, target.dtype)
        return model.decode(theta, jnp.concatenate([start, target[:, :-1]], axis=1), encoded, mask, config=self.config)

    def logits(self, theta, hidden, ids=None) -> jax.Array:
        """Logits [..., V], or [..., n] of the tokens ``ids`` [n], of ``hidden`` [..., H]."""
        if ids is None:
            return model.logits(theta, hidden, config=self.config)
        return model.label_logits(theta, hidden, ids, config=self.config)

    def layout(self, axes: Mapping[str, int]) -> dict:
        """``PartitionSpec`` of every parameter; see :mod:`dawgen_jax.backbones.t5.partition`."""
        return partition.layout(self.config, axes)

    def operations(self, *, inputs: int, outputs: int | None = None,
                   trained: Literal["none", "prompt", "all"] = "none", context: int = 0) -> float:
        """See :class:`dawgen_jax.backbones.base.Model`; for an answer, the decoder reads two tokens. No context."""
        passes = {"none": FORWARD, "prompt": FORWARD + BACKWARD, "all": TRAINING}[trained]
        if outputs is None:
            return operations(self.config, passes, source=inputs, target=2)
        return operations(self.config, passes, source=inputs, target=outputs, logits=self.vocab_size)

    def unstack(self, theta) -> dict:
        """``theta`` in the compute dtype with a list of layers per stack."""
        return model.unstack(theta, config=self.config)

    def unstacked_layout(self, axes: Mapping[str, int]) -> dict:
        """:meth:`layout` for the result of :meth:`unstack`."""
        return partition.unstacked(partition.layout(self.config, axes), self.config)

    def cache_heads(self, axes: Mapping[str, int]) -> str | None:
        """'tensor' if it divides the heads."""
        return partition.heads_axis(self.config, axes)

    def empty(self, slots: int, source: int, new_tokens: int) -> Cache:
        """See :func:`dawgen_jax.backbones.t5.decode.empty`."""
        return decode.empty(slots, source, new_tokens, config=self.config)

    def prefill(self, layers, embeddings, mask) -> Prefilled:
        """See :func:`dawgen_jax.backbones.t5.decode.prefill`."""
        return decode.prefill(layers, embeddings, mask, config=self.config)

    def step(self, layers, cache: Cache, inputs, position) -> tuple[jax.Array, list]:
        """See :func:`dawgen_jax.backbones.t5.decode.step`."""
        return decode.step(layers, cache, inputs, position, config=self.config)

    def _decode(self, theta, embeddings, mask, inputs: list[int]) -> jax.Array:
        encoded = model.encode(theta, embeddings, mask, config=self.config)
        tokens = jnp.broadcast_to(jnp.array([inputs], jnp.int32), (embeddings.shape[0], len(inputs)))
        return model.decode(theta, tokens, encoded, mask, config=self.config)
