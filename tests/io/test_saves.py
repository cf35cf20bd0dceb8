"""Folders that are written a second time, or whose writing is interrupted, never hold files of two writings."""

import contextlib
import dataclasses
import os
import shutil

import jax
import numpy as np

from dawgen_jax import Classifier, UserError, find_task, load_backbone
from dawgen_jax.backbones.t5 import convert, model
from dawgen_jax.config import ClassifierConfig
from tests import tiny
from tests.backbones.t5 import torch_t5


class Interrupted(BaseException):
    """Simulates the end of a process."""


def interrupt(monkeypatch, call: int) -> list[str]:
    """Let one call raise that renames or removes a file, and return the list of those that were made."""
    made: list[str] = []

    def stopping(original):
        def change(*arguments, **options):
            made.append(original.__name__)
            if len(made) == call:
                raise Interrupted
            return original(*arguments, **options)

        return change

    for name in ("replace", "unlink", "rename"):
        monkeypatch.setattr(os, name, stopping(getattr(os, name)))
    return made


def outcomes(old, save, read, folder, monkeypatch) -> list:
    """What ``read`` finds after ``save`` into a copy of ``old`` was interrupted at its first, second, ... change.

    None means that the folder is refused; the last item follows a save that was not interrupted.
    """
    found = []
    while True:
        shutil.copytree(old, folder / str(len(found)))
        with monkeypatch.context() as patched:
            made = interrupt(patched, len(found) + 1)
            with contextlib.suppress(Interrupted):
                save(folder / str(len(found)))
            done = len(made) <= len(found)
        try:
            found.append(read(folder / str(len(found))))
        except UserError:
            found.append(None)
        if done:
            return found


def same(one, other) -> bool:
    return one[0] == other[0] and jax.tree.all(jax.tree.map(np.array_equal, one[1], other[1]))


def test_a_checkpoint_is_the_old_one_or_the_new_one_or_none(tmp_path, monkeypatch):
    """The new one has the shapes of the old one and another activation, which only config.json tells."""
    old, new = tiny.T5, dataclasses.replace(tiny.T5, activation="relu")
    convert.save(tmp_path / "old", old, tiny.theta(0))
    states = [(old, tiny.theta(0)), (new, tiny.theta(1))]
    found = outcomes(tmp_path / "old", lambda folder: convert.save(folder, new, tiny.theta(1)), convert.load,
                     tmp_path, monkeypatch)
    assert len(found) > 3 and same(found[0], states[0]) and same(found[-1], states[1])
    assert all(one is None or any(same(one, state) for state in states) for one in found)


def test_a_checkpoint_in_one_file_replaces_one_in_several(tmp_path, monkeypatch):
    oracle = torch_t5.write(tmp_path, "v1.1")
    oracle.save_pretrained(tmp_path, max_shard_size="10KB")
    (tmp_path / "notes.txt").write_text("kept")
    config, theta = convert.load(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    other = model.init(config, jax.random.key(5))
    convert.save(tmp_path, config, other)
    assert same(convert.load(tmp_path), (config, other)) and not same((config, theta), (config, other))
    assert {path.name for path in tmp_path.iterdir()} >= {"config.json", "model.safetensors", "notes.txt"}
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    np.testing.assert_array_equal(torch_t5.read(tmp_path).shared.weight.detach(), other["embedding"])


def test_a_tokenizer_of_another_kind_does_not_stay(tmp_path):
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "spiece.model").write_bytes(b"pieces")
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast" / "tokenizer.json").write_text("{}")
    for kind, left in (("slow", {"spiece.model"}), ("fast", {"tokenizer.json"}), (None, {"tokenizer.json"})):
        convert.save(tmp_path / "out", tiny.T5, tiny.theta(), tokenizer_from=kind and tmp_path / kind)
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors"} | left


def test_a_classifier_is_the_old_one_or_the_new_one_or_none(tmp_path, monkeypatch):
    backbone, task = load_backbone("mini-t5", devices=1), find_task("mini-snli")
    config = ClassifierConfig(backbone=backbone.config, prompt_length=2)
    rows = np.ones((2, backbone.model.width), np.float32)
    first = Classifier(backbone, task, config, "Prompt Tuning", rows)
    second = Classifier(backbone, task, dataclasses.replace(config, epsilon=0.5), "(Real, Syn) + GS", 2 * rows)
    first.save(tmp_path / "old")

    def read(folder):
        one = Classifier.load(folder, backbone)
        return (one.method, one.config.epsilon), one.params

    states = [((one.method, one.config.epsilon), one.params) for one in (first, second)]
    found = outcomes(tmp_path / "old", second.save, read, tmp_path, monkeypatch)
    assert len(found) > 2 and same(found[0], states[0]) and same(found[-1], states[1])
    assert all(one is None or any(same(one, state) for state in states) for one in found)
    Classifier(backbone, task, config).save(tmp_path / "old")  # zero-shot: nothing is tuned
    assert not (tmp_path / "old" / "prompt.safetensors").exists()
