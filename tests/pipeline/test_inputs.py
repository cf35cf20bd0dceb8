"""What a task's stages are given: the split of each seed, the scored split, the pool without the dev set."""

import pytest

from dawgen_jax.data.fewshot import draw_split
from dawgen_jax.pipeline import inputs


@pytest.fixture(scope="module")
def given(config):
    return inputs.read_task("mini-snli", config, generates=False)


def test_every_seed_has_its_own_split(given, config):
    assert given.splits == {seed: draw_split(given.task, config.data, given.pools.train, seed) for seed in (13, 21)}
    assert given.splits[13].train != given.splits[21].train
    assert given.digests["split", 13] != given.digests["split", 21]


def test_results_are_on_the_scored_split(given):
    assert given.task.test_split == "test" and given.test == given.pools.test[:30] != given.pools.validation[:30]


def test_the_whole_pool_is_without_the_dev_set(given):
    for seed, split in given.full.items():
        assert not set(split.train) & set(split.dev) and split.dev == given.splits[seed].dev
        assert set(split.train) | set(split.dev) == set(given.pools.train)
