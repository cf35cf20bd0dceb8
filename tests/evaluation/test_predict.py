"""Scoring: order, padding, devices."""

import functools

import jax
import numpy as np
import pytest

from dawgen_jax.config import ClassifierConfig
from dawgen_jax.data import batches
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.evaluation import predict as evaluation
from dawgen_jax.methods import verbalizer
from dawgen_jax.methods.trained import PROMPT
from dawgen_jax.methods.tune import compiled_scores
from dawgen_jax.training.placement import Placement
from tests import tiny


def test_predictions_do_not_depend_on_batches_or_devices():
    theta, data = tiny.theta(), tiny.classifier_set(21, 3, width=12)
    prompts = np.random.default_rng(0).normal(size=(2, 4, 16)).astype(np.float32)
    one = functools.partial(verbalizer.class_scores, model=tiny.MODEL, label_ids=tiny.LABEL_IDS)
    whole = np.asarray(jax.jit(jax.vmap(one, in_axes=(0, None, None)))(prompts, theta, data)).argmax(-1)
    for devices, size in ((1, 5), (8, 8)):
        score = compiled_scores(PROMPT, ClassifierConfig(), tiny.MODEL, tiny.LABEL_IDS, Placement.on(devices),
                                shared=True)
        got = evaluation.class_scores(score, prompts, theta, data, size=size, multiple=8).argmax(axis=-1)
        np.testing.assert_array_equal(got, whole)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused_instead_of_taken_for_the_first_class(odd):
    data = tiny.classifier_set(5, 3)

    def score(params, theta, batch):
        scores = np.zeros((len(params), len(batch.label), 3), np.float32)
        scores[0, 1, 2] = theta
        return scores

    # The second row of the last batch is padding, and is not looked at.
    assert evaluation.class_scores(score, np.zeros(2), 1.0, data, size=4, multiple=8).argmax(axis=-1)[0].sum() == 2
    with pytest.raises(UserError, match="1 of 5 examples have class scores that are not finite: numbers of the back"):
        evaluation.class_scores(score, np.zeros(2), odd, data, size=5, multiple=8)


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
    short = batches.trim(data, 4)
    assert short.mask.sum() == data.mask.sum() and short.tokens.shape[1] <= 16


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="only 8 cpu devices"):
        Placement.on(9)
    assert Placement.on(8).rows(9) == 16 and len(jax.devices()) == 8
