"""Scores are label-word logits, the loss is PyTorch's cross-entropy over them, and padding counts for nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dawgen_jax import prompts
from dawgen_jax.backbones.t5 import model
from dawgen_jax.data.batches import pad_rows
from dawgen_jax.methods.verbalizer import class_scores, cross_entropy, weighted_mean
from tests import tiny
from tests.oracles import prompt_loss


def random_scores(labels):
    return np.random.default_rng(labels).normal(size=(9, labels)).astype(np.float32) * 4


@pytest.mark.parametrize("smoothing", [0.0, 0.15, 0.5, 1.0])
@pytest.mark.parametrize("labels", [2, 3])
def test_label_smoothing_is_pytorchs(smoothing, labels):
    torch = pytest.importorskip("torch")
    scores, label = random_scores(labels), np.arange(9) % labels
    logits = torch.tensor(scores, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(label), label_smoothing=smoothing)
    loss.backward()
    ours, gradient = jax.value_and_grad(lambda s: cross_entropy(s, label, smoothing).mean())(scores)
    np.testing.assert_allclose(ours, loss.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, logits.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_no_smoothing_is_minus_the_golds_log_probability():
    scores, label = random_scores(3), np.arange(9) % 3
    by_hand = [np.log(np.exp(row).sum()) - row[y] for row, y in zip(scores.astype(float), label, strict=True)]
    np.testing.assert_allclose(cross_entropy(scores, label), by_hand, rtol=1e-5, atol=1e-6)


def test_scores_are_the_label_words_logits_at_the_mask():
    theta, batch = tiny.theta(), tiny.classifier_set(4, 0)
    prompt = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    embeddings, mask = prompts.insert(theta, batch.tokens, batch.mask, prompt, model=tiny.MODEL)
    encoded = model.encode(theta, embeddings, mask, config=tiny.T5)
    fed = jnp.broadcast_to(jnp.array([[tiny.T5.decoder_start_id, 39]]), (4, 2))
    every = model.logits(theta, model.decode(theta, fed, encoded, mask, config=tiny.T5)[:, 1], config=tiny.T5)
    scores = class_scores(prompt, theta, batch, model=tiny.MODEL, label_ids=tiny.LABEL_IDS)
    np.testing.assert_allclose(scores, every[:, list(tiny.LABEL_IDS)], rtol=1e-5, atol=1e-5)


def test_a_weighted_mean_of_nothing_is_zero():
    assert weighted_mean(jnp.ones(3), jnp.zeros(3)) == 0
    assert weighted_mean(jnp.array([1.0, 5.0]), jnp.array([1.0, 0.0])) == 1


def test_padding_changes_neither_loss_nor_gradient():
    theta, batch = tiny.theta(), tiny.classifier_set(4, 0)
    prompt = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)

    @jax.jit
    def of(batch):
        return jax.value_and_grad(prompt_loss)(prompt, theta, batch, model=tiny.MODEL, label_ids=tiny.LABEL_IDS,
                                               smoothing=0.15)

    for ours, padded in zip(of(batch), of(pad_rows(batch, 7)), strict=True):
        np.testing.assert_allclose(ours, padded, rtol=1e-5, atol=1e-6)
