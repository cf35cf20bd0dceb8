"""One update of the classifier's prompt (Algorithm 2 of the paper, with Adafactor in place of its SGD step).

    d_s = grad_P CE(B_s)   for every source s, in one vmap
    d   = aggregate(d_1 .. d_S)          (surgery, or a plain sum)
    P  <- Adafactor(clip(d))

``Departure:`` the paper writes ``P <- P - eta d``; d goes through clipping and Adafactor here, as the code of the same
authors' prompt tuning does for a single source.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.t5.config import T5Config
from dawgen_jax.tuning import losses

__all__ = ["PromptState", "init_state", "prompt_step"]


@flax.struct.dataclass
class PromptState:
    """State of prompt tuning.

    Attributes:
      step: int32, updates done.
      params: the prompt, float32 [P, H].
      opt_state: of the transform (aggregation, clipping, Adafactor).
      ok: bool; False from the first non-finite loss or gradient on, after which nothing changes any more, so that
        ``step`` names the update that failed and ``params`` are those before it.
    """

    step: jax.Array
    params: jax.Array
    opt_state: Any
    ok: jax.Array


def init_state(prompt, tx: optax.GradientTransformation) -> PromptState:
    """The state before the first update, for a prompt [P, H]."""
    prompt = jnp.asarray(prompt)
    return PromptState(jnp.zeros((), jnp.int32), prompt, tx.init(prompt), jnp.array(True))


def prompt_step(state: PromptState, theta, batch: ClassifierBatch, *, t5: T5Config, verbalizer: losses.Verbalizer,
                tx: optax.GradientTransformation) -> tuple[PromptState, dict]:
    """One update of the prompt from one batch of every source.

    Args:
      state: prompt and optimiser state.
      theta: frozen parameters of the backbone.
      batch: leaves [S, B, ...]; sources of unequal size are padded with examples of weight 0.
      t5: the backbone's configuration.
      verbalizer: label words and mask.
      tx: ``optax.chain(aggregator, optim.adafactor(...))``; takes [S, P, H], gives [P, H]. The aggregator's state,
        first in the chain's, is where cosines and conflicts are read.

    Returns:
      (next state, metrics): ``loss`` [S], ``grad_norm`` [S], ``cosine`` (mean with the reference; 0 for one source),
      ``conflict`` (share of pairs with a negative one), ``projected_share``, ``update_norm``, ``prompt_norm``.
    """
    def source_loss(prompt, source):
        scores = losses.class_scores(prompt, theta, source, t5=t5, verbalizer=verbalizer)
        return losses.weighted_mean(losses.cross_entropy(scores, source.label), source.weight)

    loss, grads = jax.vmap(jax.value_and_grad(source_loss), in_axes=(None, 0))(state.params, batch)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    before, seen = state.opt_state[0], opt_state[0]
    metrics = {
        "loss": loss,
        "grad_norm": jnp.sqrt(jnp.sum(grads**2, axis=(1, 2))),
        "cosine": seen.cosine,
        "conflict": seen.conflicts - before.conflicts,
        "projected_share": seen.projected,
        "update_norm": optax.tree.norm(updates),
        "prompt_norm": optax.tree.norm(params),
    }
    finite = jnp.isfinite(loss).all() & (seen.nonfinite == before.nonfinite) & jnp.isfinite(params).all()
    ok = state.ok & finite
    proposed = (state.step + 1, params, opt_state)
    step, params, opt_state = jax.tree.map(lambda new, old: jnp.where(ok, new, old), proposed,
                                           (state.step, state.params, state.opt_state))
    return PromptState(step, params, opt_state, ok), metrics
