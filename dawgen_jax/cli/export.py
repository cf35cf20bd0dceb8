"""Write prompts as PEFT adapters with model cards: the prompt of a cell, the prompts of a generator, or a prompt file.

    dawgen export PROMPT OUT [--base NAME]

PROMPT is the folder of a cell, a saved classifier or a generator, prompt.safetensors, prompts.safetensors, .npy, .pt or
a PEFT folder. OUT is a new folder for the adapter, or for one folder per label. --base names the model in the adapter,
in a form that `transformers` finds (for instance google/flan-t5-large); by default it is the one named in the folder.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated

import tyro

from dawgen_jax import prompts
from dawgen_jax.backbones import registry
from dawgen_jax.backbones.base import Adapter
from dawgen_jax.cli.options import parse
from dawgen_jax.errors import UserError
from dawgen_jax.io.files import read_json
from dawgen_jax.io.metadata import Meta, read_meta
from dawgen_jax.io.prompt_files import adapter_base
from dawgen_jax.io.store import finish
from dawgen_jax.io.terminal import printable
from dawgen_jax.methods.stored import Stored, read_classifier
from dawgen_jax.pipeline import adapters
from dawgen_jax.pipeline.inputs import KNOWN, backbone_folder, prompt_tail
from dawgen_jax.results.rows import read_cell


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Options of the command."""

    prompt: Annotated[pathlib.Path, tyro.conf.Positional]
    """The folder of a cell, a generator or an adapter, or a file of a prompt."""
    out: Annotated[pathlib.Path, tyro.conf.Positional]
    """A folder that does not exist yet."""
    base: str = ""
    """Name or path of the frozen model."""
    task_type: str = ""
    """PEFT's task type, if neither the prompt nor the model's folder states it."""


def _adapter(task_type: str, base: str) -> Adapter:
    """How PEFT stores the prompt: by task type, else by the base model's folder, else as in the first family."""
    known = {family.adapter.config["task_type"]: family.adapter for family in registry.FAMILIES.values()}
    if task_type:
        if task_type not in known:
            raise UserError(f"--task_type {task_type}: must be one of {', '.join(known)}.")
        return known[task_type]
    try:
        return registry.family_of(backbone_folder(base)).adapter
    except UserError:  # the name of a model on a hub
        return next(iter(known.values()))


def _inside(classifier: Stored | None) -> bool:
    """Whether a classifier's prompt was tuned inside the template, if its backbone is available to check."""
    if classifier is None:
        return False
    try:
        tokens = registry.read_format(backbone_folder(classifier.config.backbone.path))
    except UserError:
        return False
    return prompt_tail(tokens, classifier.task, classifier.config) is not None


def export(arguments: Arguments) -> None:
    """Write the folder atomically.

    Raises:
      UserError: the prompt cannot be read, the model is unknown, or ``out`` exists.
    """
    stored, out = arguments.prompt, arguments.out
    arrays, home = prompts.load(stored), stored if stored.is_dir() else stored.parent
    prompt = arrays.get("prompt")
    infix = arrays.get("infix", prompt)
    if prompt is None or prompt.ndim not in (2, 3) or 0 in prompt.shape or infix.ndim != prompt.ndim or (
            prompt.ndim == 3 and len(infix) != len(prompt)):
        raise UserError(f"{stored}: holds no prompt [P, H] and no label prompts [L, P, H] (but: "
                        f"{', '.join(f'{name} {array.shape}' for name, array in arrays.items())}); give a prompt file.")
    ours = stored.is_dir() or stored.suffix == ".safetensors"
    row = read_cell(home / "result.json")[0] if ours and (home / "result.json").is_file() else None
    meta = read_meta(home) if ours else Meta()
    classifier = read_classifier(home) if ours and (home / "classifier.json").is_file() else None
    first = next(iter(sorted((home / "peft").glob("*/"))), home) if prompt.ndim == 3 else home / "peft"
    (named, task_type), beside = adapter_base(first), adapter_base(home)
    base = (arguments.base or named or beside[0]
            or (classifier.config.backbone.path if classifier else row.backbone if row else "")
            or meta.generator_backbone)
    if not base:
        raise UserError(f"--base: {stored} does not name the model on which the prompt was tuned; name it.")
    if out.exists():
        raise UserError(f"{out}: exists already; name a new folder.")
    adapter = _adapter(arguments.task_type or task_type or beside[1], base)
    if prompt.ndim == 2:
        task = classifier.task if classifier else KNOWN.get(row.task) if row else None
        finish(out, lambda fresh: adapters.write_prompt(fresh, prompt, base, adapter, task, row,
                                                        inside=_inside(classifier)))
    else:
        facts = read_json(home / "meta.json", missing_ok=True) if ours else None
        finish(out, lambda fresh: adapters.write_label_prompts(fresh, arrays, base, adapter, meta.labels, facts))
    print(printable(f"{out}: {' x '.join(map(str, prompt.shape))} for {base}"))


def main(argv: Sequence[str]) -> None:
    """Parse the command line and write."""
    export(parse(argv, Arguments, __doc__))
