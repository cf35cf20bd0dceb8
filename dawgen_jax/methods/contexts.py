"""Texts in front of a soft prompt, computed once: a causal model's text does not depend on a prompt behind it.

While weights and text embeddings are fixed, a text's keys and values are constants: they need no gradient, and serve
every update, label, parameter set and seed. A batch with a ``context`` holds them in place of the text's tokens.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax.backbones.base import Backbone, Model
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.data.encoding import rectangle
from dawgen_jax.evaluation.predict import length_batches
from dawgen_jax.training.placement import Placement

__all__ = ["Contexts", "encode"]

log = logging.getLogger(__name__)
_GIB = 2**30


def encode(theta, batch: ClassifierBatch, *, model: Model, tail: int) -> ClassifierBatch:
    """A batch with the context of its texts, computed inside a program, and the tokens behind them alone.

    Args:
      theta: parameters of the backbone.
      batch: [B, T], padded anywhere.
      model: a causal backbone.
      tail: n, the real tokens of every row after the prompt.

    Returns:
      The batch with tokens and mask [B, n] and a context of leaves [B, T, ...], without gradient.
    """
    length = batch.tokens.shape[1]
    order = jnp.cumsum(batch.mask, axis=1, dtype=jnp.int32)
    front = batch.mask & (order <= order[:, -1:] - tail)
    behind = jnp.argsort(batch.mask & ~front, axis=1, stable=True)[:, length - tail:]
    tokens, mask = (jnp.take_along_axis(leaf, behind, axis=1) for leaf in (batch.tokens, batch.mask))
    context = model.context(theta, model.embed(theta, batch.tokens), front)
    return batch._replace(tokens=tokens, mask=mask, context=context)


@functools.lru_cache(maxsize=16)
def _compiled(model: Model, placement: Placement) -> Callable:
    def context(params, theta, batch: ClassifierBatch):
        return model.context(theta, model.embed(theta, batch.tokens), batch.mask)

    return placement.compile_score(context, batch_axis=0, model=model)


class Contexts:
    """Contexts of texts on the host: each distinct text is computed once, as long as all fit in a limit.

    A position of SmolLM2-135M takes 46 kB in float32 (keys and values of 30 layers with 3 heads of 64). A text above
    the limit is computed again for every batch that it is drawn for: the same numbers, for a forward pass each time.
    """

    def __init__(self, backbone: Backbone, tail: int, *, gib: float, size: int, multiple: int):
        """Nothing is computed yet.

        Args:
          backbone: a frozen causal model, placed.
          tail: tokens of every row after the prompt.
          gib: limit of what is kept, in GiB.
          size: texts that are computed together.
          multiple: of the token axis.
        """
        self._backbone, self._placement = backbone, Placement.of(backbone.theta)
        self._tail, self._limit, self._size, self._multiple = tail, gib * _GIB, size, multiple
        self._kept: dict[bytes, Any] = {}

    def keep(self, sets: Iterable[ClassifierBatch], title: str) -> None:
        """Compute the contexts of the texts of ``sets``, from the first on, and forget all others.

        Args:
          sets: [N, T] each.
          title: for the log.
        """
        parts = [dict.fromkeys(self._texts(one)) for one in sets]
        wanted = dict.fromkeys(text for part in parts for text in part)
        self._kept = {text: self._kept[text] for text in wanted if text in self._kept}
        size = sum(map(_bytes, self._kept.values()))
        for part in parts:  # one by one, so that what is computed together does not depend on other sets
            for text, made in self._computed([text for text in part if text not in self._kept]):
                size += _bytes(made)
                if size > self._limit:
                    log.warning("%s: keys and values of %d of %d texts fit in classifier.context_cache_gib = %g; the "
                                "others are computed again for every batch. Raise it if there is memory.", title,
                                len(self._kept), len(wanted), self._limit / _GIB)
                    return
                self._kept[text] = made
        log.info("%s: keys and values of %d texts are kept in %.2g GiB of memory.", title, len(wanted), size / _GIB)

    def attach(self, batch: ClassifierBatch) -> ClassifierBatch:
        """A batch [..., B, T], padded on the right, with the contexts of its texts, leaves [..., B, T', ...]."""
        texts, shape = self._texts(batch), batch.mask.shape[:-1]
        missing = dict(self._computed([text for text in dict.fromkeys(texts) if text not in self._kept]))
        found = [self._kept[text] if text in self._kept else missing[text] for text in texts]
        lengths = self._lengths(batch)
        width = max(1, -(-int(lengths.max()) // self._multiple)) * self._multiple

        def joined(*leaves: np.ndarray) -> np.ndarray:
            whole = np.zeros((len(leaves), width, *leaves[0].shape[1:]), leaves[0].dtype)  # zeros are masked
            for place, leaf in enumerate(leaves):
                whole[place, :len(leaf)] = leaf
            return whole.reshape(*shape, *whole.shape[1:])

        # A row of padding has no tokens at all: its mask is False wherever this points.
        behind = np.minimum(lengths[..., None] + np.arange(self._tail), batch.mask.shape[-1] - 1)
        tokens, mask = (np.take_along_axis(leaf, behind, axis=-1) for leaf in (batch.tokens, batch.mask))
        return batch._replace(tokens=tokens, mask=mask, context=jax.tree.map(joined, *found))

    def _lengths(self, batch: ClassifierBatch) -> np.ndarray:
        """Tokens of every row [..., B] in front of the prompt."""
        return np.maximum(batch.mask.sum(axis=-1) - self._tail, 0)

    def _texts(self, batch: ClassifierBatch) -> list[bytes]:
        """The tokens before the prompt of every row, as bytes."""
        rows = batch.tokens.reshape(-1, batch.tokens.shape[-1]).astype(np.int32)
        return [row[:length].tobytes() for row, length in zip(rows, self._lengths(batch).flat, strict=True)]

    def _computed(self, texts: Sequence[bytes]) -> Iterator[tuple[bytes, Any]]:
        """Each text with its context, leaves [T, ...], the shortest first."""
        if not texts:
            return
        rows = [np.frombuffer(text, np.int32) for text in texts]
        data = ClassifierBatch(*rectangle(rows, self._multiple), np.zeros(len(rows), np.int32),
                               np.ones(len(rows), np.float32))
        program = _compiled(self._backbone.model, self._placement)
        together = self._placement.rows(min(self._size, 1 << (len(rows) - 1).bit_length()))  # few shapes to compile
        for chosen, batch in length_batches(data, together, self._multiple):
            made = jax.tree.map(np.asarray, program((), self._backbone.theta, batch))
            for place, index in enumerate(chosen):
                length = len(rows[index])
                yield texts[index], jax.tree.map(lambda leaf, i=place, n=length: leaf[i, :n].copy(), made)


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
