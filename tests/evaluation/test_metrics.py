"""Accuracy and F1 against closed forms, hand-counted values and a plain loop over the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dawgen_jax.evaluation.metrics import accuracy, confusion, f1, scores
from dawgen_jax.tasks import SEVEN


def test_hand_values():
    # scikit-learn's own example of macro F1: f1_score([0,1,2,0,1,2], [0,2,1,0,0,1], average='macro') == 0.2666...
    labels, predictions = [0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1]
    assert f1(predictions, labels, 3) == pytest.approx(0.8 / 3)
    assert accuracy(predictions, labels) == pytest.approx(2 / 6)
    assert f1(predictions, labels, 3, positive=0) == pytest.approx(0.8)


def test_constant_predictions_have_closed_forms():
    # MRPC as in the paper: 1,725 pairs, 578 not equivalent; always 'no' scores 33.51 %.
    task = SEVEN["MRPC"]
    labels = np.repeat([0, 1], [578, 1147])
    always_no = scores(task, np.zeros(1725, int), labels)
    assert always_no == {"accuracy": pytest.approx(578 / 1725), "f1": 0.0}
    always_yes = scores(task, np.ones(1725, int), labels)
    share = 1147 / 1725
    assert always_yes == {"accuracy": pytest.approx(share), "f1": pytest.approx(2 * share / (1 + share))}
    # Macro F1 of a constant predictor over L classes: one class's F1 over L.
    sick = scores(SEVEN["SICK"], np.full(10, 2), [0] * 5 + [2] * 5)
    assert sick["f1"] == pytest.approx((2 * 0.5 / 1.5) / 3)


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 4).flatmap(lambda n: st.tuples(st.just(n), st.lists(
    st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), min_size=1, max_size=30))))
def test_agrees_with_a_loop_over_the_definition(case):
    num_labels, pairs = case
    labels, predictions = zip(*pairs, strict=True)
    each = []
    for label in range(num_labels):
        hit = sum(l == p == label for l, p in pairs)
        wrong = sum((l == label) != (p == label) for l, p in pairs)
        each.append(2 * hit / (2 * hit + wrong) if hit + wrong else 0.0)
        assert f1(predictions, labels, num_labels, positive=label) == pytest.approx(each[-1])
    assert f1(predictions, labels, num_labels) == pytest.approx(sum(each) / num_labels)
    assert accuracy(predictions, labels) == pytest.approx(sum(l == p for l, p in pairs) / len(pairs))


@pytest.mark.parametrize(("predictions", "labels", "message"), [
    ([0], [0, 1], "one length"),
    ([0, 2], [0, 1], r"0\.\.1"),
    ([0, 1], [0, -1], r"0\.\.1"),
    ([], [], "nothing to score"),
])
def test_bad_input(predictions, labels, message):
    with pytest.raises(ValueError, match=message):
        confusion(predictions, labels, 2)
