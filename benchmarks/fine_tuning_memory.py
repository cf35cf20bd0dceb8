"""Does full fine-tuning of T5-large fit one device of 80 GB?

    python -m benchmarks.fine_tuning_memory [--only ft pft]

The training step of FT (ft) and of PFT + soft prompt (pft) is compiled from shapes alone: T5-v1.1-large, computed in
bfloat16 with recomputed layers, parameters and optimiser state in float32, a batch of 8 pairs of 100 tokens (and 100
prompt rows). Memory is the compiler's analysis for this machine: arguments, results that do not overwrite arguments,
and temporary buffers. The last line is JSON.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import peers
from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.config import ClassifierConfig
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.methods.trained import WEIGHTS_AND_HEAD, WEIGHTS_AND_PROMPT
from dawgen_jax.methods.verbalizer import cross_entropy, weighted_mean
from dawgen_jax.training.step import init_state, train_step

ROWS, TOKENS, LABELS = 8, 100, 3


def memory(trained, extra: dict) -> dict:
    """GiB needed by one step."""
    config, t5 = ClassifierConfig(), dataclasses.replace(peers.LARGE, dtype="bfloat16", remat=True)
    scores = functools.partial(trained.scores, model=T5(t5, 32099), label_ids=(4273, 7163, 150), config=config)
    tx = trained.optimiser(config, config.fine_tuning.num_steps, 1e-4)

    def loss_fn(params, frozen, batch):
        return weighted_mean(cross_entropy(scores(params, frozen, batch), batch.label), batch.weight)

    params = {"theta": model.abstract(t5), **extra}
    state = jax.eval_shape(functools.partial(init_state, tx=tx), params)
    batch = ClassifierBatch(
        np.zeros((1, ROWS, TOKENS), np.int32), np.ones((1, ROWS, TOKENS), bool), np.zeros((1, ROWS), np.int32),
        np.ones((1, ROWS), np.float32))
    step = jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=tx), donate_argnums=0)
    analysis = step.lower(state, (), batch).compile().memory_analysis()
    sizes = {"arguments": analysis.argument_size_in_bytes, "temporary": analysis.temp_size_in_bytes,
             "results": analysis.output_size_in_bytes - analysis.alias_size_in_bytes}
    gib = {name: size / 2**30 for name, size in sizes.items()}
    return {**gib, "total_gib": sum(gib.values()), "fits_80_gb": sum(sizes.values()) < 80e9,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(params))}


def main() -> None:
    """Compile both and report."""
    width = peers.LARGE.d_model
    float32 = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    peers.main(__doc__, {
        "ft": lambda runs: memory(WEIGHTS_AND_HEAD, {"head": float32((width, LABELS))}),
        "pft": lambda runs: memory(WEIGHTS_AND_PROMPT, {"prompt": float32((100, width))}),
    }, runs=1)


if __name__ == "__main__":
    main()
