"""A tiny backbone, three label prompts and a batch of two examples a label."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.data.batches import GeneratorBatch

SHAPE = T5Config(vocab_size=30, d_model=8, d_kv=4, d_ff=12, num_layers=1, num_decoder_layers=1, num_heads=2)
MODEL = T5(SHAPE)
LABELS = (0, 1, 2, 0, 1, 2)
# Compiling costs more than running at this size.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def theta(dtype="float32"):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), model.init(SHAPE, jax.random.key(0)))


def label_prompts(seed=0, dtype="float32"):
    random = np.random.default_rng(seed)
    return {name: jnp.asarray(random.normal(size=(3, rows, SHAPE.d_model)), dtype)
            for name, rows in (("prompt", 3), ("infix", 2))}


def batch(seed=0, labels=LABELS, source=6, target=5):
    random = np.random.default_rng(seed)

    def text(width, least):
        mask = np.arange(width) < random.integers(least, width + 1, len(labels))[:, None]
        return np.where(mask, random.integers(2, SHAPE.vocab_size, mask.shape), 0).astype(np.int32), mask

    slots = np.full((len(labels), source), -1, np.int32)
    slots[:, 2:4] = [0, 1]
    tokens, mask = text(source, 4)
    supervised, supervised_mask = text(target, 2)
    return GeneratorBatch(tokens, mask, slots, supervised, supervised_mask, np.asarray(labels, np.int32))


def everything(dtype="float32"):
    return T5(dataclasses.replace(SHAPE, dtype=dtype)), theta(dtype), label_prompts(dtype=dtype), batch()
