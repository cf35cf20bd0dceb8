"""Texts in front of a prompt, computed once: the numbers of the whole input, from fewer positions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dawgen_jax.backbones.base import Backbone
from dawgen_jax.backbones.decoder_only import model
from dawgen_jax.backbones.decoder_only.config import DecoderConfig
from dawgen_jax.backbones.decoder_only.seam import DecoderOnly
from dawgen_jax.config import ClassifierConfig
from dawgen_jax.data import batches
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.methods import contexts as module
from dawgen_jax.methods.base import Stage
from dawgen_jax.methods.contexts import Contexts, encode
from dawgen_jax.methods.trained import LOW_RANK, PROMPT, WEIGHTS_AND_PROMPT
from dawgen_jax.methods.tune import compiled_scores, tune
from dawgen_jax.methods.verbalizer import class_scores, cross_entropy, weighted_mean
from dawgen_jax.training.placement import Placement
from tests import tiny

LLAMA = DecoderConfig(vocab_size=48, width=16, head_dim=4, d_ff=24, num_layers=2, num_heads=4, num_kv_heads=2,
                      scan_unroll=1)
MODEL, TAIL, WORDS = DecoderOnly(LLAMA), 2, (5, 7, 9)
THETA = jax.jit(model.init, static_argnums=0)(LLAMA, jax.random.key(0))
PLAIN = dataclasses.replace(PROMPT, fixed=False, scores=lambda prompt, theta, batch, *, config, **rest: class_scores(
    prompt, theta, batch, **rest))
"""A prompt whose text is computed with it, gradient and all."""
CONFIG = ClassifierConfig(learning_rate=0.02, optimiser="adamw", pad_multiple=12)


def rows(examples: int, seed: int) -> batches.ClassifierBatch:
    """Random rows of 3 to 12 tokens that end with two cue tokens."""
    data = tiny.classifier_set(examples, seed, width=12)
    last = data.mask.sum(axis=1)
    for place in range(TAIL):
        data.tokens[np.arange(examples), last - 1 - place] = 40 + place
    return data


def backbone(placement: Placement) -> Backbone:
    return Backbone(MODEL, None, placement.put(THETA), "tiny", "")


def prompt(length: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(length, 16)).astype(np.float32)


def loss(soft, batch, scores=PROMPT.scores):
    found = scores(soft, THETA, batch, model=MODEL, label_ids=WORDS, config=CONFIG, tail=TAIL)
    return weighted_mean(cross_entropy(found, batch.label), batch.weight)


@pytest.mark.parametrize("shift", [0, 3])
def test_loss_and_gradient_are_those_of_the_whole_input(shift):
    data = rows(6, 0)
    tokens, mask = (np.roll(np.pad(leaf, [(0, 0), (0, 4)]), shift, axis=1) for leaf in (data.tokens, data.mask))
    moved = data._replace(tokens=tokens, mask=mask)
    wanted = jax.value_and_grad(functools.partial(loss, scores=PLAIN.scores))(prompt(), data)
    found = jax.value_and_grad(loss)(prompt(), moved)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert np.abs(found[1]).max() > 1e-2


def test_texts_have_no_gradient():
    def through_text(theta):
        batch = encode(theta, rows(2, 0), model=MODEL, tail=TAIL)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(batch.context) if leaf.dtype == jnp.float32)

    assert not any(np.any(leaf) for leaf in jax.tree.leaves(jax.grad(through_text)(THETA)))
    assert PROMPT.fixed and not LOW_RANK.fixed and not WEIGHTS_AND_PROMPT.fixed


def attached(gib: float, devices: int = 1):
    data = batches.stack([batches.stack([rows(4, 2 * k + s) for s in range(2)]) for k in range(3)])
    contexts = Contexts(backbone(Placement.on(devices)), TAIL, gib=gib, size=8, multiple=4)
    contexts.keep([rows(4, seed) for seed in range(6)], "test")
    return data, contexts.attach(data)


@pytest.mark.parametrize(("gib", "devices"), [(1.0, 1), (1.0, 8), (5e-6, 1)])  # the last keeps a part of them
def test_kept_contexts_are_those_of_the_program(gib, devices):
    data, found = attached(gib, devices)
    assert found.context.keys.shape[:3] == (3, 2, 4) and found.tokens.shape == (3, 2, 4, TAIL)
    assert (found.tokens == np.array([41, 40])).all()
    each = jax.vmap(jax.vmap(jax.value_and_grad(loss), (None, 0)), (None, 0))
    for one, other in zip(each(prompt(), found), each(prompt(), data), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_text_is_computed_once_and_what_does_not_fit_again(monkeypatch, caplog):
    computed = []

    def counted(*args):
        def program(params, theta, batch):
            computed.append(int(batch.weight.sum()))
            return made(params, theta, batch)

        made = program_of(*args)
        return program

    program_of = module._compiled
    monkeypatch.setattr(module, "_compiled", counted)
    contexts, data = Contexts(backbone(Placement.on(1)), TAIL, gib=1.0, size=4, multiple=4), rows(6, 0)
    for sets in ([data, batches.concatenate([data, rows(3, 1)])], [rows(3, 1), data]):
        contexts.keep(sets, "test")
        contexts.attach(data)
    assert sum(computed) == 9 and "are kept in" not in caplog.text
    contexts.keep([rows(3, 1)], "test")  # which forgets the others
    contexts.attach(data)
    assert sum(computed) == 15
    small = Contexts(backbone(Placement.on(1)), TAIL, gib=1e-6, size=4, multiple=4)
    small.keep([data], "few")
    assert "few: keys and values of 3 of 6 texts fit in classifier.context_cache_gib = 1e-06" in caplog.text
    computed.clear()
    small.attach(data)
    assert computed == [3]


def test_rows_of_padding_change_nothing():
    contexts = Contexts(backbone(Placement.on(1)), TAIL, gib=1.0, size=4, multiple=4)
    data = rows(3, 0)
    padded = batches.ClassifierBatch(*(np.pad(leaf, [(0, 2)] + [(0, 0)] * (leaf.ndim - 1)) for leaf in data[:4]))
    for found in (contexts.attach(padded), padded):
        scores = PROMPT.scores(prompt(), THETA, found, model=MODEL, label_ids=WORDS, config=CONFIG, tail=TAIL)
        alone = PLAIN.scores(prompt(), THETA, data, model=MODEL, label_ids=WORDS, config=CONFIG, tail=TAIL)
        np.testing.assert_allclose(scores[:3], alone, rtol=1e-5, atol=1e-6)
        assert np.isfinite(scores).all()


def tuned(folder, trained, gib: float, devices: int = 1):
    """Three seeds, 20 updates of a real and a synthetic batch with surgery."""
    folder.mkdir()
    placement, log = Placement.on(devices), MetricsLog(folder / "metrics.jsonl")
    frozen = backbone(placement)
    data = {"real": [rows(6, k) for k in range(3)], "synthetic": [rows(12, 10 + k) for k in range(3)]}
    stage = Stage((("real",), ("synthetic",)), "surgery", 20, 4, 10)
    contexts = Contexts(frozen, TAIL, gib=gib, size=8, multiple=12) if gib else None
    found = tune(trained, np.stack([prompt()] * 3), frozen, data, [rows(6, 20 + k) for k in range(3)], [stage],
                 config=CONFIG, label_ids=WORDS, placement=placement, seeds=(1, 2, 3), folder=folder, title="test",
                 metrics_log=log, tail=TAIL, contexts=contexts)
    lines = log.lines()
    losses = [line[name] for line in lines if "loss_real" in line for name in ("loss_real", "loss_synthetic")]
    return np.array(losses), np.array([line["distance"] for line in lines if "distance" in line]), found


def test_twenty_updates_are_those_of_the_whole_input(tmp_path):
    losses, distances, wanted = tuned(tmp_path / "plain", PLAIN, 0)
    assert losses.shape == (40, 3) and losses[-2:].mean() < losses[:2].mean() and distances[-1].min() > 0.5
    for name, gib, devices in (("kept", 1.0, 1), ("some", 1e-5, 1), ("none", 0.0, 1), ("many", 1.0, 8)):
        found = tuned(tmp_path / name, PROMPT, gib, devices)
        np.testing.assert_allclose(found[0], losses, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found[1], distances, rtol=1e-5)
        np.testing.assert_allclose(found[2].params, wanted.params, rtol=1e-5, atol=1e-5)


def test_parameter_sets_share_the_texts_of_a_batch():
    def operations(count: int, trained) -> float:
        scores = compiled_scores(trained, CONFIG, MODEL, WORDS, Placement.on(1), shared=True, tail=TAIL)
        wide = jax.tree.map(lambda leaf: np.repeat(leaf, 6, axis=1) if leaf.ndim == 2 else leaf, rows(8, 0))
        return scores.lower(np.stack([prompt()] * count), THETA, wide).compile().cost_analysis()["flops"]

    assert operations(1, PROMPT) < 1.1 * operations(1, PLAIN)
    assert operations(4, PLAIN) > 3.5 * operations(1, PLAIN)
    assert operations(4, PROMPT) < 1.8 * operations(1, PROMPT)
