"""Checkpoints that are broken, or of another state, are told with their folder and the way out."""

import shutil

import numpy as np
import pytest

from dawgen_jax.config import UserError
from dawgen_jax.training.checkpoint import Checkpoints

TREE = {"prompt": np.arange(6, dtype=np.float32).reshape(3, 2), "step": np.array(3)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "checkpoint"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(3, TREE)
    return folder


@pytest.mark.parametrize(("name", "content"), [
    ("3/default/_METADATA", b""), ("3/default/_METADATA", b"[]"), ("3/default/_METADATA", b"\xff"),
    ("3/default/manifest.ocdbt", b"\xff"), ("3/_CHECKPOINT_METADATA", b"[]")])
def test_a_broken_checkpoint_is_named(saved, tmp_path, name, content):
    folder = shutil.copytree(saved, tmp_path / "checkpoint")
    (folder / name).write_bytes(content)
    with (pytest.raises(UserError, match=rf"{folder}: .* cannot be read \(\w+\); remove that folder, and its stage"),
          Checkpoints(folder) as checkpoints):
        checkpoints.restore(TREE)


def test_a_checkpoint_of_another_state_is_refused(saved):
    with Checkpoints(saved) as checkpoints:
        for like in ({"prompt": TREE["prompt"]}, TREE | {"prompt": np.zeros((4, 2), np.float32)}):
            with pytest.raises(UserError, match="the checkpoint of step 3 cannot be read"):
                checkpoints.restore(like)
