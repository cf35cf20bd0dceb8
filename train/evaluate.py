"""Score a stored prompt, or none, on a split of each task of a config.

    python -m train.evaluate configs/mini.py [--prompt FILE] [--split test] [--field.sub value ...]
"""

import dataclasses
import pathlib

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
    """prompt.safetensors of a cell; empty scores the backbone without a prompt."""
    split: str = ""
    """train, validation or test; empty is the split that the task's results are reported on."""


def load_prompt(stored: str, width: int, label: str) -> np.ndarray:
    """The prompt [P, H] of a cell's prompt.safetensors, H being the ``width`` of the backbone ``label``.

    Raises:
      UserError: the file cannot be read, or holds no such prompt.
    """
    arrays = prompts.load(pathlib.Path(stored))
    if "prompt" not in arrays:
        raise UserError(f"--prompt {stored}: has no tensor 'prompt' (but: {', '.join(arrays) or 'none'}); give the "
                        "prompt.safetensors of a cell.")
    prompt = arrays["prompt"]
    if prompt.ndim != 2 or prompt.shape[1] != width:
        raise UserError(f"--prompt {stored}: holds a prompt of shape {prompt.shape}, but {label} has width {width}; "
                        "give the prompt.safetensors of a cell on this backbone.")
    return prompt


def score(config: Config, arguments: Arguments) -> None:
    """Print accuracy and F1 a task."""
    placement, split = Placement.on(config.devices), arguments.split
    backbone, classifier = load_backbone(config.classifier.backbone, placement), config.classifier
    width = backbone.model.width
    prompt = (load_prompt(arguments.prompt, width, backbone.label) if arguments.prompt
              else np.zeros((0, width), np.float32))
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
        predicted = predict(scores, jnp.asarray(prompt)[None], backbone.theta, data, multiple=classifier.pad_multiple,
                            size=placement.rows(classifier.eval_batch_size))[0]
        scored = metrics.scores(task, predicted, data.label)
        print(f"{name} {split or task.test_split}: accuracy {100 * scored['accuracy']:.2f}, F1 "
              f"{100 * scored['f1']:.2f}, n = {len(examples)}")


def main(argv: list[str]) -> None:
    """Parse the command line and score."""
    config, _, arguments = cli.parse_with(argv, "Score a stored prompt.", Arguments())
    score(config, arguments)


if __name__ == "__main__":
    cli.guard(main)
