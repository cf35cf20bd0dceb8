"""Scoring: order, padding, devices."""

import functools

import jax
import numpy as np
import pytest

from dawgen_jax import evaluation, sharding
from dawgen_jax.config import ConfigError
from dawgen_jax.tuning import losses
from dawgen_jax.tuning.loop import compiled_scores
from tests import tiny


def test_predictions_do_not_depend_on_batches_or_devices():
    theta, data = tiny.theta(), tiny.classifier_set(21, 3, width=12)
    prompts = np.random.default_rng(0).normal(size=(2, 4, 16)).astype(np.float32)
    one = functools.partial(losses.class_scores, t5=tiny.T5, verbalizer=tiny.VERBALIZER)
    whole = np.asarray(jax.jit(jax.vmap(one, in_axes=(0, None, None)))(prompts, theta, data)).argmax(-1)
    for devices, size in ((1, 5), (8, 8)):
        score = compiled_scores(tiny.T5, tiny.VERBALIZER, sharding.data_mesh(devices), shared=True)
        got = evaluation.predict(score, prompts, theta, data, size=size, multiple=8)
        np.testing.assert_array_equal(got, whole)


def test_length_batches_cover_every_row_once_and_pad_with_weight_0():
    data = tiny.classifier_set(10, 0)
    seen, weight = [], 0.0
    for chosen, batch in evaluation.length_batches(data, 4, 2):
        assert batch.tokens.shape[0] == 4 and batch.tokens.shape[1] % 2 == 0
        np.testing.assert_array_equal(batch.label[:len(chosen)], data.label[chosen])
        seen += chosen.tolist()
        weight += batch.weight.sum()
    assert sorted(seen) == list(range(10)) and weight == 10


def test_trim_keeps_every_token():
    data = tiny.classifier_set(6, 1, width=16)._replace()
    short = evaluation.trim(data, 4)
    assert short.mask.sum() == data.mask.sum() and short.tokens.shape[1] <= 16


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="only 8 cpu devices"):
        sharding.data_mesh(9)
    assert sharding.rows_for(sharding.data_mesh(8), 9) == 16 and len(jax.devices()) == 8
