"""The one training step: gradients of every source in one vmap, aggregation and optimiser in one transform.

    g_s    = grad_params loss_fn(params, frozen, B_s)     for every source s
    params <- params + tx(g_1 .. g_S)

With a prompt as ``params`` and surgery first in ``tx`` this is Algorithm 2 of the paper; with all weights, low-rank
factors or a source prompt it is that method's step.

``Departure:`` the paper writes ``P <- P - eta d``; d goes through clipping and Adafactor here, as the code of the same
authors' prompt tuning does for a single source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

__all__ = ["TrainState", "commit", "init_state", "train_step"]


@flax.struct.dataclass
class TrainState:
    """State of training.

    Attributes:
      step: int32, updates done.
      params: what is trained, any tree of arrays.
      opt_state: of the transform (aggregation, clipping, optimiser).
      ok: bool; False from the first non-finite loss or gradient on, after which nothing changes any more, so that
        ``step`` names the update that failed and ``params`` are those before it.
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
    """``proposed`` where it is finite and the state was good, else ``state`` with ``ok`` False.

    Args:
      state: a state before an update, with a field ``ok``.
      proposed: the state after it.
      finite: bool, whether everything that the update computed is.
    """
    ok = state.ok & finite
    return jax.tree.map(lambda new, old: jnp.where(ok, new, old), proposed, state).replace(ok=ok)


def train_step(state: TrainState, frozen, batch, *, loss_fn: Callable, tx: optax.GradientTransformation
               ) -> tuple[TrainState, dict]:
    """One update from one batch of every source.

    Args:
      state: parameters and optimiser state.
      frozen: what the loss reads and nothing changes (the backbone's parameters).
      batch: leaves [S, B, ...]; sources of unequal size are padded with examples of weight 0.
      loss_fn: ``(params, frozen, one source's batch [B, ...]) -> scalar``.
      tx: ``optax.chain(aggregator, optimiser)``; takes gradients [S, *params]. The aggregator's state, first in the
        chain's, is where cosines and conflicts are read.

    Returns:
      (next state, metrics): ``loss`` [S], ``grad_norm`` [S], ``cosine`` (mean with the reference; 0 for one source),
      ``conflict`` (share of pairs with a negative one), ``projected_share``, ``update_norm``, ``param_norm``.
    """
    loss, grads = jax.vmap(jax.value_and_grad(loss_fn), in_axes=(None, None, 0))(state.params, frozen, batch)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    before, seen = state.opt_state[0], opt_state[0]
    metrics = {
        "loss": loss,
        "grad_norm": jax.vmap(optax.tree.norm)(grads),
        "cosine": seen.cosine,
        "conflict": seen.conflicts - before.conflicts,
        "projected_share": seen.projected,
        "update_norm": optax.tree.norm(updates),
        "param_norm": optax.tree.norm(params),
    }
    finite = jnp.isfinite(loss).all() & (seen.nonfinite == before.nonfinite) & jnp.isfinite(metrics["param_norm"])
    proposed = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
    return commit(state, proposed, finite), metrics
