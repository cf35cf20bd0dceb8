"""A tiny decoder-only model with random weights: rotary positions, fewer key heads than query heads.

Inputs may be padded on any side and anywhere between: a position's number counts the real positions before it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from dawgen_jax.backbones.base import Cache, Prefilled
from dawgen_jax.backbones.engine import write


def _norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)


def _rotate(x, numbers):
    """[B, heads, T, d] rotated by the positions' ``numbers`` [B, T]."""
    angles = numbers[:, None, :, None] * 0.1 ** jnp.arange(x.shape[-1] // 2)[None, None, None]
    one, two = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([one * jnp.cos(angles) - two * jnp.sin(angles),
                            two * jnp.cos(angles) + one * jnp.sin(angles)], axis=-1)


@dataclasses.dataclass(frozen=True)
class Causal:
    """Without its parameters; of the Model protocol what decoding and scoring read."""

    vocab_size: int = 30
    width: int = 16
    heads: int = 4
    key_heads: int = 2
    size: int = 4
    depth: int = 2

    def init(self, key):
        """Layers are stacked on axis 0."""
        shapes = {"query": (self.width, self.heads * self.size), "key": (self.width, self.key_heads * self.size),
                  "value": (self.width, self.key_heads * self.size), "output": (self.heads * self.size, self.width),
                  "up": (self.width, 24), "down": (24, self.width)}
        *keys, one, two = jax.random.split(key, len(shapes) + 2)
        layers = {name: jax.random.normal(key, (self.depth, *shape)) / 2
                  for key, (name, shape) in zip(keys, shapes.items(), strict=True)}
        table = self.vocab_size, self.width
        return {"embedding": jax.random.normal(one, table), "head": jax.random.normal(two, table), "layers": layers}

    def embed(self, theta, tokens):
        return theta["embedding"][tokens]

    def logits(self, theta, hidden):
        return hidden @ theta["head"].T

    def layout(self, axes):
        return PartitionSpec()

    def unstack(self, theta):
        return {**theta, "layers": [jax.tree.map(lambda leaf, i=i: leaf[i], theta["layers"])
                                    for i in range(self.depth)]}

    def unstacked_layout(self, axes):
        return PartitionSpec()

    def cache_heads(self, axes):
        size = axes.get("tensor", 1)
        return "tensor" if size > 1 and self.key_heads % size == 0 else None

    def _heads(self, x, kernel):
        return (x @ kernel).reshape(*x.shape[:2], -1, self.size).swapaxes(1, 2)

    def _layer(self, layer, x, numbers, visible, remember=lambda pair: pair):
        """x [B, Q, H] behind a layer, and the keys and values that ``remember`` makes of the new ones."""
        y = _norm(x)
        query = _rotate(self._heads(y, layer["query"]), numbers)
        own = remember((_rotate(self._heads(y, layer["key"]), numbers), self._heads(y, layer["value"])))
        keys, values = (jnp.repeat(part, self.heads // self.key_heads, axis=1) for part in own)
        scores = jnp.where(visible[:, None], query @ keys.swapaxes(-1, -2) * self.size**-0.5, -1e30)
        mixed = (jax.nn.softmax(scores) @ values).swapaxes(1, 2)
        x = x + mixed.reshape(*x.shape[:2], -1) @ layer["output"]
        return x + jax.nn.silu(_norm(x) @ layer["up"]) @ layer["down"], own

    def _read(self, theta, x, mask):
        layers = theta["layers"] if isinstance(theta["layers"], list) else self.unstack(theta)["layers"]
        visible = jnp.tril(jnp.ones((x.shape[1],) * 2, bool))[None] & mask[:, None]
        numbers, pairs = jnp.cumsum(mask, axis=1) - 1, []
        for layer in layers:
            x, pair = self._layer(layer, x, numbers, visible)
            pairs.append(pair)
        return _norm(x), pairs

    def input_states(self, theta, embeddings, mask):
        return self._read(theta, embeddings, mask)[0]

    def target_states(self, theta, embeddings, mask, target):
        text = self.embed(theta, target[:, :-1])
        joined = jnp.concatenate([mask, jnp.ones(text.shape[:2], bool)], axis=1)
        states = self.input_states(theta, jnp.concatenate([embeddings, text], axis=1), joined)
        first = jnp.take_along_axis(states, last_position(mask)[:, None, None], axis=1)
        return jnp.concatenate([first, states[:, mask.shape[1]:]], axis=1)

    def empty(self, slots, source, new_tokens):
        def pairs(length):
            return [(jnp.zeros((slots, self.key_heads, length, self.size)),) * 2 for _ in range(self.depth)]

        mask, first = jnp.zeros((slots, source), bool), jnp.zeros((slots, self.width))
        return Cache(Prefilled(pairs(source), mask, first), pairs(new_tokens))

    def prefill(self, layers, embeddings, mask):
        last = last_position(mask)
        first = jnp.take_along_axis(embeddings, last[:, None, None], axis=1)[:, 0]
        rest = mask & (jnp.arange(mask.shape[1])[None] != last[:, None])
        return Prefilled(self._read(layers, embeddings, mask)[1], rest, first)

    def step(self, layers, cache, inputs, position):
        mask = cache.inputs.mask
        numbers = (jnp.sum(mask, axis=1, dtype=jnp.int32) + position)[:, None]
        length = cache.own[0][0].shape[2]
        visible = jnp.concatenate([mask, jnp.arange(length)[None] <= position[:, None]], axis=1)[:, None]
        x, own = inputs[:, None], []
        for layer, source, old in zip(layers["layers"], cache.inputs.layers, cache.own, strict=True):
            def remember(new, source=source, old=old):
                own.append(tuple(write(*parts, position) for parts in zip(old, new, strict=True)))
                return tuple(jnp.concatenate(parts, axis=2) for parts in zip(source, own[-1], strict=True))

            x, _ = self._layer(layer, x, numbers, visible, remember)
        return _norm(x)[:, 0], own


def last_position(mask):
    """int32 [B], the last real position."""
    return mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1).astype(jnp.int32)
