"""A second family for the tests: a decoder-only model with random weights and a byte-level vocabulary.

Nothing of the project knows it; ``registry.FAMILIES["toy"] = toy.FAMILY`` is all that it takes. A soft prompt of a
classifier stands inside the row, behind the texts.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from safetensors.numpy import load_file, save_file

from dawgen_jax import miniworld
from dawgen_jax.backbones import tokens
from dawgen_jax.backbones.base import Adapter, AnswerRows, Family, SourceRows
from dawgen_jax.backbones.checkpoint import read_object
from dawgen_jax.backbones.templates import MASK, PROMPT, Part, fill, spaced, split
from tests.backbones.bpe import byte_level
from tests.backbones.causal import Causal, last_position


@dataclasses.dataclass(frozen=True)
class Toy(Causal):
    """The model of the engine's tests, with what classifiers read."""

    depth: int = 1

    @property
    def projections(self):
        return tuple(("layers", kernel) for kernel in ("query", "key", "value", "output"))

    def abstract(self):
        return jax.eval_shape(self.init, jax.random.key(0))

    def layout(self, axes):
        return jax.tree.map(lambda _: PartitionSpec(), self.abstract())

    def answer_states(self, theta, embeddings, mask):
        states = self.input_states(theta, embeddings, mask)
        return jnp.take_along_axis(states, last_position(mask)[:, None, None], axis=1)[:, 0]

    summary_states = answer_states

    def logits(self, theta, hidden, ids=None):
        return hidden @ (theta["head"] if ids is None else theta["head"][ids]).T

    def operations(self, *, inputs, outputs=None, trained="none"):
        count = sum(leaf.size for leaf in jax.tree.leaves(self.abstract()["layers"]))
        return {"none": 2.0, "prompt": 4.0, "all": 6.0}[trained] * count * (inputs + (outputs or 1) - 1)


@dataclasses.dataclass(frozen=True, eq=False)
class ToyFormat:
    """Rows begin with the end of sequence, as GPT-2's documents do; words keep the space in front of them."""

    tokenizer: object
    name: str = "toy"
    eos_id: int = 0
    unk_id: None = None
    start: tuple[int, ...] = (0,)

    @property
    def adapter(self):
        return ADAPTER

    def ids(self, texts):
        return tokens.plain_ids(self.tokenizer, texts)

    def texts(self, rows):
        return tokens.to_texts(self.tokenizer, rows)

    def pieces(self, ids):
        return tokens.readable_pieces(self.tokenizer, ids)

    def word_start_ids(self):
        return tokens.word_start_ids(self.tokenizer)

    def banned_ids(self):
        return tokens.unused_ids(self.tokenizer, len(self.tokenizer), self.eos_id)

    def wording(self, task):
        return task.completion

    def label_ids(self, task):
        return tokens.word_ids(self.tokenizer, task, task.completion[1], " ")

    def answer_rows(self, task, texts, max_tokens, *, answers=None, bare=False):
        pieces = spaced(split(task.bare if bare else task.completion[0], MASK, PROMPT))
        columns = {f"{{{field}}}": column for field, column in zip(task.fields, texts, strict=True)}
        count, parts, tail = len(texts[0]), [], None
        parts.append(Part([self.start if answers is None else ()] * count))
        for lead, piece in pieces:
            if piece in columns:
                parts.append(Part(self.ids([lead + text for text in columns[piece]]), cut=True))
            elif piece == MASK:
                words = self.label_ids(task).tolist() if answers else []
                parts.append(Part([[words[answer]] for answer in answers] if answers else [[]] * count))
            else:
                (fixed,) = self.ids([lead + piece.replace(PROMPT, "")])
                tail = 0 if piece == PROMPT else tail if tail is None else tail + len(fixed)
                parts.append(Part([fixed] * count))
        return AnswerRows(fill(parts, max_tokens, task.name), tail)

    def source_rows(self, sentences, infix_length, max_tokens):
        found = self.ids(sentences)
        kept = [[*self.start, *ids[:max_tokens]] for ids in found]
        return SourceRows([[*ids, *[0] * infix_length] for ids in kept],
                          [[*[-1] * len(ids), *range(infix_length)] for ids in kept],
                          [len(ids) > max_tokens for ids in found])

    def target_rows(self, sentences, max_tokens):
        return [[*ids[:max_tokens - 1], self.eos_id] for ids in self.ids([f" {sentence}" for sentence in sentences])]


def read_format(folder: pathlib.Path) -> ToyFormat:
    return ToyFormat(tokens.read_tokenizer(folder, read_object(folder / "config.json")["vocab_size"]))


def read_model(folder: pathlib.Path, config) -> Toy:
    return Toy(read_object(folder / "config.json")["vocab_size"])


def load(folder: pathlib.Path, config, shardings):
    model, flat, theta = read_model(folder, config), load_file(folder / "model.safetensors"), {"layers": {}}
    for name, value in flat.items():
        *path, leaf = name.split(".")
        (theta["layers"] if path else theta)[leaf] = value
    return model, read_format(folder), jax.device_put(theta, shardings(model))


def write(folder: pathlib.Path, seed: int = 0) -> None:
    """A checkpoint with the mini world's words."""
    pool = miniworld.pools("mini-snli").train[:100]
    tokenizer = byte_level(["<eos>"], [text for one in pool for text in one] + ["Answer: red, big, two"] * 20,
                           eos_token="<eos>")
    tokenizer.save_pretrained(folder)
    theta = jax.device_get(Toy(len(tokenizer)).init(jax.random.key(seed)))
    layers = {f"layers.{name}": leaf for name, leaf in theta.pop("layers").items()}
    save_file({name: np.ascontiguousarray(leaf) for name, leaf in {**theta, **layers}.items()},
              folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "toy", "vocab_size": len(tokenizer)}))


ADAPTER = Adapter({"task_type": "CAUSAL_LM"}, "AutoModelForCausalLM", "model",
                  lambda task: ("\nnext_word = ...\n", "The class is the next word."))
FAMILY = Family(load, read_format, read_model, shapes={}, check=lambda folder: {"path": str(folder), "passed": True},
                convert=None, adapter=ADAPTER)
