"""Gradient surgery as an optax transform: gradients of S sources ``[S, *params] -> [*params]``.

It stands first in a chain: ``optax.chain(gradient_surgery(epsilon), clip, adafactor)``; the gradients are raw. Under
data parallelism they are the all-reduced ones, so that the sign of an inner product is that of the whole batch.
``optax.MultiSteps`` around it would average over sources' places: accumulate per source first.

A source that is not finite: the direction is zero and counted in the state; whoever applies it leaves parameters
and optimiser state as they were.

Departure: the paper feeds the direction to an SGD step; here it goes to whatever follows in the chain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from optax.experimental import aggregating

from dawgen_jax.config import check_choice
from dawgen_jax.errors import ConfigError
from dawgen_jax.surgery import weightings
from dawgen_jax.surgery.gramian import combine, gramian, units

__all__ = ["AggregatorState", "aggregator", "gradient_surgery", "weighted_sum"]

Scope = Literal["global", "leaf", "row"]


class AggregatorState(NamedTuple):
    """What an aggregator has seen. A pair is a source beside the reference, for each unit of the scope.

    Attributes:
      count: int32, updates so far, the non-finite ones left out.
      conflicts: float32, sum over updates of the share of pairs with <d_s, d_r> < 0; over count: the conflict rate.
      nonfinite: int32, updates that a source was not finite in; their direction was zero.
      cosine: float32, mean cosine of the pairs in the last update.
      projected: float32, mean share |d_s - d_s'| / |d_s| of the pairs in the last update that Algorithm 2 removes
        (for other aggregators: would remove).
    """

    count: jax.Array
    conflicts: jax.Array
    nonfinite: jax.Array
    cosine: jax.Array
    projected: jax.Array


def gradient_surgery(epsilon: float = 1.0, reference: int = 0, scope: Scope = "global") -> aggregating.Aggregator:
    """Algorithm 2: d = d_r + epsilon * sum_s d_s', d_s' = d_s - min(<d_s, d_r>, 0) / <d_r, d_r> * d_r.

    Args:
      epsilon: weight of the synthetic gradients d_s after projection, 0 or more.
      reference: index r of the real source.
      scope: what an inner product runs over: 'global' all parameters, 'leaf' each array, 'row' each array's last
        axis (one prompt row).

    Returns:
      An aggregator; inner products in float32 or wider, the direction in the dtype of the gradients.

    Raises:
      ConfigError: the scope is none of these, epsilon is below 0, or (from the update, which sees how many there are)
        no source has that index.

    >>> transform = gradient_surgery()
    >>> grads = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    >>> direction, state = transform.update(grads, transform.init(grads[0]))
    >>> direction.round(4), float(state.conflicts)
    (Array([-2.8889,  3.2222,  3.2222], dtype=float32), 1.0)

    References:
      Guo, Du, Li, Miao: Generating Synthetic Datasets for Few-shot Prompt Tuning, 2024,
      https://arxiv.org/abs/2410.10865.
    """
    weighting = partial(weightings.surgery, epsilon=_not_negative(epsilon), reference=reference)
    return _aggregator(lambda count, number: weighting, reference, scope)


def weighted_sum(epsilon: float = 1.0, reference: int = 0) -> aggregating.Aggregator:
    """d = d_r + epsilon * sum_s d_s, the arm (Real, Syn); conflicts are counted all the same.

    Raises:
      ConfigError: as in :func:`gradient_surgery`.
    """
    weighting = partial(weightings.total, epsilon=_not_negative(epsilon), reference=reference)
    return _aggregator(lambda count, number: weighting, reference, "global")


def aggregator(name: str, *, epsilon: float = 1.0, scope: Scope = "global", seed: int = 0) -> aggregating.Aggregator:
    """The aggregator of that name: 'surgery', 'sum', 'pcgrad', 'mgda', 'cagrad' or 'upgrad'.

    With one source (S = 1) each returns its gradient unchanged.

    Args:
      name: 'surgery' is Algorithm 2, 'sum' the same without projection; the others treat all sources alike.
      epsilon: weight of the synthetic gradients in 'surgery' and 'sum'; the others have none.
      scope: as in :func:`gradient_surgery`.
      seed: of PCGrad's order, drawn anew for each update from (seed, count).

    Raises:
      ConfigError: no aggregator has that name, the scope is unknown, or epsilon is below 0.
    """
    check_choice("name", name, "surgery", "sum", "pcgrad", "mgda", "cagrad", "upgrad")
    if name == "surgery":
        return gradient_surgery(epsilon, 0, scope)
    if name == "sum":
        return weighted_sum(epsilon)
    if name == "pcgrad":
        return _aggregator(partial(_ordered_pcgrad, seed), 0, scope)
    symmetric = {"mgda": weightings.mgda, "cagrad": weightings.cagrad, "upgrad": weightings.upgrad}
    return _aggregator(lambda count, number: symmetric[name], 0, scope)


def _not_negative(epsilon: float) -> float:
    if not 0 <= epsilon < math.inf:
        raise ConfigError(f"epsilon = {epsilon!r}: must be finite, and 0 or more.")
    return epsilon


def _ordered_pcgrad(seed: int, count: jax.Array, number: int) -> Callable:
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), count), number)
    order = jax.vmap(lambda key: jax.random.permutation(key, number))(keys)
    return partial(weightings.pcgrad, order=order)


def _aggregator(make_weighting: Callable, reference: int, scope: str) -> aggregating.Aggregator:
    """``make_weighting(count, S)`` gives the (Gramian, scales) -> weights function of one update."""
    check_choice("scope", scope, "global", "leaf", "row")

    def init(params):
        del params
        # Arrays of their own: a step that donates its state must not be given one twice.
        return AggregatorState(*(jnp.zeros((), dtype) for dtype in (
            jnp.int32, jnp.float32, jnp.int32, jnp.float32, jnp.float32)))

    def update(updates, state, params=None, **extra_args):
        del extra_args
        leaves, tree = jax.tree.flatten(updates)
        number = leaves[0].shape[0]
        if params is not None:
            _check_shapes(leaves, jax.tree.leaves(params), number)
        if not 0 <= reference < number:
            raise ConfigError(f"reference = {reference}: must be the index of one of the {number} sources.")
        groups = [leaves] if scope == "global" else [[leaf] for leaf in leaves]
        weighting = jnp.vectorize(make_weighting(state.count, number), signature="(s,s),(s)->(s)")
        directions, pairs = [], []
        for group in groups:
            if number == 1:
                directions += [leaf[0] for leaf in group]
                continue
            kept = max(group[0].ndim - 2, 0) if scope == "row" else 0
            unit, scales = units(group, kept)
            products = gramian(unit, kept)
            directions += combine(unit, weighting(products, scales))
            pairs.append(_cosines(products, reference))
        directions = [new.astype(leaf.dtype) for new, leaf in zip(directions, leaves, strict=True)]
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in (*leaves, *directions)]).all()
        cosine = jnp.concatenate(pairs) if pairs else jnp.zeros(1)
        counted = AggregatorState(
            count=state.count + 1,
            conflicts=state.conflicts + jnp.mean(cosine < 0, dtype=jnp.float32),
            nonfinite=state.nonfinite,
            cosine=jnp.mean(cosine).astype(jnp.float32),
            projected=jnp.mean(jnp.maximum(-cosine, 0)).astype(jnp.float32),
        )
        skipped = state._replace(nonfinite=state.nonfinite + 1)
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), counted, skipped)
        return tree.unflatten([jnp.where(finite, leaf, 0) for leaf in directions]), state

    return aggregating.Aggregator(init, update)  # pyrefly: ignore  (keywords that it takes and its type does not name)


def _check_shapes(leaves: list[jax.Array], params: list[jax.Array], number: int) -> None:
    """Raise a ConfigError unless every gradient is its parameter with one axis of sources in front."""
    for leaf, param in zip(leaves, params, strict=True):
        if leaf.shape[1:] != param.shape or leaf.shape[0] != number:
            want = ", ".join(["S", *map(str, param.shape)])
            raise ConfigError(f"the gradients of S sources are wanted with a leading axis: expected [{want}], got "
                              f"{list(leaf.shape)}.")


def _cosines(products: jax.Array, reference: int) -> jax.Array:
    """Cosine of every source but the reference with it, flat; 0 beside a zero gradient."""
    norms = jnp.sqrt(jnp.diagonal(products, axis1=-2, axis2=-1))
    scale = norms * norms[..., reference, None]
    cosine = jnp.where(scale > 0, products[..., reference, :] / jnp.where(scale > 0, scale, 1), 0)
    return jnp.delete(cosine, reference, axis=-1, assume_unique_indices=True).reshape(-1)
