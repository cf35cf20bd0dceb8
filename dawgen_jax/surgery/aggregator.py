"""Gradient surgery as an optax transform: gradients of S sources ``[S, *params] -> [*params]``.

It takes raw gradients, so it precedes the optimiser: ``optax.chain(gradient_surgery(), optax.adafactor(0.3))``.
Transforms that act on each source separately may precede it. Under data parallelism the gradients must be all-reduced,
so that the sign of an inner product refers to the whole batch.

``optax.MultiSteps`` follows it in the chain and accumulates directions. To accumulate gradients per source instead,
wrap only the aggregator and initialise the wrapper with arrays [S, *params]. On a mesh with explicit axes, wrap
``update`` in ``jax.sharding.auto_axes``.

Departure: the paper feeds the direction to an SGD step; here the rest of the chain uses it.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import keystr
from optax.experimental import aggregating

from dawgen_jax.errors import ConfigError
from dawgen_jax.surgery import weightings
from dawgen_jax.surgery.gramian import combine, gramian, units

__all__ = ["AggregatorState", "aggregator", "gradient_surgery", "weighted_sum"]

Scope = Literal["global", "leaf", "row"]


class AggregatorState(NamedTuple):
    """Statistics of an aggregator; ``optax.tree.get(opt_state, "AggregatorState")`` finds them in any chain.

    A pair consists of a source and the reference, and has one inner product per unit of the scope.

    Attributes:
      count: int32, number of finite updates.
      conflicts: float32, sum over updates of the share of pairs with <d_s, d_r> < 0; divided by count, it is the
        conflict rate.
      nonfinite: int32, number of updates with a gradient or direction that is not finite; their direction is zero.
      cosine: float32, mean cosine of the pairs in the last update; 0 without pairs.
      projected: float32, mean share ``|d_s - d_s'| / |d_s|`` of the pairs in the last update that Algorithm 2 removes,
        or would remove if the aggregator is another one.
    """

    count: jax.Array
    conflicts: jax.Array
    nonfinite: jax.Array
    cosine: jax.Array
    projected: jax.Array


def gradient_surgery(epsilon: jax.typing.ArrayLike = 1.0, reference: int | jax.Array = 0,
                     scope: Scope = "global") -> aggregating.Aggregator:
    """Algorithm 2: remove from synthetic gradients their component against the real gradient, then add them.

    d = d_r + epsilon * sum_{s != r} d_s'    with    d_s' = d_s - min(<d_s, d_r>, 0) / <d_r, d_r> * d_r

    Args:
      epsilon: weight of the projected synthetic gradients d_s', finite and 0 or more.
      reference: index r of the real source.
      scope: parameters over which an inner product is computed: 'global' for all, 'leaf' for each array, 'row' for the
        last axis of each array (one virtual token of a prompt).

    Returns:
      An aggregator of gradients ``[S, *params]``. Inner products are in float32 or wider; the direction ``[*params]``
      has the dtype of the gradients. If a gradient is not finite, the direction is zero and the state counts the
      update.

    Raises:
      ConfigError: unknown scope, or epsilon out of range; from the update, ``reference`` is not a source, or a gradient
        has no source axis. Traced numbers, as under ``optax.inject_hyperparams``, are not checked: an update with a
        ``reference`` out of range counts as non-finite.

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


def weighted_sum(epsilon: jax.typing.ArrayLike = 1.0, reference: int | jax.Array = 0) -> aggregating.Aggregator:
    """The sum of all gradients without projection, the paper's (Real, Syn); conflicts are counted too.

    d = d_r + epsilon * sum_{s != r} d_s

    Args:
      epsilon: weight of the synthetic gradients d_s, finite and 0 or more.
      reference: index r of the real source.

    Returns:
      An aggregator; see :func:`gradient_surgery`.

    Raises:
      ConfigError: see :func:`gradient_surgery`.

    >>> transform = weighted_sum(epsilon=0.5)
    >>> grads = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    >>> transform.update(grads, transform.init(grads[0]))[0]
    Array([-1. ,  1.5,  1.5], dtype=float32)
    """
    weighting = partial(weightings.total, epsilon=_not_negative(epsilon), reference=reference)
    return _aggregator(lambda count, number: weighting, reference, "global")


def aggregator(name: str, *, epsilon: jax.typing.ArrayLike = 1.0, scope: Scope = "global",
               seed: jax.typing.ArrayLike = 0) -> aggregating.Aggregator:
    """An aggregator by name: 'surgery', 'sum', 'pcgrad', 'mgda', 'cagrad' or 'upgrad'.

    With one source (S = 1), each returns the source's gradient unchanged.

    Args:
      name: 'surgery' is Algorithm 2, 'sum' omits the projection; the others treat all sources alike.
      epsilon: weight of the synthetic gradients in 'surgery' and 'sum', ignored by the others.
      scope: see :func:`gradient_surgery`; ignored by 'sum'.
      seed: seed for PCGrad's order, which is sampled per update from (seed, count).

    Returns:
      An aggregator, as in :func:`gradient_surgery`; :mod:`dawgen_jax.surgery.weightings` defines the weights.

    Raises:
      ConfigError: unknown name or scope, or epsilon out of range.

    >>> transform = aggregator("mgda")
    >>> grads = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    >>> transform.update(grads, transform.init(grads[0]))[0].round(4) + 0.0
    Array([0., 1., 1.], dtype=float32)
    """
    symmetric = {"mgda": weightings.mgda, "cagrad": weightings.cagrad, "upgrad": weightings.upgrad}
    _check_choice("name", name, "surgery", "sum", "pcgrad", *symmetric)
    _check_choice("scope", scope, "global", "leaf", "row")
    if name == "surgery":
        return gradient_surgery(epsilon, 0, scope)
    if name == "sum":
        return weighted_sum(epsilon)
    if name == "pcgrad":
        return _aggregator(partial(_ordered_pcgrad, seed), 0, scope)
    return _aggregator(lambda count, number: symmetric[name], 0, scope)


def _check_choice(name: str, value: str, *choices: str) -> None:
    if value not in choices:
        *most, last = map(repr, choices)
        raise ConfigError(f"{name} = {value!r}: must be {', '.join(most)} or {last}.")


def _not_negative(epsilon: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
    if isinstance(epsilon, numbers.Real) and not 0 <= epsilon < math.inf:
        raise ConfigError(f"epsilon = {epsilon!r}: must be finite, and 0 or more.")
    return epsilon


def _ordered_pcgrad(seed: jax.typing.ArrayLike, count: jax.Array, number: int) -> Callable:
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), count)  # independent of the default generator
    order = jax.vmap(lambda key: jax.random.permutation(key, number))(jax.random.split(key, number))
    return partial(weightings.pcgrad, order=order)


def _aggregator(make_weighting: Callable, reference: int | jax.Array, scope: str) -> aggregating.Aggregator:
    """An aggregator from ``make_weighting(count, S)``, which returns (Gramian, scales) -> weights for one update."""
    _check_choice("scope", scope, "global", "leaf", "row")

    def init(params):
        del params
        # Separate arrays, since a step that donates its state must not receive an array twice.
        return AggregatorState(*(jnp.zeros((), dtype) for dtype in (
            jnp.int32, jnp.float32, jnp.int32, jnp.float32, jnp.float32)))

    def update(updates, state, params=None, **extra_args):
        del extra_args
        number = _number_of_sources(updates, params)
        leaves, tree = jax.tree.flatten(updates)
        gradients = [jnp.asarray(leaf) for leaf in leaves if leaf.dtype != jax.dtypes.float0]
        if leaves and isinstance(reference, numbers.Real) and not 0 <= reference < number:
            raise ConfigError(f"reference = {reference}: must be the index of one of the {number} sources.")
        weighting = jnp.vectorize(make_weighting(state.count, number), signature="(s,s),(s)->(s)")
        directions, cosine = _directions(gradients, weighting, reference, scope)
        finite = [jnp.isfinite(leaf).all() for leaf in (*gradients, *directions)]
        if isinstance(reference, jax.Array):
            finite.append((reference >= 0) & (reference < number))
        finite = jnp.stack(finite).all() if finite else True
        counted = AggregatorState(
            count=state.count + 1,
            conflicts=state.conflicts + jnp.mean(cosine < 0, dtype=jnp.float32),
            nonfinite=state.nonfinite,
            cosine=jnp.mean(cosine).astype(jnp.float32),
            projected=jnp.mean(jnp.maximum(-cosine, 0)).astype(jnp.float32),
        )
        skipped = state._replace(nonfinite=state.nonfinite + 1)
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), counted, skipped)
        rest = (jnp.where(finite, leaf, 0) for leaf in directions)
        # float0, the gradient of an integer parameter, supports no arithmetic: return one source's gradient.
        return tree.unflatten([leaf[0] if leaf.dtype == jax.dtypes.float0 else next(rest) for leaf in leaves]), state

    return aggregating.Aggregator(init, update)  # pyrefly: ignore  (its type does not list the keywords)


def _number_of_sources(updates: Any, params: Any) -> int:
    """S, or 0 for an empty tree; raises ConfigError unless each gradient is [S, *shape of its parameter]."""
    leaves = jax.tree.leaves_with_path(updates)
    shapes = [None] * len(leaves) if params is None else [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]
    if len(shapes) != len(leaves):
        raise ConfigError(f"gradients: expected an array for each of the {len(shapes)} parameter arrays, got "
                          f"{len(leaves)}; take both from the same tree.")
    number = 0
    for (path, leaf), shape in zip(leaves, shapes, strict=True):
        name, got = f"gradients{keystr(path)}", jnp.shape(leaf)
        first = number or (got[0] if got else 0)
        if not first or got[:1] != (first,) or shape not in (None, got[1:]):
            want = ", ".join(map(str, [number or "S", *(("...",) if shape is None else shape)]))
            raise ConfigError(f"{name}: expected [{want}], got {list(got)}; take one gradient per source with "
                              "jax.vmap, and put optax.MultiSteps after the aggregator.")
        if not jnp.issubdtype(leaf.dtype, jnp.inexact) and leaf.dtype != jax.dtypes.float0:
            raise ConfigError(f"{name}: expected a floating-point dtype, got {leaf.dtype}; mask it with optax.masked.")
        number = first
    return number


def _directions(gradients: list[jax.Array], weighting: Callable, reference: int | jax.Array, scope: str
                ) -> tuple[list[jax.Array], jax.Array]:
    """The direction of each gradient [S, ...], in its dtype, and the cosines of all pairs, flat."""
    directions = [leaf[0] for leaf in gradients]  # correct for one source and for empty arrays
    paired = [i for i, leaf in enumerate(gradients) if leaf.size and len(leaf) > 1]
    # One dtype for all leaves. jnp.promote_types would refuse bfloat16 with float32 under strict promotion.
    wide = jnp.float64 if any(jnp.finfo(leaf.dtype).bits == 64 for leaf in gradients) else jnp.float32
    cosines = []
    for group in [paired] * bool(paired) if scope == "global" else [[i] for i in paired]:
        kept = max(gradients[group[0]].ndim - 2, 0) if scope == "row" else 0
        unit, scales = units([_as_real(gradients[i]).astype(wide) for i in group], kept)
        products = gramian(unit, kept)
        for i, new in zip(group, combine(unit, weighting(products, scales)), strict=True):
            complex_ = jnp.iscomplexobj(gradients[i])
            directions[i] = (jax.lax.complex(new[..., 0], new[..., 1]) if complex_ else new).astype(gradients[i].dtype)
        cosines.append(_cosines(products, reference))
    return directions, jnp.concatenate(cosines) if cosines else jnp.zeros(1, jnp.float32)


def _as_real(leaf: jax.Array) -> jax.Array:
    """A complex gradient as pairs of real numbers, whose inner product is the real part of the complex one."""
    return jnp.stack([leaf.real, leaf.imag], axis=-1) if jnp.iscomplexobj(leaf) else leaf


def _cosines(products: jax.Array, reference: int | jax.Array) -> jax.Array:
    """Cosine between each other source and the reference, flat; 0 for a zero gradient."""
    norms = jnp.sqrt(jnp.diagonal(products, axis1=-2, axis2=-1))
    scale = norms * norms[..., reference, None]
    cosine = jnp.where(scale > 0, products[..., reference, :] / jnp.where(scale > 0, scale, 1), 0)
    return jnp.roll(cosine, -reference, axis=-1)[..., 1:].reshape(-1)  # a traced reference cannot be deleted
