"""A classifier as a folder: ``classifier.json`` says what it is, and a safetensors file holds what was tuned.

``classifier.json`` has the task (template, labels, label words), the method, the classifier's configuration and the
digest of the backbone, so that the folder and the backbone's own are all that prediction needs. What was tuned is in
prompt.safetensors or lora.safetensors; without such a file nothing was (zero-shot prompting). Methods that train all
weights, or show demonstrations, are not stored.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import AfterValidator

from dawgen_jax import prompts
from dawgen_jax.config import ClassifierConfig
from dawgen_jax.config.validation import must, validated
from dawgen_jax.errors import UserError
from dawgen_jax.io.files import read_json, refilling, write_json
from dawgen_jax.methods.base import Method
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.methods.trained import LOW_RANK, PROMPT
from dawgen_jax.tasks import Task

__all__ = ["Stored", "can_be_stored", "read_classifier", "write_classifier"]

_FILES = {PROMPT.name: "prompt.safetensors", LOW_RANK.name: "lora.safetensors"}


class Stored(NamedTuple):
    """What a classifier's folder holds.

    Attributes:
      task: what is classified.
      method: how it was tuned.
      config: of the classifier.
      backbone_digest: of the backbone that it was tuned on.
      params: the prompt [P, H]; the low-rank factors; None where nothing was tuned.
    """

    task: Task
    method: Method
    config: ClassifierConfig
    backbone_digest: str
    params: Any = None


@validated
class StoredFacts:
    """The contents of classifier.json."""

    method: Annotated[str, AfterValidator(must("be the name of a method", METHODS.__contains__))]
    backbone_digest: str
    task: Task
    classifier: ClassifierConfig


def can_be_stored(method: Method) -> bool:
    """Whether prediction needs only something small that the method trains, or nothing."""
    return not method.demonstrations and (method.trains is None or method.trains.name in _FILES)


def write_classifier(folder: str | os.PathLike, stored: Stored) -> None:
    """Write a classifier's files, which replace those of one that is there; a folder with classifier.json is whole."""
    params = stored.params
    with refilling(pathlib.Path(folder), "classifier.json", tuple(_FILES.values())) as fresh:
        if isinstance(params, dict):
            prompts.save(fresh / _FILES[LOW_RANK.name], {
                f"{path}/{part}": value for path, factors in params.items() for part, value in factors.items()})
        elif params is not None:
            prompts.save(fresh / _FILES[PROMPT.name], {"prompt": params})
        write_json(fresh / "classifier.json", dataclasses.asdict(
            StoredFacts(str(stored.method), stored.backbone_digest, stored.task, stored.config)))


def read_classifier(folder: str | os.PathLike) -> Stored:
    """Read what :func:`write_classifier` wrote.

    Raises:
      UserError: there is no classifier in the folder, or a file of it is broken.
    """
    folder = pathlib.Path(folder)
    path = folder / "classifier.json"
    if not path.is_file():
        missing = "holds no classifier.json" if folder.is_dir() else "no such folder"
        raise UserError(f"{folder}: {missing}; give the folder of a saved classifier, or that of a cell "
                        "(RUN/cells/...) whose method tunes a prompt or low-rank updates.")
    facts = read_json(path, StoredFacts, advice="save the classifier again")
    method = METHODS[facts.method]
    stored = Stored(facts.task, method, facts.classifier, facts.backbone_digest)
    if method.trains is None or not can_be_stored(method):
        return stored
    tensors = folder / _FILES[method.trains.name]
    return stored._replace(params=_params(prompts.load(tensors), method, tensors))


def _params(arrays: dict[str, np.ndarray], method: Method, path: pathlib.Path) -> Any:
    if method.trains is PROMPT:
        if set(arrays) != {"prompt"} or arrays["prompt"].ndim != 2:
            raise UserError(f"{path}: holds {', '.join(arrays) or 'nothing'}, not a prompt [P, H]; save it again.")
        return arrays["prompt"]
    factors: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        kernel, _, part = name.rpartition("/")
        factors.setdefault(kernel, {})[part] = array
    return factors
