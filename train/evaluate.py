"""Score a stored prompt, or none, on a split of each task of a config.

    python -m train.evaluate configs/mini.py [--prompt FILE] [--split test] [--field.sub value ...]
"""

import pathlib

import jax.numpy as jnp
import numpy as np

from dawgen_jax import metrics, prompts, sharding
from dawgen_jax.config import UserError
from dawgen_jax.data.features import classifier_arrays
from dawgen_jax.data.tokenizer import label_word_ids, sentinel_id
from dawgen_jax.evaluation import predict
from dawgen_jax.stages import inputs
from dawgen_jax.tuning.loop import compiled_scores
from dawgen_jax.tuning.losses import Verbalizer
from train import cli


def _take(argv: list[str], flag: str, default: str) -> str:
    if flag not in argv:
        return default
    position = argv.index(flag)
    if position + 1 == len(argv):
        raise UserError(f"{flag}: give a value after it.")
    value = argv[position + 1]
    del argv[position:position + 2]
    return value


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


def main(argv: list[str]) -> None:
    """Print accuracy and F1 a task."""
    argv = list(argv)
    stored, split = _take(argv, "--prompt", ""), _take(argv, "--split", "")
    config, _ = cli.parse(argv, "Score a stored prompt.")
    mesh = sharding.data_mesh(config.devices)
    backbone = inputs.load_backbone(config.classifier.backbone, mesh)
    width = backbone.t5.d_model
    prompt = load_prompt(stored, width, backbone.label) if stored else np.zeros((0, width), np.float32)
    for name in config.tasks:
        task, pools = inputs.find_task(name), inputs.load_pools(name, config.data.root)
        if split not in ("", "train", "validation", "test"):
            raise UserError(f"--split {split}: must be train, validation or test.")
        examples = getattr(pools, split or task.test_split)[:config.data.max_test or None]
        if not examples:
            raise UserError(f"--split {split}: {name} has no such split in {pools.source}.")
        data = classifier_arrays(backbone.tokenizer, task, examples, max_tokens=config.classifier.max_tokens,
                                 pad_multiple=config.classifier.pad_multiple)
        verbalizer = Verbalizer(tuple(label_word_ids(backbone.tokenizer, task).tolist()),
                                sentinel_id(backbone.tokenizer))
        predicted = predict(compiled_scores(backbone.t5, verbalizer, mesh, shared=True), jnp.asarray(prompt)[None],
                            backbone.theta, data, size=sharding.rows_for(mesh, config.classifier.eval_batch_size),
                            multiple=config.classifier.pad_multiple)[0]
        scored = metrics.scores(task, predicted, data.label)
        print(f"{name} {split or task.test_split}: accuracy {100 * scored['accuracy']:.2f}, F1 "
              f"{100 * scored['f1']:.2f}, n = {len(examples)}")


if __name__ == "__main__":
    cli.guard(main)
