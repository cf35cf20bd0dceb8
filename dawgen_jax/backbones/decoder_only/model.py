"""A decoder-only model as pure functions of ``theta``, a plain nested dictionary of arrays.

    theta = {"embedding": [V, H], ("head": [V, H],) "layers": {...: [N, ...]}, "norm": {"scale": [H]}}

Layers are stacked on axis 0 and run by ``jax.lax.scan``; each is an NNX module merged with its slice of ``theta``.
``head`` is absent if the head is tied.

Padding may be anywhere: positions count real tokens only, and no real position attends to padding.

References:
  Touvron et al., LLaMA: Open and Efficient Foundation Language Models, https://arxiv.org/abs/2302.13971, 2023.
  Ainslie et al., GQA: Training Generalized Multi-Query Transformer Models, https://arxiv.org/abs/2305.13245, 2023.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dawgen_jax import prng
from dawgen_jax.backbones.decoder_only import modules
from dawgen_jax.backbones.decoder_only.config import DecoderConfig
from dawgen_jax.backbones.decoder_only.modules import Layer, rotary
from dawgen_jax.backbones.layers import project

__all__ = ["Context", "abstract", "angles", "causal", "context", "embed", "init", "last_position", "logits", "merge",
           "run", "unstack"]


class Context(NamedTuple):
    """Cached keys and values of a text, to which later positions attend.

    Attributes:
      keys: [B, T, N, kv heads, d], rotated; examples and positions come first, so that batches are drawn from texts.
      values: [B, T, N, kv heads, d].
      mask: bool [B, T], True at real positions.
    """

    keys: jax.Array
    values: jax.Array
    mask: jax.Array


@functools.cache
def _graphs(config: DecoderConfig) -> dict[str, nnx.GraphDef]:
    """Static graph definitions of a layer and a norm."""
    graphs = {"layer": nnx.eval_shape(lambda: Layer(config, rngs=nnx.Rngs(0))),
              "norm": nnx.eval_shape(lambda: modules.norm(config, config.width))}
    return {name: nnx.split(module)[0] for name, module in graphs.items()}


def merge(part: str, parameters, *, config: DecoderConfig):
    """The module ``part`` ('layer' or 'norm') with the given parameters of one layer."""
    return nnx.merge(_graphs(config)[part], parameters)


def init(config: DecoderConfig, key: jax.Array):
    """A random ``theta`` in float32: kernels N(0, 1/fan_in), embedding and head N(0, 1/H), biases 0, norms 1."""
    keys = jax.random.split(key, 3)

    def layer(key):
        return nnx.to_pure_dict(nnx.state(Layer(config, rngs=nnx.Rngs(key)), nnx.Param))

    shape, std = (config.vocab_size, config.width), config.width**-0.5
    theta = {
        "embedding": std * jax.random.normal(keys[0], shape),
        "layers": jax.vmap(layer)(jax.random.split(keys[1], config.num_layers)),
        "norm": {"scale": jnp.ones(config.width)},
    }
    if not config.tied_head:
        theta["head"] = std * jax.random.normal(keys[2], shape)
    return theta


def abstract(config: DecoderConfig):
    """``theta`` as ``jax.ShapeDtypeStruct``s, for full-size models without their memory."""
    return jax.eval_shape(functools.partial(init, config), prng.key(0))


def unstack(theta, *, config: DecoderConfig):
    """``theta`` in the compute dtype with the layers as a list of trees.

    Decoding runs often on few tokens, where slicing the stacked arrays on every call would cost more than the layers.
    """
    stacked = jax.tree.map(lambda leaf: leaf.astype(config.dtype), theta["layers"])
    return {**theta, "layers": [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(config.num_layers)]}


def embed(theta, tokens: jax.Array, *, config: DecoderConfig) -> jax.Array:
    """Embeddings [B, T, H] of ``tokens`` [B, T], in the compute dtype."""
    return jnp.take(theta["embedding"], tokens, axis=0, mode="clip").astype(config.dtype)


def angles(mask: jax.Array, *, config: DecoderConfig, start: jax.Array | None = None, longest: int = 0) -> jax.Array:
    """Cosines and sines [2, B, T, d / 2] of the rotary angles of a text.

    Args:
      mask: bool [B, T], True at real positions; padding does not advance the position.
      config: the model.
      start: int32 [B], position of each row's first real token; None is 0.
      longest: exclusive upper bound of the positions; 0 uses T.
    """
    positions = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
    if start is not None:
        positions = positions + start[:, None]
    return jnp.take(rotary(config, longest or mask.shape[1]), positions, axis=1, mode="clip")


def causal(mask: jax.Array) -> jax.Array:
    """bool [B, T, T], True if a position attends to a key: real keys up to the position, and always itself.

    A padding position would otherwise attend to nothing, and softmax over nothing is NaN.
    """
    length = mask.shape[1]
    return jnp.tril(jnp.ones((length, length), bool))[None] & mask[:, None, :] | jnp.eye(length, dtype=bool)[None]


def last_position(mask: jax.Array) -> jax.Array:
    """int32 [B], the last real position of each row; 0 if the row is empty."""
    return jnp.max(jnp.where(mask, jnp.arange(mask.shape[1], dtype=jnp.int32)[None], 0), axis=1)


def run(theta, embeddings: jax.Array, mask: jax.Array, *, config: DecoderConfig, context: Context | None = None,
        keep: bool = False) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
    """Apply all layers and the final norm.

    Args:
      theta: parameters.
      embeddings: [B, T, H].
      mask: bool [B, T], True at real positions; padding may be anywhere.
      config: the model.
      context: cached keys and values of a text in front of ``embeddings``, if any.
      keep: whether to return the layers' keys and values.

    Returns:
      (states [B, T, H] in the compute dtype, keys and values [N, B, kv heads, T, d] or None).
    """
    x, length = embeddings.astype(config.dtype), embeddings.shape[1]
    start, longest, past = None, length, None
    if context is not None:
        start, longest = context.mask.sum(1, dtype=jnp.int32), length + context.mask.shape[1]
        past = tuple(part.astype(x.dtype).transpose(2, 0, 3, 1, 4) for part in (context.keys, context.values))
    turned, own = angles(mask, config=config, start=start, longest=longest), causal(mask)

    def body(x, layer):
        parameters, past = layer
        front = () if past is None else ((*past, context.mask[:, None, :]),)
        x, keys_values = merge("layer", parameters, config=config)(x, turned, *front, own=own)
        return x, keys_values if keep else None

    unroll = min(config.scan_unroll, config.num_layers) or config.num_layers
    # Without a loop between the two passes, the compiler would merge the recomputed layers with the forward pass.
    body = jax.checkpoint(body, prevent_cse=unroll == config.num_layers) if config.remat else body
    x, kept = jax.lax.scan(body, x, (theta["layers"], past), unroll=unroll)
    return merge("norm", theta["norm"], config=config)(x), kept


def context(theta, embeddings: jax.Array, mask: jax.Array, *, config: DecoderConfig) -> Context:
    """The keys and values of a text, without gradient, for inputs that follow it.

    A text in front of a soft prompt does not depend on the prompt, so it is computed once for all prompts.
    """
    _, kept = run(theta, embeddings, mask, config=config, keep=True)
    return jax.lax.stop_gradient(Context(*(part.transpose(1, 3, 0, 2, 4) for part in kept), mask))


def logits(theta, hidden: jax.Array, ids: jax.Array | None = None) -> jax.Array:
    """Logits [..., V], or [..., n] of the tokens ``ids`` [n], of ``hidden`` [..., H], in float32 or wider."""
    head = theta.get("head", theta["embedding"])
    return project(hidden, head if ids is None else jnp.take(head, jnp.asarray(ids), axis=0))
