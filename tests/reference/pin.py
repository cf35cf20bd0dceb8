"""Writes pinned.json: what the PyTorch float64 transcription gives. Run: python -m tests.reference.pin"""

import json
import pathlib

import jax
import numpy as np
import torch

from tests.reference import cases, torch_method

torch.set_num_threads(1)  # the arrays are tiny
PINNED = pathlib.Path(__file__).with_name("pinned.json")


def tensors(tree, dtype=torch.float64):
    """NumPy leaves as tensors: floating ones in ``dtype``, integers as int64."""
    def convert(leaf):
        leaf = np.asarray(leaf)
        if leaf.dtype == bool:
            return torch.tensor(leaf)
        return torch.tensor(leaf, dtype=dtype if leaf.dtype.kind == "f" else torch.int64)

    return jax.tree.map(convert, tree)


def generator(name: str) -> list[dict]:
    """Three whole generator steps of a case."""
    backbone, config = cases.GENERATORS[name]
    t5 = cases.BACKBONES[backbone]
    steps = torch_method.generator_steps(
        tensors(cases.label_prompts(t5.d_model)), tensors(cases.weight_net(config.weight_input, t5.d_model)),
        tensors(cases.theta(t5)), [tensors(batch) for batch in cases.generator_batches()], config, t5, cases.NUM_STEPS)
    return [arrays(step) for step in steps]


def classifier(backbone: str) -> list[dict]:
    """Three whole prompt-tuning steps with surgery and Adafactor."""
    t5 = cases.BACKBONES[backbone]
    steps = torch_method.prompt_steps(
        tensors(cases.prompt(t5.d_model)), tensors(cases.theta(t5)),
        [tensors(batch) for batch in cases.classifier_batches()], cases.CLASSIFIER, t5, cases.LABEL_IDS,
        cases.MASK_ID, cases.NUM_STEPS)
    return [arrays(step) for step in steps]


def arrays(tree):
    return jax.tree.map(lambda leaf: leaf.detach().numpy(), tree)


def everything() -> dict:
    return {"generator": {name: generator(name) for name in cases.GENERATORS},
            "classifier": {name: classifier(name) for name in cases.BACKBONES}}


if __name__ == "__main__":
    plain = jax.tree.map(lambda leaf: np.vectorize(lambda x: float(f"{x:.12g}"))(leaf).tolist(), everything())
    PINNED.write_text(json.dumps(plain, separators=(",", ":")) + "\n")
