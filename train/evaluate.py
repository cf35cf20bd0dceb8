"""Score a stored prompt, and the backbone without it, on a split of each task of a config.

    python -m train.evaluate configs/mini.py [--prompt CELL_OR_FILE] [--split test] [--field.sub value ...]

Both scores are printed, and how many predictions the prompt changes: one that was tuned on another backbone, or lost on
the way, acts as none.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from dawgen_jax import prompts
from dawgen_jax.config import Config, UserError, digest
from dawgen_jax.evaluation import metrics
from dawgen_jax.evaluation.predict import predict
from dawgen_jax.methods.trained import PROMPT
from dawgen_jax.methods.tune import compiled_scores
from dawgen_jax.pipeline.inputs import Encoded, find_task, load_backbone, load_pools
from dawgen_jax.training.placement import Placement
from train import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What this program takes besides the configuration."""

    prompt: str = ""
    """The folder of a cell or of a PEFT prompt, or a file: prompt.safetensors, or a matrix [P, H] as .npy or .pt. Empty
    scores the backbone without a prompt."""
    split: str = ""
    """train, validation or test; empty is the split that the task's results are reported on."""


def load_prompt(stored: str, width: int, label: str) -> np.ndarray:
    """A classifier's prompt [P, H], H being the ``width`` of the backbone ``label``.

    Raises:
      UserError: it cannot be read, or is no such prompt.
    """
    arrays = prompts.load(stored)
    if "prompt" not in arrays:
        raise UserError(f"--prompt {stored}: has no tensor 'prompt' (but: {', '.join(arrays) or 'none'}); give the "
                        "prompt.safetensors of a cell.")
    prompt = arrays["prompt"]
    if prompt.ndim != 2 or prompt.shape[1] != width:
        raise UserError(f"--prompt {stored}: holds a prompt of shape {prompt.shape}, but {label} has width {width}; "
                        "give the prompt.safetensors of a cell on this backbone.")
    return prompt


def score(config: Config, arguments: Arguments) -> None:
    """Print accuracy and F1 a task, with the prompt and without."""
    placement, split = Placement.on(config.devices), arguments.split
    backbone, classifier = load_backbone(config.classifier.backbone, placement), config.classifier
    width = backbone.model.width
    tried = {"without the prompt" if arguments.prompt else "without a prompt": np.zeros((0, width), np.float32)}
    if arguments.prompt:
        tried = {"with the prompt": load_prompt(arguments.prompt, width, backbone.label)} | tried
    if split not in ("", "train", "validation", "test"):
        raise UserError(f"--split {split}: must be train, validation or test.")
    for name in config.tasks:
        task, pools = find_task(name), load_pools(name, config.data.root)
        examples = getattr(pools, split or task.test_split)[:config.data.max_test or None]
        if not examples:
            raise UserError(f"--split {split}: {name} has no such split in {pools.source}.")
        encoded = Encoded(task, backbone, classifier)
        data = encoded.arrays(examples, digest(examples))
        scores = compiled_scores(PROMPT, classifier, backbone.model, encoded.label_ids, placement, shared=True)
        predicted = []
        for how, prompt in tried.items():
            predicted += [predict(scores, jnp.asarray(prompt)[None], backbone.theta, data, size=placement.rows(
                classifier.eval_batch_size), multiple=classifier.pad_multiple)[0]]
            scored = metrics.scores(task, predicted[-1], data.label)
            print(f"{name} {split or task.test_split}, {how}: accuracy {100 * scored['accuracy']:.2f}, F1 "
                  f"{100 * scored['f1']:.2f}, n = {len(examples)}")
        if arguments.prompt:
            print(_effect(int((predicted[0] != predicted[1]).sum()), len(examples)))


def _effect(changed: int, count: int) -> str:
    """What the prompt does to predictions, in a sentence."""
    if changed:
        return f"The prompt changes {changed} of {count} predictions."
    return f"The prompt changes none of {count} predictions: was it tuned on this backbone, for this task?"


def main(argv: list[str]) -> None:
    """Parse the command line and score."""
    config, _, arguments = cli.parse_with(argv, "Score a stored prompt.", Arguments())
    score(config, arguments)


if __name__ == "__main__":
    cli.guard(main)
