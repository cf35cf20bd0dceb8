"""Inputs of the reference comparison, from NumPy's frozen legacy generator, so that pinned numbers stay true."""

import jax
import numpy as np

from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.config import PAPER, ClassifierConfig, GeneratorConfig
from dawgen_jax.data.batches import ClassifierBatch, GeneratorBatch
from dawgen_jax.generator.variants import fixed_by

NUM_STEPS = 5
LABEL_IDS, MASK_ID = (7, 11, 5), 29
SHAPE = {"vocab_size": 30, "d_model": 10, "d_kv": 4, "d_ff": 14, "num_layers": 1, "num_decoder_layers": 2,
         "num_heads": 2, "scan_unroll": 1, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12}
BACKBONES = {
    "v1.1": T5Config(**SHAPE, activation="gelu_new", gated=True),
    "v1.0": T5Config(**SHAPE, activation="relu", gated=False, tied_head=True, scale_decoder_outputs=True),
}
# At the default rate of scores a width of 10 would hide the division by it: the result is FewGen's rate.
_COMMON = {"meta_learning_rate": 0.5, "learning_rate": 0.05, "score_learning_rate": 0.3}
GENERATORS = {
    "dawgen": ("v1.1", GeneratorConfig(**_COMMON)),
    "fewgen": ("v1.1", fixed_by(GeneratorConfig(**_COMMON, disc="ce_rawlogit", clip_norm=0.1), "FewGen")),
    "printed": ("v1.0", GeneratorConfig(**_COMMON, disc="ratio", weight_norm="sentence", dist_reading="A",
                                        dist_similarity="swapped_distance", dist_weight=0.3)),
    "loss": ("v1.1", GeneratorConfig(**_COMMON, weight_input="loss")),
    "real_step_only": ("v1.1", GeneratorConfig(**_COMMON, weight_input="loss", dist_in_virtual=False)),
}
CLASSIFIER = ClassifierConfig(epsilon=0.7, **PAPER)


def theta(config: T5Config) -> dict:
    random = np.random.RandomState(7)

    def fill(path, leaf):
        noise = random.standard_normal(leaf.shape)
        return 1 + 0.2 * noise if "scale" in jax.tree_util.keystr(path) else 0.3 * noise

    return jax.tree.map_with_path(fill, model.abstract(config))


def label_prompts(width: int) -> dict:
    random = np.random.RandomState(8)
    return {"prompt": random.standard_normal((3, 2, width)), "infix": random.standard_normal((3, 2, width))}


def weight_net(weight_input: str, width: int) -> dict:
    random = np.random.RandomState(9)
    if weight_input == "hidden":
        return {"w": 0.3 * random.standard_normal(width)}
    return {"w1": random.uniform(-1, 1, 100), "b1": random.uniform(-1, 1, 100), "w2": random.uniform(-1, 1, 100),
            "b2": np.float64(random.uniform(-0.1, 0.1))}


def prompt(width: int) -> np.ndarray:
    return np.random.RandomState(10).standard_normal((4, width))


def _text(random, shape, lengths):
    mask = np.arange(shape[-1]) < lengths[..., None]
    return np.where(mask, random.randint(2, SHAPE["vocab_size"], shape), 0).astype(np.int32), mask


def generator_batches(steps: int = 3) -> list[GeneratorBatch]:
    random, batches = np.random.RandomState(11), []
    for _ in range(steps):
        source, source_mask = _text(random, (6, 7), random.randint(4, 8, 6))
        slots = np.full((6, 7), -1, np.int32)
        slots[:, 1:3] = [0, 1]
        target, target_mask = _text(random, (6, 5), random.randint(2, 6, 6))
        label = np.array([0, 2, 1, 1, 0, 2], np.int32)
        batches.append(GeneratorBatch(source, source_mask, slots, target, target_mask, label))
    return batches


def classifier_batches(steps: int = 3) -> list[ClassifierBatch]:
    random, batches = np.random.RandomState(12), []
    for step in range(steps):
        tokens, mask = _text(random, (2, 4, 6), random.randint(3, 7, (2, 4)))
        label = random.randint(0, 3, (2, 4)).astype(np.int32)
        if step == 1:  # the same text under other labels: a conflict for sure
            tokens[1], mask[1], label[1] = tokens[0], mask[0], (label[0] + 1) % 3
        weight = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], np.float32)
        batches.append(ClassifierBatch(tokens, mask, label, weight))
    return batches
