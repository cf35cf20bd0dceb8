"""The training step: gradients of every source in one vmap, aggregation and optimiser in one transform.

    g_s    = grad_params loss_fn(params, frozen, B_s)     for every source s
    params <- params + tx(g_1 .. g_S)

With a prompt as ``params`` and surgery in ``tx`` this is Algorithm 2 of the paper; with all weights, low-rank factors
or a source prompt as ``params`` it is the step of that method.

``Departure:`` the paper writes ``P <- P - eta d``; here d goes through clipping and Adafactor, as in the code of the
same authors' prompt tuning for a single source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from dawgen_jax.errors import ConfigError

__all__ = ["TrainState", "commit", "init_state", "train_step", "transformed"]


@flax.struct.dataclass
class TrainState:
    """State of training.

    Attributes:
      step: int32, updates done.
      params: the trained parameters, any tree of arrays.
      opt_state: state of the transform (aggregation, clipping, optimiser).
      ok: bool; False after the first non-finite loss or gradient. Nothing changes from then on: ``step`` is the number
        of updates before the one that failed, ``params`` are the parameters before it.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    ok: jax.Array


def init_state(params, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first update."""
    params = jax.tree.map(jnp.asarray, params)
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), jnp.array(True))


def commit(state, proposed, finite: jax.Array):
    """``proposed`` if it is finite and ``state.ok``, else ``state`` with ``ok`` False.

    Args:
      state: a state before an update, with a field ``ok``.
      proposed: the state after it.
      finite: bool, whether everything that the update computed is.
    """
    ok = state.ok & finite
    return jax.tree.map(lambda new, old: jnp.where(ok, new, old), proposed, state).replace(ok=ok)


def transformed(tx: optax.GradientTransformation, grads, opt_state, params):
    """``tx.update(grads, opt_state, params)``, the same whatever dtypes JAX defaults to.

    optax's schedules and bias corrections combine int32 counts with Python floats: strict promotion refuses that, and
    with 64 bits enabled the result would be rounded from float64. So both are off here, unless gradients are float64.
    """
    wide = any(leaf.dtype in (jnp.float64, jnp.complex128) for leaf in jax.tree.leaves(grads))
    with jax.numpy_dtype_promotion("standard"), jax.enable_x64(wide):
        return tx.update(grads, opt_state, params)


def train_step(state: TrainState, frozen, batch, *, loss_fn: Callable, tx: optax.GradientTransformation
               ) -> tuple[TrainState, dict]:
    """One update from a batch of every source.

    Args:
      state: parameters and optimiser state.
      frozen: read by the loss and never changed (the backbone's parameters).
      batch: leaves [S, B, ...]; sources of unequal size are padded with examples of weight 0.
      loss_fn: ``(params, frozen, batch of one source [B, ...]) -> scalar``.
      tx: transform of gradients [S, *params] with an aggregator anywhere in the chain, for instance
        ``optax.chain(gradient_surgery(), optimiser)``. With one source it may also be an optimiser alone, which gets
        the gradient [*params].

    Returns:
      (next state, metrics): ``loss`` [S], ``grad_norm`` [S], ``update_norm``, ``param_norm`` and, if ``tx`` has an
      aggregator, ``cosine`` (mean over pairs of a source and the reference; 0 for one source), ``conflict`` (share of
      pairs with a negative one) and ``projected_share``; with several aggregators, for parts of ``params``, their
      means.

    Raises:
      ConfigError: several sources and no aggregator.
    """
    loss, grads = jax.vmap(jax.value_and_grad(loss_fn), in_axes=(None, None, 0))(state.params, frozen, batch)
    before = _aggregators(state.opt_state)
    if not before and len(loss) > 1:
        raise ConfigError(f"tx has no aggregator for the gradients of {len(loss)} sources; put one, such as "
                          "gradient_surgery(), into its chain.")
    updates, opt_state = transformed(tx, grads if before else jax.tree.map(lambda leaf: leaf[0], grads),
                                     state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
        "loss": loss,
        "grad_norm": jax.vmap(optax.tree.norm)(grads),
        "update_norm": optax.tree.norm(updates),
        "param_norm": optax.tree.norm(params),
    }
    finite = jnp.isfinite(loss).all() & jnp.isfinite(metrics["param_norm"])
    if before:
        after = _aggregators(opt_state)
        metrics |= {
            "cosine": _mean([new.cosine for new in after]),
            "conflict": _mean([new.conflicts - old.conflicts for new, old in zip(after, before, strict=True)]),
            "projected_share": _mean([new.projected for new in after]),
        }
        for new, old in zip(after, before, strict=True):
            finite &= new.nonfinite == old.nonfinite  # in that case the direction is zero, and params stay finite
    else:
        for leaf in jax.tree.leaves(grads):
            finite &= jnp.isfinite(leaf).all()  # an optimiser may turn inf into a finite update, as sign does
    proposed = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
    return commit(state, proposed, finite), metrics


def _aggregators(opt_state) -> list:
    """The :class:`~dawgen_jax.surgery.AggregatorState` s of a chain, wherever they are."""
    return [found for _, found in optax.tree.get_all_with_path(opt_state, "AggregatorState")]


def _mean(values: list[jax.Array]) -> jax.Array:
    return sum(values) / len(values)
