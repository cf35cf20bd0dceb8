"""T5 as pure functions of ``theta``, a plain nested dictionary of arrays.

    theta = {"embedding": [V, H], ("head": [V, H],) "encoder": stack, "decoder": stack}
    stack = {"layers": {...: [N, ...]}, "norm": {"scale": [H]}, ("bias": [buckets, heads])}

Layers are stacked on axis 0 and run by ``jax.lax.scan``; each is an NNX module merged with its slice of ``theta``.
``head`` is absent if the head is tied; ``bias`` is inside the layers if each has a table (umt5).

References:
  Raffel et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer,
  https://arxiv.org/abs/1910.10683, 2020.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dawgen_jax import prng
from dawgen_jax.backbones.layers import project, wide_dtype
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.modules import DecoderLayer, EncoderLayer, buckets, norm

__all__ = [
    "abstract",
    "decode",
    "embed",
    "encode",
    "head_rows",
    "init",
    "label_logits",
    "logits",
    "merge",
    "relative_bias",
    "unstack",
]

_LAYERS = {"encoder": EncoderLayer, "decoder": DecoderLayer}


@functools.cache
def _graphs(config: T5Config) -> dict[str, nnx.GraphDef]:
    """Static graph definitions of a layer of each stack and a norm."""
    graphs = {
        side: nnx.eval_shape(lambda layer=layer: layer(config, rngs=nnx.Rngs(0))) for side, layer in _LAYERS.items()
    }
    graphs["norm"] = nnx.eval_shape(lambda: norm(config))
    return {name: nnx.split(module)[0] for name, module in graphs.items()}


def merge(part: str, parameters, *, config: T5Config):
    """The module ``part`` ('encoder' or 'decoder' layer, or 'norm') with the given parameters of one layer."""
    return nnx.merge(_graphs(config)[part], parameters)


def init(config: T5Config, key: jax.Array):
    """A random ``theta`` with T5's initialisation, in float32.

    Embedding N(0, 1), query N(0, 1/(H d_kv)), other kernels N(0, 1/fan_in), norms 1. ``Departure:`` an untied head is
    N(0, 1/H) as in T5's code, whereas ``transformers`` uses N(0, 1) and starts with logits of size sqrt(H).
    """
    keys = jax.random.split(key, 4)
    normal = functools.partial(jax.random.normal, dtype=jnp.float32)  # even if float64 is the default

    def stack(side: str, key: jax.Array, layers: int):
        def layer(key):
            return nnx.to_pure_dict(nnx.state(_LAYERS[side](config, rngs=nnx.Rngs(key)), nnx.Param))

        parameters = {
            "layers": jax.vmap(layer)(jax.random.split(key, layers)),
            "norm": {"scale": jnp.ones(config.d_model, jnp.float32)},
        }
        if not config.per_layer_bias:
            shape = (config.relative_attention_num_buckets, config.num_heads)
            parameters["bias"] = config.d_model**-0.5 * normal(jax.random.fold_in(key, 1), shape)
        return parameters

    theta = {
        "embedding": normal(keys[0], (config.vocab_size, config.d_model)),
        "encoder": stack("encoder", keys[1], config.num_layers),
        "decoder": stack("decoder", keys[2], config.num_decoder_layers),
    }
    if not config.tied_head:
        theta["head"] = config.d_model**-0.5 * normal(keys[3], (config.vocab_size, config.d_model))
    return theta


def abstract(config: T5Config):
    """``theta`` as ``jax.ShapeDtypeStruct``s, for full-size models without their memory."""
    return jax.eval_shape(functools.partial(init, config), prng.key(0))


def unstack(theta, *, config: T5Config):
    """``theta`` in the compute dtype with each stack's layers as a list of trees; all functions here accept it.

    Decoding runs often on few tokens, where slicing the stacked arrays on every call would cost more than the layers.
    """

    def split(side: str, layers: int):
        stacked = jax.tree.map(lambda leaf: leaf.astype(config.dtype), theta[side]["layers"])
        return {**theta[side], "layers": [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(layers)]}

    return {
        **theta,
        "encoder": split("encoder", config.num_layers),
        "decoder": split("decoder", config.num_decoder_layers),
    }


def embed(theta, tokens: jax.Array, *, config: T5Config) -> jax.Array:
    """Embeddings [B, T, H] of ``tokens`` [B, T], in the compute dtype."""
    # Ids are not clipped: reading a tokenizer refuses ids of V or more.
    return jnp.take(theta["embedding"], tokens, axis=0, mode="clip").astype(config.dtype)


def relative_bias(
    table: jax.Array, positions: np.ndarray, keys: int, *, config: T5Config, bidirectional: bool
) -> jax.Array:
    """Relative bias [heads, Q, K] from a table [buckets, heads], for queries at ``positions`` [Q] and ``keys`` = K."""
    relative = np.arange(keys)[None, :] - np.asarray(positions)[:, None]
    chosen = buckets(relative, config=config, bidirectional=bidirectional)
    return jnp.moveaxis(jnp.take(table, chosen, axis=0).astype(wide_dtype(config.dtype)), -1, 0)


def _run(stack, x: jax.Array, mask: jax.Array, *extra, side: str, config: T5Config) -> jax.Array:
    """Apply all layers of a stack and its final norm."""
    length = x.shape[1]

    def bias(table):
        return relative_bias(table, np.arange(length), length, config=config, bidirectional=side == "encoder")[None]

    shared = None if config.per_layer_bias else bias(stack["bias"])

    def body(x, parameters):
        own = bias(parameters["bias"]) if config.per_layer_bias else shared
        return merge(side, parameters, config=config)(x, mask, own, *extra), None

    if isinstance(stack["layers"], list):
        for parameters in stack["layers"]:
            x, _ = body(x, parameters)
    else:
        layers = config.num_layers if side == "encoder" else config.num_decoder_layers
        unroll = min(config.scan_unroll, layers) or layers
        # Without a loop between the two passes, the compiler would merge the recomputed layers with the forward pass.
        body = jax.checkpoint(body, prevent_cse=unroll == layers) if config.remat else body
        x, _ = jax.lax.scan(body, x, stack["layers"], unroll=unroll)
    return merge("norm", stack["norm"], config=config)(x)


def encode(theta, embeddings: jax.Array, mask: jax.Array, *, config: T5Config) -> jax.Array:
    """The encoder's output after its final norm.

    Args:
      theta: parameters.
      embeddings: [B, T, H], including soft prompt rows, which count in relative positions.
      mask: bool [B, T], True at real positions; padding may be anywhere.
      config: the model.

    Returns:
      [B, T, H] in the compute dtype.
    """
    return _run(
        theta["encoder"], embeddings.astype(config.dtype), mask[:, None, None, :], side="encoder", config=config
    )


def decode(
    theta,
    tokens: jax.Array,
    encoded: jax.Array,
    encoder_mask: jax.Array,
    *,
    config: T5Config,
) -> jax.Array:
    """The decoder's hidden states after its final norm, before scaling for the head.

    Attention is causal, so padding on the right needs no mask.

    Args:
      theta: parameters.
      tokens: int [B, U] decoder inputs, already shifted right.
      encoded: [B, T, H] from :func:`encode`.
      encoder_mask: bool [B, T].
      config: the model.

    Returns:
      [B, U, H] in the compute dtype.
    """
    mask = jnp.tril(jnp.ones((tokens.shape[1],) * 2, bool))[None, None]
    return _run(
        theta["decoder"],
        embed(theta, tokens, config=config),
        mask,
        encoded.astype(config.dtype),
        encoder_mask[:, None, None, :],
        side="decoder",
        config=config,
    )


def head_rows(theta, ids: jax.Array | None = None) -> jax.Array:
    """Rows [n, H] of the output head (the embedding if tied), by default all."""
    head = theta.get("head", theta["embedding"])
    return head if ids is None else jnp.take(head, jnp.asarray(ids), axis=0)


def _project(hidden: jax.Array, rows: jax.Array, config: T5Config) -> jax.Array:
    if config.scale_decoder_outputs:
        hidden = hidden * config.d_model**-0.5
    return project(hidden, rows)


def logits(theta, hidden: jax.Array, *, config: T5Config) -> jax.Array:
    """Logits [..., V] of ``hidden`` [..., H], in float32 or wider."""
    return _project(hidden, head_rows(theta), config)


def label_logits(theta, hidden: jax.Array, ids: jax.Array, *, config: T5Config) -> jax.Array:
    """The columns ``ids`` [n] of :func:`logits`, [..., n], without computing the others."""
    return _project(hidden, head_rows(theta, ids), config)
