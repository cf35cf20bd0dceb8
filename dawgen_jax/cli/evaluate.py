"""Score a stored prompt, and its backbone without a prompt, on a split of each task or on a file of a custom task.

    dawgen evaluate mini [--prompt CELL_OR_FILE] [--split test] [--field.sub value ...]
    dawgen evaluate own_task [--data FILE] --file FILE [--prompt CELL_OR_FILE]
    dawgen evaluate CELL --file FILE [--columns premise hypothesis] [--label gold] [--backbone DIR]

Prints both scores and the number of predictions that the prompt changes; a prompt that was not loaded changes none. If
a cell is given, its template, label words and tokens are used; a cell of another backbone is refused. With a cell as
the first word, no config is needed. Only the scored split must exist. With --file, --data may be omitted
if the file has examples of every class.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import tyro

from dawgen_jax import prompts
from dawgen_jax.api import Classifier
from dawgen_jax.backbones.base import Backbone
from dawgen_jax.cli.options import Common, Configured, apply, parse, parse_config
from dawgen_jax.config import ClassifierConfig, Config
from dawgen_jax.data.own import read_own, read_own_task
from dawgen_jax.data.pools import Example
from dawgen_jax.errors import UserError
from dawgen_jax.evaluation import metrics
from dawgen_jax.io.terminal import printable
from dawgen_jax.methods.base import Method
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.methods.stored import Stored, read_classifier
from dawgen_jax.methods.trained import LOW_RANK
from dawgen_jax.pipeline.inputs import Encoded, find_task, is_own, labelled_examples, load_backbone, load_pools
from dawgen_jax.pipeline.predictions import score_examples
from dawgen_jax.tasks import Task
from dawgen_jax.training.placement import Placement


@dataclasses.dataclass(frozen=True)
class Arguments(Configured):
    """Options in addition to the configuration."""

    prompt: str = ""
    """The folder of a cell or of a PEFT prompt, or a file: prompt.safetensors, or a matrix [P, H] as .npy or .pt. If
    empty, only the backbone without a prompt is scored."""
    split: str = ""
    """train, validation or test; empty is the split on which the task's results are reported."""
    file: str = ""
    """A file of labelled examples of the custom task, to score instead of a split."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfCell(Common):
    """Options if a stored classifier is the first word."""

    cell: Annotated[pathlib.Path, tyro.conf.Positional, tyro.conf.arg(metavar="CELL")]
    """The folder of a saved classifier, or of a cell of a run directory."""
    file: pathlib.Path
    """Labelled examples of its task, one per row."""
    columns: tuple[str, ...] = ()
    """Columns of the text, or of the two texts of a pair in order; by default the usual names."""
    label: str = ""
    """Column of the label; by default a usual name."""
    backbone: str = ""
    """The backbone's directory, if it has moved since the classifier was tuned."""


def load_prompt(stored: str, width: int, label: str) -> np.ndarray:
    """A classifier's prompt [P, H], where H is the ``width`` of the backbone ``label``.

    Raises:
      UserError: the file cannot be read, or is not such a prompt.
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


def load_cell(stored: str, backbone: Backbone) -> Stored | None:
    """The metadata of the cell that holds a prompt; None if no cell holds it.

    Raises:
      UserError: the cell cannot be read, or its prompt was tuned on another backbone.
    """
    home = pathlib.Path(stored) if pathlib.Path(stored).is_dir() else pathlib.Path(stored).parent
    cell = next((place for place in (home, home.parent) if (place / "classifier.json").is_file()), None)
    found = read_classifier(cell) if cell else None
    if found and found.backbone_digest != backbone.digest:
        raise UserError(f"--prompt {stored}: was tuned on another backbone than {backbone.config.path} in "
                        f"{backbone.config.dtype} (its weights, tokenizer or compute dtype differ); name the one that "
                        "it was tuned on.")
    return found


def scored_examples(name: str, config: Config, split: str) -> tuple[Task, str, list[Example]]:
    """A task, the split to score, and its examples."""
    if is_own(name, config):
        given = read_own(config.own, config.data.k)
        task, found = given.task, given.pools
    else:
        task = find_task(name)
        found = load_pools(name, config.data.root, (split or task.test_split,))
    split = split or task.test_split
    examples = getattr(found, split)
    if not examples:
        raise UserError(f"--split {split}: {name} has no such split in {found.source}.")
    return task, f"{name} {split}", examples


def filed_examples(config: Config, file: str) -> tuple[Task, str, list[Example]]:
    """The custom task, and the examples of one of its files."""
    if config.own.name not in config.tasks:
        raise UserError(f"--file {file}: needs a custom task, and Config.tasks names none; start from "
                        "own_task, or give --split.")
    own = config.own if config.own.data else dataclasses.replace(config.own, data=file)
    try:
        task = read_own_task(own)
    except UserError as error:
        raise error if config.own.data else UserError(
            f"{error} The task was read from --file {file}; name the file that it was tuned on with --data.") from None
    return task, file, labelled_examples(file, task, own.columns, own.label)


def score(config: Config, arguments: Arguments) -> None:
    """Print accuracy and F1 per task, with the prompt and without."""
    placement, split = Placement.on(config.devices, config.mesh), arguments.split
    backbone = load_backbone(config.classifier.backbone, placement)
    prompt: np.ndarray | None = None
    cell: Stored | None = None
    if arguments.prompt:
        prompt = load_prompt(arguments.prompt, backbone.model.width, backbone.label)
        cell = load_cell(arguments.prompt, backbone)
    if split not in ("", "train", "validation", "test"):
        raise UserError(f"--split {split}: must be train, validation or test.")
    for name in config.tasks if not arguments.file else (config.own.name,):
        task, title, examples = (filed_examples(config, arguments.file) if arguments.file
                                 else scored_examples(name, config, split))
        examples, classifier = examples[:config.data.max_test or None], config.classifier
        if cell and cell.task.name == task.name:
            if cell.task.labels != task.labels:
                raise UserError(f"--prompt {arguments.prompt}: was tuned for the labels {', '.join(cell.task.labels)}, "
                                f"but {printable(title)} has {', '.join(task.labels)}; name them with --own.labels.")
            task, classifier = cell.task, dataclasses.replace(cell.config, backbone=classifier.backbone)
        _report(title, examples, Encoded(task, backbone, classifier), classifier, prompt)


def score_cell(arguments: OfCell) -> None:
    """Print accuracy and F1 on a file of a stored classifier, and of its backbone alone.

    Raises:
      UserError: the classifier, its backbone or the file cannot be used.
    """
    classifier = Classifier.load(arguments.cell, arguments.backbone or None)
    task, config = classifier.task, classifier.config
    examples = labelled_examples(arguments.file, task, arguments.columns, arguments.label)
    _report(str(arguments.file), examples, Encoded(task, classifier.backbone, config), config, classifier.params,
            METHODS[classifier.method])


def _report(title: str, examples: Sequence[Example], encoded: Encoded, config: ClassifierConfig, params: Any,
            method: Method = METHODS["Prompt Tuning"]) -> None:
    """Print scores with the tuned parameters (if any) and without, and the number of changed predictions."""
    task, predicted = encoded.task, []
    labels = [task.labels.index(example.label) for example in examples]
    what = "low-rank update" if method.trains is LOW_RANK else "prompt"
    bare = METHODS["Prompting (zero-shot)"] if method.trains else method
    tried = [(f"without {'a' if params is None else 'the'} {what}", None, bare)]
    if params is not None:
        tried.insert(0, (f"with the {what}", params, method))
    for how, tuned, kind in tried:
        predicted.append(score_examples(encoded, examples, tuned, config, method=kind).argmax(axis=1))
        scored = metrics.scores(task, predicted[-1], labels)
        print(f"{printable(title)}, {how}: accuracy {100 * scored['accuracy']:.2f}, F1 {100 * scored['f1']:.2f}, "
              f"n = {len(examples)}")
    if params is not None:
        changed, count = int((predicted[0] != predicted[1]).sum()), len(examples)
        print(f"The {what} changes {changed} of {count} predictions." if changed else
              f"The {what} changes none of {count} predictions: was it tuned on this backbone, for this task?")


def main(argv: Sequence[str]) -> None:
    """Parse the command line and score."""
    if argv and os.path.isfile(os.path.join(argv[0], "classifier.json")):
        arguments = parse(argv, OfCell, __doc__)
        apply(arguments)
        score_cell(arguments)
        return
    config, _, arguments = parse_config(argv, __doc__, Arguments)
    score(config, arguments)
