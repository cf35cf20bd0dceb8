"""The losses of generator tuning as pure functions that return per-token or per-example values.

Every example b is scored under all L label prompts. Arrays [L, B, ...] are in *gold-first order*: entry 0 belongs to
the prompt of the example's label y_b, and entry k to the prompt of label (y_b + k) mod L. All losses are symmetric in
the wrong labels. :func:`objective` combines them into L_DawGen; :func:`token_mean` and :func:`example_mean` reduce.

The paper's symbols: x_j is the token at position j of sentence 2 (axis U), l a label (axis L) and Q_l its prompt, y
or y_b the label of example b (axis B), W_j the weight of token j, Z_j its last decoder state.

Departures from the paper, all configurable: ``ce_logprob`` is the default form of L_disc (minus the log of the printed
ratio), and D in L_dist is a similarity (a distance, as printed, would push sentences of the same label away from each
other).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dawgen_jax.config.generator import DiscForm, DistReading, DistSimilarity, GeneratorConfig

__all__ = ["disc", "dist", "example_mean", "nll", "objective", "pool", "token_mean"]


def objective(log_prob: jax.Array, hidden: jax.Array, weights: jax.Array, label: jax.Array, mask: jax.Array, *,
              config: GeneratorConfig, dist_weight: float) -> tuple[jax.Array, dict[str, jax.Array]]:
    """L_DawGen = L_wGen + lambda L_dist as a function of the backbone's outputs.

    Args:
      log_prob: [1, B, U] log Pr of the gold token under the gold prompt.
      hidden: Z [L, B, U, H] last decoder states under every prompt, gold-first.
      weights: W [B, U], in both terms.
      label: int [B].
      mask: bool [B, U] supervised tokens.
      config: reading, similarity and margin of L_dist.
      dist_weight: lambda; if 0, L_dist is only a metric and has no gradient.

    Returns:
      (scalar loss, {'gen': L_wGen, 'dist': L_dist, 'dist_active': share of active hinges}).
    """
    gen = jnp.sum(weights * jnp.where(mask, nll(log_prob), 0))
    hinges, active, paired = dist(pool(hidden, weights, mask), label, mask.any(axis=1), reading=config.dist_reading,
                                  similarity=config.dist_similarity, margin=config.dist_margin)
    distance = example_mean(hinges, paired)
    loss = gen + dist_weight * distance if dist_weight else gen
    return loss, {"gen": gen, "dist": distance, "dist_active": example_mean(active, paired)}


def nll(log_prob: jax.Array) -> jax.Array:
    """-log Pr(x_j | x_<j; Q_y) of every token under its gold prompt; L_wGen is its sum weighted by W_j.

    Args:
      log_prob: [L, B, U] log Pr of the gold token under every prompt, gold-first.

    Returns:
      [B, U].
    """
    return -log_prob[0]


def disc(scores: jax.Array, form: DiscForm) -> jax.Array:
    """L_disc of every token, from scores s_l of the gold token under each prompt Q_l.

    With p = softmax over labels of s: ``ce_logprob`` and ``ce_rawlogit`` are -log p_y; ``ratio`` is -p_y as printed
    (p_y = Pr_y / sum_l Pr_l if s are log-probabilities).

    Args:
      scores: [L, B, U], gold-first: log-probabilities, or raw logits for ``ce_rawlogit``.
      form: 'ce_logprob', 'ratio' or 'ce_rawlogit'.

    Returns:
      [B, U]; L_disc is its mean over supervised tokens.

    References:
      Meng et al.: Tuning Language Models as Training Data Generators, https://arxiv.org/abs/2211.03044, 2023
      (its code has ``ce_rawlogit``).
    """
    log_share = scores[0] - jax.nn.logsumexp(scores, axis=0)
    return -jnp.exp(log_share) if form == "ratio" else -log_share


def pool(hidden: jax.Array, weights: jax.Array, mask: jax.Array) -> jax.Array:
    """W.Z = sum_t w_t Z_t, with w renormalised to sum to 1 over each sentence.

    Args:
      hidden: Z [L, B, U, H] last decoder states.
      weights: W [B, U] token weights, 0 or more.
      mask: bool [B, U] supervised tokens.

    Returns:
      [L, B, H]; zero for a sentence without tokens.
    """
    weights = jnp.where(mask, weights, 0)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = weights / jnp.where(total > 0, total, 1)
    return jnp.einsum("bu,lbuh->lbh", weights, hidden.astype(weights.dtype), precision=jax.lax.Precision.HIGHEST)


def dist(pooled: jax.Array, label: jax.Array, valid: jax.Array, *, reading: DistReading = "B",
         similarity: DistSimilarity = "cosine", margin: float = 1.0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Hinges of L_dist: max(0, margin - D(Z_i, Z_j) + D(Z_i, negative)), averaged over partners j and negatives.

    i and j are different examples of the same label, each under the prompt of that label. In reading B the negative is
    sentence j under a wrong prompt (indices as printed); in reading A it is an example of another class under the
    prompt of its class. D is the cosine or, with ``swapped_distance``, minus the Euclidean distance.

    Args:
      pooled: W.Z [L, B, H], gold-first.
      label: int [B].
      valid: bool [B], False at padding examples.
      reading: 'A' or 'B'.
      similarity: 'cosine' or 'swapped_distance'.
      margin: margin of the hinge; 1 in the paper.

    Returns:
      (hinges [B], share of active hinges [B], bool [B], True if an example has a partner and a negative).
    """
    measure = _cosine if similarity == "cosine" else _minus_distance
    same = label[:, None] == label[None, :]
    both = valid[:, None] & valid[None, :]
    partner = same & both & ~jnp.eye(label.shape[0], dtype=bool)
    near = measure(pooled[0][:, None], pooled[0][None])
    if reading == "B":
        far = measure(pooled[0][None, :, None], pooled[1:, None])
        far = jnp.moveaxis(far, 0, -1)
        pairs = jnp.broadcast_to(partner[..., None], far.shape)
    else:
        far = near[:, None, :]
        pairs = partner[:, :, None] & (~same & both)[:, None, :]
    hinge = jnp.maximum(margin - near[..., None] + far, 0)
    count = jnp.sum(pairs, axis=(1, 2), dtype=hinge.dtype)  # dividing by an integer gives float64 with JAX_ENABLE_X64
    divisor = jnp.maximum(count, 1)
    values = jnp.sum(jnp.where(pairs, hinge, 0), axis=(1, 2)) / divisor
    active = jnp.sum(pairs & (hinge > 0), axis=(1, 2), dtype=hinge.dtype) / divisor
    return values, active, count > 0


def token_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of [B, U] over the tokens of the batch; 0 without tokens."""
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask, dtype=values.dtype), 1)


def example_mean(values: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean of [B] over the valid examples; 0 without any."""
    return jnp.sum(jnp.where(valid, values, 0)) / jnp.maximum(jnp.sum(valid, dtype=values.dtype), 1)


def _cosine(first: jax.Array, second: jax.Array) -> jax.Array:
    scale = _norm(first) * _norm(second)
    inner = jnp.einsum("...h,...h->...", *jnp.broadcast_arrays(first, second), precision=jax.lax.Precision.HIGHEST)
    return inner / jnp.where(scale > 0, scale, 1)


def _minus_distance(first: jax.Array, second: jax.Array) -> jax.Array:
    return -_norm(jnp.subtract(*jnp.broadcast_arrays(first, second)))


def _norm(vector: jax.Array) -> jax.Array:
    square = jnp.sum(vector**2, axis=-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
