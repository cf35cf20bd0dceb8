"""What programs have stored: prompts and adapters, classifiers, training state, and what is exported of a cell."""

import contextlib
import dataclasses
import functools
import importlib.util
import io
import json
import pathlib
import tempfile
from typing import Any

import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import save

from dawgen_jax.cli.export import Arguments, export
from dawgen_jax.config import ClassifierConfig
from dawgen_jax.io.prompt_files import load, save_adapter
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.methods.stored import Stored, read_classifier, write_classifier
from dawgen_jax.tasks import SEVEN
from dawgen_jax.training.checkpoint import Checkpoints
from tests.fuzz.runner import IN, Property, put
from tests.fuzz.strategies import DAMAGE, VALUES, changed, tensors

PROMPT = np.arange(12, dtype=np.float32).reshape(3, 4)
LORA = {"query": {"a": np.ones((4, 2), np.float32), "b": np.ones((2, 4), np.float32)}}
STATE = {"prompt": PROMPT, "step": np.array(3)}


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
    """The content of every file below a folder, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@functools.cache
def whole(kind: str) -> dict[str, bytes]:
    """The files of a whole prompt, adapter, classifier or state, by name."""
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        if kind == "prompts":
            (folder / "p.safetensors").write_bytes(save({"prompt": PROMPT}))
            np.save(folder / "p.npy", PROMPT)
            if importlib.util.find_spec("torch"):
                import torch

                torch.save(torch.tensor(PROMPT), folder / "p.pt")
        elif kind == "adapter":
            save_adapter(folder, PROMPT, "t5", {"task_type": "SEQ_2_SEQ_LM"})
        elif kind == "state":
            with Checkpoints(folder) as checkpoints:
                checkpoints.save(3, STATE)
        else:
            params = {"Prompt Tuning": PROMPT, "LoRA": LORA}[kind]
            write_classifier(folder, Stored(SEVEN["RTE"], METHODS[kind], ClassifierConfig(), "0" * 12, params))
        return files_of(folder)


@st.composite
def _hurt(draw, kind: str) -> dict[str, bytes]:
    """The files of a kind, one of them damaged."""
    files = whole(kind)
    name = draw(st.sampled_from(sorted(files)))
    return files | {name: draw(DAMAGE)(files[name])}


@st.composite
def _adapters(draw) -> dict[str, bytes]:
    config = json.loads(whole("adapter")["adapter_config.json"])
    values = {"prompt_embeddings": draw(tensors((3, 4)))} if draw(st.integers(0, 9)) else {}
    return {"adapter_config.json": draw(DAMAGE)(json.dumps(draw(changed(config))).encode()),
            "adapter_model.safetensors": draw(DAMAGE)(save(values))}


@st.composite
def _classifiers(draw) -> dict[str, bytes]:
    files = draw(_hurt(draw(st.sampled_from(["Prompt Tuning", "LoRA"]))))
    if draw(st.booleans()):
        return files
    facts = json.loads(whole("LoRA" if "lora.safetensors" in files else "Prompt Tuning")["classifier.json"])
    part = draw(st.sampled_from(["", "task", "classifier"]))
    facts = facts | {part: draw(changed(facts[part]))} if part else draw(changed(facts))
    return files | {"classifier.json": json.dumps(facts).encode()}


def _put_all(files: dict[str, bytes]) -> None:
    for name, content in files.items():
        put(name, content)


def _sound(arrays: dict[str, np.ndarray]) -> None:
    assert arrays and all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values())


def read_prompts(files: dict[str, bytes]) -> None:
    """Read each file as a prompt."""
    _put_all(files)
    for name in files:
        _sound(load(IN / name))


def read_adapter(files: dict[str, bytes]) -> None:
    """Read the folder as an adapter."""
    _put_all(files)
    _sound(load(IN))


def read_stored(files: dict[str, bytes]) -> None:
    """Read the folder as a classifier."""
    _put_all(files)
    stored = read_classifier(IN)
    assert json.dumps([dataclasses.asdict(stored.task), dataclasses.asdict(stored.config)], allow_nan=False)
    if stored.method.trains:
        arrays = stored.params if isinstance(stored.params, dict) else {"": {"prompt": stored.params}}
        for factors in arrays.values():
            _sound(factors)


def read_state(files: dict[str, bytes]) -> None:
    """Restore the state: what was saved, or a refusal."""
    _put_all(files)
    with Checkpoints(IN) as checkpoints:
        if checkpoints.latest_step is not None:
            restored = checkpoints.restore(STATE)
            assert all(np.array_equal(restored[name], STATE[name]) for name in STATE)


META = {"task": "RTE", "labels": ["entailment", "not_entailment"], "generator_backbone": "t5", "seed": 13}


@st.composite
def _exported(draw) -> dict[str, bytes]:
    shape = draw(st.sampled_from([(3, 4), (2, 3, 4), (2, 3, 4)]))
    arrays = {"prompt": draw(tensors(shape))} | ({"infix": draw(tensors((2, 1, 4)))} if draw(st.booleans()) else {})
    files = {f"prompt{'s' * (len(shape) - 2)}.safetensors": save(arrays),
             "meta.json": json.dumps(draw(changed(META))).encode()}
    if draw(st.booleans()):
        files["result.json"] = json.dumps(draw(VALUES)).encode()
    name = draw(st.sampled_from(sorted(files)))
    return files | {name: draw(DAMAGE)(files[name])}


def _export(files: dict[str, bytes]) -> None:
    _put_all(files)
    out = pathlib.Path("out", "adapter")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            export(Arguments(IN, out))
    except BaseException:
        assert not out.exists()  # nothing, rather than a part
        raise
    adapters = [out] if (out / "adapter_config.json").is_file() else sorted(out.iterdir())
    for folder in adapters:
        _sound(load(folder))


def _any(kinds: dict[str, Any]) -> st.SearchStrategy:
    return st.sampled_from(sorted(kinds)).flatmap(lambda name: DAMAGE.map(lambda damage: {name: damage(kinds[name])}))


PROPERTIES = {
    "prompt files": Property(st.deferred(lambda: _any(whole("prompts"))), read_prompts, 100),
    "adapters": Property(_adapters(), read_adapter, 150),
    "classifiers": Property(_classifiers(), read_stored, 150),
    "exports": Property(_exported(), _export, 60),
    "states": Property(_hurt("state"), read_state, 20),
}
