"""Batches: each example once an epoch, functions of (seed, step) alone, balanced classes without repeats."""

import numpy as np
import pytest

from dawgen_jax.data.batches import class_balanced, epoch_batches
from dawgen_jax.errors import UserError


@pytest.mark.parametrize(("n", "batch"), [(10, 5), (10, 3), (3, 8), (1, 4), (7, 7)])
def test_every_example_once_an_epoch(n, batch):
    drawn = np.concatenate([epoch_batches(n, batch, 5, step) for step in range(3 * n)])
    assert len(drawn) == 3 * n * batch
    for epoch in drawn.reshape(-1, n):
        assert sorted(epoch) == list(range(n))


def test_batches_depend_on_seed_and_step_alone():
    forward = [epoch_batches(20, 6, 1, step).tolist() for step in range(10)]
    backward = [epoch_batches(20, 6, 1, step).tolist() for step in reversed(range(10))]
    assert forward == backward[::-1]
    assert forward != [epoch_batches(20, 6, 2, step).tolist() for step in range(10)]
    assert epoch_batches(20, 20, 1, 0).tolist() != epoch_batches(20, 20, 1, 1).tolist(), "epochs differ"


def test_class_balanced():
    labels = np.array([0, 1, 2, 1, 0, 2, 2, 1, 0, 0, 0])  # 5, 3 and 3 of a class
    for step in range(20):
        index = class_balanced(labels, 2, 7, step)
        assert labels[index].tolist() == [0, 0, 1, 1, 2, 2]
        assert len(set(index.tolist())) == 6, "no example twice in a batch"
        assert index.tolist() == class_balanced(labels, 2, 7, step).tolist()
    first = [class_balanced(labels, 2, seed, 0).tolist() for seed in range(8)]
    assert len(set(map(tuple, first))) > 1, "a seed has its own batches"
    drawn = np.concatenate([class_balanced(labels, 2, 7, step) for step in range(200)])
    assert set(drawn.tolist()) == set(range(11)), "every example comes up"


def test_class_balanced_epochs_are_whole():
    labels = np.repeat([0, 1], 16)
    epoch = np.concatenate([class_balanced(labels, 2, 0, step) for step in range(8)])
    assert sorted(epoch.tolist()) == list(range(32))


def test_too_small_a_class():
    labels = np.array([0, 0, 1])
    with pytest.raises(UserError, match=r"Class 1 .* has 1 example.s., but a batch takes 2 different examples per"):
        class_balanced(labels, 2, 0, 0)
