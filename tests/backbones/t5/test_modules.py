"""Attention's two orders of products agree."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.modules import Attention

CONFIG = T5Config(vocab_size=40, d_model=24, d_kv=8, d_ff=32, num_layers=1, num_decoder_layers=1, num_heads=3)


@pytest.mark.parametrize(("queries", "few"), [(1, True), (2, True), (20, False)])
def test_attention_over_states_is_attention_to_their_keys_and_values(queries, few):
    random = np.random.default_rng(0)
    attention = Attention(CONFIG, rngs=nnx.Rngs(0))
    x = jnp.asarray(random.normal(size=(3, queries, 24)), jnp.float32)
    states = jnp.asarray(random.normal(size=(3, 30, 24)), jnp.float32)
    mask = jnp.asarray(np.arange(30) < np.array([30, 7, 0])[:, None])[:, None, None, :]  # the last row sees nothing

    def over(x, states):
        return attention.attend(x, states, mask)

    def general(x, states):
        return attention(x, *attention.keys_values(states), mask)

    chex.assert_trees_all_close(over(x, states), general(x, states), atol=1e-5, rtol=1e-5)
    chex.assert_trees_all_close(*(jax.grad(lambda *args, f=f: jnp.sum(f(*args) ** 2), argnums=(0, 1))(x, states)
                                  for f in (over, general)), atol=1e-4, rtol=1e-4)
    flops = [jax.jit(f).lower(x, states).cost_analysis()["flops"] for f in (over, general)]
    assert (flops[0] < 0.7 * flops[1]) == few
