"""The weight net omega: token weights W = softmax of a score that omega gives to each token.

Two inputs are offered, both detached. 'hidden': a linear layer H -> 1 on the token's last decoder state under its gold
prompt, scaled to a root mean square of 1. 'loss': FewGen's perceptron 1 -> 100 -> 1 (ReLU) on the token's
discriminative loss, unchanged.

``Departure:`` the paper only says that the weight net maps R^d to R; that its input is the decoder state is our
reading. Adam's step on the linear layer is divided by H, see :func:`optimiser`. A softmax over each sentence is offered
in addition to FewGen's, which is over all supervised tokens of the batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from dawgen_jax.config import GeneratorConfig
from dawgen_jax.config.generator import WeightInput, WeightNorm

__all__ = ["entropy", "features", "init", "optimiser", "token_weights", "uniform_weights"]

PERCEPTRON_WIDTH = 100
"""Hidden units of FewGen's perceptron."""


def init(key: jax.Array, width: int, weight_input: WeightInput, dtype=jnp.float32) -> dict[str, jax.Array]:
    """omega before the first update.

    The linear layer starts at zero: W is then uniform, 1 / N, and descends from L_gen. Since the gradient of a softmax
    in its scores is not zero there, neither is the meta-gradient. It has no bias, which the softmax would cancel. The
    perceptron, of which zero is a stationary point, starts as PyTorch's linear layers do, uniform within
    1 / sqrt(fan in).

    Args:
      key: random key of the perceptron's start.
      width: H, of decoder states.
      weight_input: 'hidden' or 'loss'.
      dtype: of the parameters.

    Returns:
      'hidden': {'w': [H]}; 'loss': {'w1': [100], 'b1': [100], 'w2': [100], 'b2': []}.
    """
    if weight_input == "hidden":
        return {"w": jnp.zeros(width, dtype)}
    keys = jax.random.split(key, 4)
    bound = 1 / PERCEPTRON_WIDTH**0.5
    return {
        "w1": jax.random.uniform(keys[0], (PERCEPTRON_WIDTH,), dtype, -1, 1),
        "b1": jax.random.uniform(keys[1], (PERCEPTRON_WIDTH,), dtype, -1, 1),
        "w2": jax.random.uniform(keys[2], (PERCEPTRON_WIDTH,), dtype, -bound, bound),
        "b2": jax.random.uniform(keys[3], (), dtype, -bound, bound),
    }


def optimiser(config: GeneratorConfig, num_steps: int) -> optax.GradientTransformation:
    """Adam with L2 decay for omega; the rate falls linearly to 0.

    Adam moves each of the H weights w of the linear layer by about its rate, whatever the size of the gradient. The
    score <w, z> of a state z whose root mean square is 1 then moves by up to about 0.8 x rate x H, which is 8 at a
    width H of 1024 and FewGen's rate of 1e-2. The softmax gives all weight to a few tokens within a few updates.

    ``Departure:`` the step on the linear layer is divided by H, and its rate is ``config.score_learning_rate``, so that
    one update moves a score by at most about 0.8 x 0.1 at every width. With w' = H w this is Adam at 0.1 on scores
    <w', z> / H. The step is divided, not the score, because a gradient that is divided by H is no longer large beside
    Adam's epsilon and the L2 decay of w'. If ``config.score_learning_rate`` is 0, the rate of each weight is
    ``config.weight_learning_rate``, as it always is for the perceptron.

    Args:
      config: the weight net's input, rates and decay.
      num_steps: length of the linear decay of the rate.
    """
    def adam(rate: float) -> optax.GradientTransformation:
        return optax.adam(optax.linear_schedule(rate, 0.0, num_steps))

    decay = optax.add_decayed_weights(config.weight_decay)
    if config.weight_input == "hidden" and config.score_learning_rate > 0:
        # The one leaf is w [H]; with several seeds in one program as well, since their axis is vmapped.
        per_score = optax.stateless_with_tree_map(lambda update, _: update / update.size)
        return optax.chain(decay, adam(config.score_learning_rate), per_score)
    return optax.chain(decay, adam(config.weight_learning_rate))


def features(values: jax.Array, hidden: jax.Array, weight_input: WeightInput) -> jax.Array:
    """What the weight net reads of each token; no gradient flows into it.

    Args:
      values: [B, U] discriminative loss of each token.
      hidden: [B, U, H] last decoder states under the gold prompt.
      weight_input: 'hidden' or 'loss'.

    Returns:
      'hidden': [B, U, H], each state divided by its root mean square; 'loss': [B, U, 1]. In the dtype of ``values``.
    """
    if weight_input == "loss":
        return jax.lax.stop_gradient(values)[..., None]
    hidden = jax.lax.stop_gradient(hidden).astype(values.dtype)
    return hidden * jax.lax.rsqrt(jnp.mean(hidden**2, axis=-1, keepdims=True) + 1e-6)


def token_weights(weight_net: dict[str, jax.Array], features: jax.Array, mask: jax.Array, norm: WeightNorm
                  ) -> jax.Array:
    """W = softmax over tokens of g_omega(features).

    Args:
      weight_net: omega.
      features: [B, U, D] of :func:`features`, for the input that omega was made for.
      mask: bool [B, U] supervised tokens.
      norm: 'batch': W sums to 1 over the batch; 'sentence': over each sentence, and is divided by their number, so
        that in both cases L_wGen = sum W * NLL.

    Returns:
      [B, U]; 0 where not supervised.
    """
    scores = _scores(weight_net, features)
    axes = (0, 1) if norm == "batch" else 1
    lowest = jnp.finfo(scores.dtype).min
    top = jax.lax.stop_gradient(jnp.max(jnp.where(mask, scores, lowest), axis=axes, keepdims=True))
    grown = jnp.where(mask, jnp.exp(jnp.where(mask, scores - top, 0)), 0)
    total = jnp.sum(grown, axis=axes, keepdims=True)
    return grown / jnp.where(total > 0, total, 1) / _sentences(mask, norm, grown.dtype)


def uniform_weights(mask: jax.Array, norm: WeightNorm, dtype=jnp.float32) -> jax.Array:
    """W = 1 / N over the N supervised tokens of the batch, or of each sentence divided by their number.

    Args:
      mask: bool [B, U] supervised tokens.
      norm: 'batch' or 'sentence'.
      dtype: of the weights.

    Returns:
      [B, U]; 0 where not supervised.
    """
    count = jnp.sum(mask, axis=None if norm == "batch" else 1, keepdims=True)
    return mask.astype(dtype) / jnp.maximum(count, 1).astype(dtype) / _sentences(mask, norm, dtype)


def entropy(weights: jax.Array, mask: jax.Array) -> jax.Array:
    """Entropy of W over the N supervised tokens of the batch, divided by log N.

    Args:
      weights: W [B, U], summing to 1.
      mask: bool [B, U] supervised tokens.

    Returns:
      Scalar: 1 where W is uniform, 0 where one token has all the weight; 1 for fewer than two tokens.
    """
    count = jnp.sum(mask)
    positive = mask & (weights > 0)
    each = jnp.where(positive, weights * jnp.log(jnp.where(positive, weights, 1)), 0)
    return jnp.where(count > 1, -jnp.sum(each) / jnp.log(jnp.maximum(count, 2).astype(weights.dtype)), 1)


def _scores(weight_net: dict[str, jax.Array], features: jax.Array) -> jax.Array:
    if "w" in weight_net:
        return jnp.einsum("bud,d->bu", features, weight_net["w"], precision=jax.lax.Precision.HIGHEST)
    inner = jax.nn.relu(features * weight_net["w1"][None, None] + weight_net["b1"][None, None])
    return jnp.sum(inner * weight_net["w2"][None, None], axis=-1) + weight_net["b2"]


def _sentences(mask: jax.Array, norm: WeightNorm, dtype) -> jax.Array | int:
    return 1 if norm == "batch" else jnp.maximum(jnp.sum(jnp.any(mask, axis=1), dtype=dtype), 1)
