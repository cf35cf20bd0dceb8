"""The weight net omega: token weights W = softmax over tokens of g_omega(features).

There are two kinds of input, both detached. 'hidden': a linear layer H -> 1 on the token's last decoder state under its
gold prompt, scaled to a root mean square of 1. 'loss': FewGen's perceptron 1 -> 100 -> 1 (ReLU) on the token's
discriminative loss, unscaled.

``Departure:`` the paper only says that the weight net maps R^d to R; the decoder state as its input is our
interpretation. Adam's step on the linear layer is divided by H; see :func:`optimiser`. There is FewGen's softmax over
all supervised tokens of the batch, and a softmax per sentence.
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
    """Initial omega.

    The linear layer starts at zero: W is then uniform, 1 / N, as in L_gen. The gradient of a softmax with respect to
    its scores is not zero there, so the meta-gradient is not zero either. It has no bias, which the softmax would
    cancel. The perceptron, for which zero is a stationary point, starts like PyTorch's linear layers, uniform within
    1 / sqrt(fan in).

    Args:
      key: random key for the perceptron's initialisation.
      width: H, width of decoder states.
      weight_input: 'hidden' or 'loss'.
      dtype: dtype of the parameters.

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
    """Adam with L2 decay for omega; the learning rate falls linearly to 0.

    Adam moves each of the H weights w of the linear layer by about its rate, independent of the size of the gradient.
    The score <w, z> of a state z with a root mean square of 1 then moves by up to about 0.8 x rate x H, which is 8 for
    H = 1024 and FewGen's rate of 1e-2. Within a few updates the softmax would give all weight to a few tokens.

    ``Departure:`` the step on the linear layer is divided by H, and its rate is ``config.score_learning_rate``, so that
    one update moves a score by at most about 0.8 x 0.1 at every width. With w' = H w this is Adam at 0.1 on scores
    <w', z> / H. The step is divided instead of the score, because a gradient divided by H would no longer be large
    compared with Adam's epsilon and the L2 decay of w'. If ``config.score_learning_rate`` is 0, the rate of each weight
    is ``config.weight_learning_rate``, which is always the perceptron's rate.

    Args:
      config: the weight net's input, rates and decay.
      num_steps: length of the linear decay of the rate.
    """
    def adam(rate: float) -> optax.GradientTransformation:
        return optax.adam(optax.linear_schedule(rate, 0.0, num_steps))

    decay = optax.add_decayed_weights(config.weight_decay)
    if config.weight_input == "hidden" and config.score_learning_rate > 0:
        # The only leaf is w [H], even with several seeds in one program, since their axis is vmapped.
        per_score = optax.stateless_with_tree_map(lambda update, _: update / update.size)
        return optax.chain(decay, adam(config.score_learning_rate), per_score)
    return optax.chain(decay, adam(config.weight_learning_rate))


def features(values: jax.Array, hidden: jax.Array, weight_input: WeightInput) -> jax.Array:
    """Inputs of the weight net for each token, without gradient.

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
      features: [B, U, D] from :func:`features`.
      mask: bool [B, U] supervised tokens.
      norm: 'batch': W sums to 1 over the batch. 'sentence': W sums to 1 over each sentence and is divided by the number
        of sentences. In both cases L_wGen = sum W * NLL.

    Returns:
      [B, U]; 0 at unsupervised tokens.
    """
    scores = _scores(weight_net, features)
    axes = (0, 1) if norm == "batch" else 1
    lowest = jnp.finfo(scores.dtype).min
    top = jax.lax.stop_gradient(jnp.max(jnp.where(mask, scores, lowest), axis=axes, keepdims=True))
    grown = jnp.where(mask, jnp.exp(jnp.where(mask, scores - top, 0)), 0)
    total = jnp.sum(grown, axis=axes, keepdims=True)
    return grown / jnp.where(total > 0, total, 1) / _sentences(mask, norm, grown.dtype)


def uniform_weights(mask: jax.Array, norm: WeightNorm, dtype=jnp.float32) -> jax.Array:
    """W = 1 / N over the N supervised tokens of the batch, or of each sentence divided by the number of sentences.

    Args:
      mask: bool [B, U] supervised tokens.
      norm: 'batch' or 'sentence'.
      dtype: dtype of the weights.

    Returns:
      [B, U]; 0 at unsupervised tokens.
    """
    count = jnp.sum(mask, axis=None if norm == "batch" else 1, keepdims=True)
    return mask.astype(dtype) / jnp.maximum(count, 1).astype(dtype) / _sentences(mask, norm, dtype)


def entropy(weights: jax.Array, mask: jax.Array) -> jax.Array:
    """Entropy of W over the N supervised tokens of the batch, divided by log N.

    Args:
      weights: W [B, U], summing to 1.
      mask: bool [B, U] supervised tokens.

    Returns:
      Scalar: 1 if W is uniform, 0 if one token has all the weight; 1 for fewer than two tokens.
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
