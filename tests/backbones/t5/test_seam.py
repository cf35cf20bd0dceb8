"""The functional seam in flax's coming mode: neither graphs nor graph updates, which NNX is to leave by default."""

import os
import pathlib
import subprocess
import sys

SEAM = """
import hashlib, os, flax, jax, jax.numpy as jnp, numpy as np
from dawgen_jax.backbones.base import Work
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.seam import T5

assert flax.config.nnx_graph_mode == flax.config.nnx_graph_updates == (os.environ["NNX_GRAPH_MODE"] == "true")
t5 = T5(T5Config(30, 8, 4, 12, 1, 1, 2), mask_id=29)
theta = model.init(t5.config, jax.random.key(0))
tokens, mask = jnp.arange(2, 10).reshape(2, 4), jnp.ones((2, 4), bool)
loss = lambda theta: jnp.sum(t5.answer_states(theta, t5.embed(theta, tokens), mask) ** 2)
value, gradient = jax.jit(jax.value_and_grad(loss))(theta)
decoder = Decoder(t5, lambda theta, prompts, rows: (t5.embed(theta, rows.source), rows.mask), eos_id=1, banned=(0,),
                  slots=2, widths=(4,), max_new_tokens=3)
work = [Work(0, index, np.asarray(tokens)[index], None, Sampling(max_new_tokens=3)) for index in range(2)]
made = sorted(decoder.generate(theta, None, work, jax.random.key(0)), key=lambda one: one.index)
content = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((theta, value, gradient))]
print([one.tokens.tolist() for one in made], hashlib.sha256(b"".join(content)).hexdigest())
"""


def run(**modes):
    """What a process under these environment variables computes."""
    done = subprocess.run([sys.executable, "-c", SEAM], capture_output=True, text=True, timeout=120,
                          cwd=pathlib.Path(__file__).parents[3], env=os.environ | {"JAX_PLATFORMS": "cpu"} | modes)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_seam_is_the_same_without_graph_mode():
    trees, graphs = (run(NNX_GRAPH_MODE=mode, NNX_GRAPH_UPDATES=mode) for mode in ("false", "true"))
    assert trees == graphs
