"""Tuned prompts for others' tools: PEFT adapter folders, each with a model card.

A classifier's prompt is one folder. A generator has one folder per label, since a PEFT adapter holds one soft prompt.
PEFT has no place for the infix, the rows between the sentences: it stays in prompts.safetensors.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dawgen_jax import miniworld
from dawgen_jax.backbones.base import Adapter
from dawgen_jax.io import cards
from dawgen_jax.io.files import write_file
from dawgen_jax.io.prompt_files import save_adapter
from dawgen_jax.io.terminal import printable
from dawgen_jax.results.rows import Row
from dawgen_jax.tasks import Task

__all__ = ["write_label_prompts", "write_prompt"]

_LOAD = """\
import torch
from peft import PeftModel
from transformers import {auto_class}, AutoTokenizer

base, adapter = {base}, "."
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained({auto_class}.from_pretrained(base), adapter).eval()
"""


def write_prompt(folder: pathlib.Path, prompt: np.ndarray, base: str, adapter: Adapter,
                 task: Task | None = None, row: Row | None = None, *, inside: bool = False) -> None:
    """Write a classifier's prompt as a PEFT adapter with its card; the folder is created if it does not exist.

    Args:
      folder: to write into.
      prompt: [P, H].
      base: name or path of the frozen model it was tuned on.
      adapter: how PEFT holds prompts of its family.
      task: its task; the card then shows how to predict.
      row: what was measured with it.
      inside: the prompt was tuned inside the template, where PEFT cannot put it; the card then says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_adapter(folder, prompt, base, adapter.config)
    code = _load(base, adapter)
    parts = [_intro(prompt, base, f"It is put in front of the {adapter.place}'s input; the model itself is not "
                    "changed.")]
    if inside:
        parts.append("**It was tuned behind the texts of the template, in front of its last words,** where PEFT cannot "
                     "put it: with PEFT predictions differ from those that were measured.\n")
    if row:
        facts = {"task": row.task, "method": row.arm, "tuned on": row.backbone, "seed": row.seed,
                 "examples per class": row.k_shot, row.metric: f"{row.value:.4f} on {row.n_test} test examples",
                 **{name: row.extras[name] for name in ("dev_accuracy", "best_step") if name in row.extras}}
        parts.append(cards.table(("", ""), facts.items()))
    if task:
        predict, note = adapter.predict(task)
        code += predict
        parts.append(f"{note} Evaluation here cut the sentences of long inputs, which this code does not.\n")
    parts.append(_python(code))
    if row:
        parts += ["## Settings\n", cards.facts_block({
            "settings": row.settings, "split": row.split_source, "versions": row.versions,
            "config_hash": row.config_hash})]
    name = f"Soft prompt for {row.task}: {row.arm}, seed {row.seed}" if row else "Soft prompt"
    _write_card(folder, name, base, "text-classification", parts)


def write_label_prompts(folder: pathlib.Path, arrays: Mapping[str, np.ndarray], base: str, adapter: Adapter,
                        labels: Sequence[str] = (), facts: Mapping[str, Any] | None = None) -> None:
    """Write each label's prompt of a generator as a PEFT adapter, in one folder per label: 0-NAME, 1-NAME, ...

    Args:
      folder: to write into.
      arrays: prompt [L, P, H] and infix [L, I, H].
      base: name or path of the frozen model.
      adapter: how PEFT holds prompts of its family.
      labels: names; a folder without one is a number only.
      facts: for the cards.
    """
    for position, prompt in enumerate(arrays["prompt"]):
        label = labels[position] if position < len(labels) else ""
        own = folder / "-".join(filter(None, (str(position), re.sub("[^A-Za-z0-9_]+", "_", label)[:40].strip("_"))))
        own.mkdir(parents=True, exist_ok=True)
        save_adapter(own, prompt, base, adapter.config)
        infix = len(arrays["infix"][position]) if "infix" in arrays else 0
        parts = [
            _intro(prompt, base, f"It makes the model write a second sentence of the label '{cards.escaped(label)}' "
                   "behind a first one: one of several prompts, one per label."),
            f"**This is a part of the generator.** Its {infix} infix rows, which follow the first sentence, "
            "cannot be expressed as a PEFT adapter and are not used here; they are in `prompts.safetensors` "
            f"(tensor `infix`, row {position}). Texts will differ from those of the whole generator.\n",
            _python(_load(base, adapter)
                    + '\nmade = model.generate(**tokenizer("A first sentence.", return_tensors="pt"))\n'),
            *(["## Settings\n", cards.facts_block(facts)] if facts else []),
        ]
        _write_card(own, f"Generator prompt {position} {label}".strip(), base, "text2text-generation", parts)


def _intro(prompt: np.ndarray, base: str, use: str) -> str:
    rows, width = prompt.shape
    return (f"A soft prompt of {rows} rows of width {width} ({rows * width:,} numbers) for the frozen model "
            f"{cards.escaped(base)}, tuned by dawgen-jax. {use}\n")


def _load(base: str, adapter: Adapter) -> str:
    """Code that loads base and adapter; embedded backbones are folders of this package, and on no hub."""
    if base not in os.listdir(miniworld.BACKBONES) or os.path.isdir(base):
        return _LOAD.format(base=json.dumps(base), auto_class=adapter.auto_class)
    return "from dawgen_jax.miniworld import BACKBONES\n" + _LOAD.format(
        base=f"str(BACKBONES / {json.dumps(base)})", auto_class=adapter.auto_class)


def _python(code: str) -> str:
    return f"```python\n{code}```\n"


def _write_card(folder: pathlib.Path, name: str, base: str, use: str, parts: Sequence[str]) -> None:
    head = {"base_model": printable(base), "library_name": "peft", "pipeline_tag": use,
            "tags": ["prompt-tuning", "soft-prompt", "dawgen"]}
    body = "\n".join([f"# {cards.escaped(name)}\n", *parts])
    write_file(folder / "README.md", cards.front_matter(head) + "\n" + body)
