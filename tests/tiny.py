"""A random T5 of a few thousand parameters and toy batches, shared by tests that need a backbone but not a language."""

import jax
import numpy as np

from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.seam import T5 as Model
from dawgen_jax.data.batches import ClassifierBatch

T5 = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_decoder_layers=1, num_heads=2,
              activation="gelu_new", gated=True, tied_head=False, scale_decoder_outputs=False)
MODEL = Model(T5, mask_id=39)
LABEL_IDS = (5, 7, 9)


def theta(seed: int = 0):
    """Random parameters."""
    return model.init(T5, jax.random.key(seed))


def classifier_set(examples: int, seed: int, width: int = 8, labels: int = 3) -> ClassifierBatch:
    """``examples`` random rows of 3 to ``width`` tokens, classes in turn."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, width + 1, examples)
    mask = np.arange(width)[None, :] < lengths[:, None]
    tokens = np.where(mask, rng.integers(2, 38, (examples, width)), 0).astype(np.int32)
    return ClassifierBatch(tokens, mask, (np.arange(examples) % labels).astype(np.int32),
                           np.ones(examples, np.float32))
