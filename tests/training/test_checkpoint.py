"""State goes to disk from the devices that hold it, and back onto whatever devices ask for it; or it is refused."""

import functools
import re
import resource
import shutil

import chex
import jax
import numpy as np
import optax
import pytest

from dawgen_jax.backbones.t5 import model as t5
from dawgen_jax.config import MeshConfig
from dawgen_jax.errors import UserError
from dawgen_jax.io.files import storage_fault
from dawgen_jax.training.checkpoint import Checkpoints
from dawgen_jax.training.placement import Placement
from dawgen_jax.training.step import init_state
from tests import tiny

TREE = {"prompt": np.arange(6, dtype=np.float32).reshape(3, 2), "step": np.array(3)}
EIGHT, ONE = Placement.on(8, MeshConfig(fsdp=2, tensor=2)), Placement.on(1)


def state(placement, seed):
    """Fine-tuning's state: weights and both moments of Adam, placed."""
    theta = jax.tree.map(np.asarray, t5.init(tiny.MODEL.config, jax.random.key(seed)))
    return placement.create(functools.partial(init_state, tx=optax.adam(0.1)), {"theta": theta}, tiny.MODEL)


@pytest.mark.parametrize(("saves", "restores"), [(EIGHT, ONE), (ONE, EIGHT), (EIGHT, EIGHT)],
                         ids=["8 to 1", "1 to 8", "8 to 8"])
def test_a_sharded_state_is_restored_on_another_mesh(tmp_path, saves, restores):
    saved, best = state(saves, 0), np.array([0.5, 0.25])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, (saved, best))
    like = state(restores, 1)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 7
        restored, again = checkpoints.restore((like, np.zeros(2)))
    chex.assert_trees_all_equal(jax.tree.map(np.asarray, restored), jax.tree.map(np.asarray, saved))
    assert jax.tree.map(lambda leaf: leaf.sharding, restored) == jax.tree.map(lambda leaf: leaf.sharding, like)
    assert isinstance(again, np.ndarray) and again.tolist() == best.tolist()


def test_a_checkpoint_of_host_arrays_is_read_and_one_of_another_tree_is_refused(tmp_path):
    saved = jax.tree.map(np.asarray, state(ONE, 0))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step is None
        checkpoints.save(1, saved)
        restored = checkpoints.restore(state(EIGHT, 1))
        chex.assert_trees_all_equal(jax.tree.map(np.asarray, restored), saved)
        longer = jax.tree.map(lambda leaf: np.zeros((*leaf.shape, 2), leaf.dtype), saved)
        for other in ({"prompt": np.zeros(3)}, longer, EIGHT.put(longer, tiny.MODEL)):
            with pytest.raises(UserError, match="the checkpoint of step 1 is of another state"):
                checkpoints.restore(other)


def test_leaves_are_restored_by_their_paths(tmp_path):
    """Not by position: two leaves of one shape may have changed places or names."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": {"m": np.zeros(2), "v": np.ones(2)}, "b": np.full(3, 2.0)})
        again = checkpoints.restore({"b": np.zeros(3), "a": {"v": np.zeros(2), "m": np.zeros(2)}})
        assert (again["a"]["m"] == 0).all() and (again["a"]["v"] == 1).all() and (again["b"] == 2).all()
        for other, difference in (
                ({"a": {"m": np.zeros(2), "w": np.ones(2)}, "b": np.zeros(3)},
                 "a:v has shape [2] in the file, but is missing in this run"),
                ({"a": {"m": np.zeros(2), "v": np.ones(5)}, "b": np.zeros(3)},
                 "a:v has shape [2] in the file, but has shape [5] in this run"),
                ([np.zeros(2), np.zeros(2), np.zeros(3)], "0 is missing in the file, but has shape [2] in this run")):
            with pytest.raises(UserError, match=rf"step 1 is of another state \({re.escape(difference)}"):
                checkpoints.restore(other)


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


def test_the_newest_two_are_kept_and_arrays_may_change_once_saved(tmp_path):
    array = np.zeros(1 << 20, np.float32)
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(1, 5):
            array[:] = step
            checkpoints.save(step, {"array": array})
            array[:] = -1
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [3, 4]
    with Checkpoints(tmp_path) as checkpoints:
        assert (checkpoints.restore({"array": array})["array"] == 4).all()


def test_the_one_before_a_broken_newest_one_goes_on(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, TREE)
        checkpoints.save(5, TREE)
    (tmp_path / "5/default/manifest.ocdbt").write_bytes(b"")
    newest = re.escape(str(tmp_path / "5"))
    with (pytest.raises(UserError, match=rf"step 5 cannot be read \(\w+\); remove {newest}, and .* from step 3"),
          Checkpoints(tmp_path) as checkpoints):
        checkpoints.restore(TREE)
    shutil.rmtree(tmp_path / "5")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 3
        chex.assert_trees_all_equal(checkpoints.restore(TREE), TREE)


def test_a_full_disk_is_told_on_leaving_and_what_was_saved_before_stays(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, TREE)
    try:
        with pytest.raises(ValueError, match="writ") as told, Checkpoints(tmp_path) as checkpoints:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
            checkpoints.save(5, {"array": np.random.default_rng(0).normal(size=100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert storage_fault(told.value) == "File too large"
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 3
        chex.assert_trees_all_equal(checkpoints.restore(TREE), TREE)
