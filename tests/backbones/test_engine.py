"""Continuous batching over a decoder-only model: the text of a plain loop that computes everything again per token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dawgen_jax import prompts
from dawgen_jax.backbones.base import Work
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from tests.backbones.causal import Causal

MODEL = Causal()
PAD, EOS, BUDGET, ROWS, LABELS = 0, 1, 9, 2, 3
WIDTHS = 4, 12
LENGTH = ROWS + WIDTHS[-1] + BUDGET


def source(i):
    """A text with a soft row inside, one that ends with two soft rows, one of tokens only, and again."""
    rng = np.random.default_rng(i)
    length = rng.integers(3, WIDTHS[i % 2] + 1)
    slots = np.full(length, -1)
    if i % 3 == 0:
        slots[1] = 0
    elif i % 3 == 1:
        slots[-2:] = 0, 1
    return rng.integers(2, MODEL.vocab_size, length), slots


WORK = [Work(i % LABELS, i, *source(i), Sampling(max_new_tokens=1 + i % BUDGET)) for i in range(20)]


@pytest.fixture(scope="module")
def theta():
    return MODEL.init(jax.random.key(0))


@pytest.fixture(scope="module")
def label_prompts():
    random = np.random.default_rng(1)
    return {name: random.normal(size=(LABELS, ROWS, MODEL.width)).astype(np.float32) for name in ("prompt", "infix")}


def to_the_right(embeddings, mask):
    """Right padding becomes left padding."""
    order = jnp.argsort(mask, axis=1, stable=True)
    return jnp.take_along_axis(embeddings, order[..., None], axis=1), jnp.take_along_axis(mask, order, axis=1)


def right(theta, label_prompts, rows):
    return prompts.insert(theta, rows.source, rows.mask, label_prompts["prompt"][rows.label], model=MODEL,
                          infix=label_prompts["infix"][rows.label], slots=rows.slots)


def left(theta, label_prompts, rows):
    return to_the_right(*right(theta, label_prompts, rows))


def between(theta, label_prompts, rows):
    """Padding between the prompt and the text, as PEFT has it in front of left-padded text."""
    embeddings, mask = right(theta, label_prompts, rows)
    text = to_the_right(embeddings[:, ROWS:], mask[:, ROWS:])
    return tuple(jnp.concatenate([front[:, :ROWS], rest], axis=1)
                 for front, rest in zip((embeddings, mask), text, strict=True))


@jax.jit
def uncached(theta, embeddings, length):
    """Scores [V] behind the first ``length`` of the embeddings [T, H]."""
    mask = (jnp.arange(len(embeddings)) < length)[None]
    return MODEL.logits(theta, MODEL.input_states(theta, embeddings[None], mask))[0, length - 1]


def plain(theta, label_prompts, work, text=None):
    """(tokens, scores [U, V]) of a loop without cache and padding: greedy, or along a given text."""
    embedded = np.asarray(MODEL.embed(theta, work.source))
    soft = work.slots >= 0
    embedded = np.where(soft[:, None], label_prompts["infix"][work.label][work.slots], embedded)
    embedded = np.concatenate([label_prompts["prompt"][work.label], embedded])
    tokens, scores = [], []
    for position in range(work.sampling.max_new_tokens if text is None else len(text)):
        rows = np.pad(embedded, ((0, LENGTH - len(embedded)), (0, 0)))
        scores.append(np.asarray(uncached(theta, rows, len(embedded))))
        tokens.append(int(np.where(np.arange(MODEL.vocab_size) == PAD, -np.inf, scores[-1]).argmax())
                      if text is None else text[position])
        if tokens[-1] == EOS:
            break
        embedded = np.concatenate([embedded, np.asarray(MODEL.embed(theta, np.array(tokens[-1:])))])
    return tokens, np.array(scores)


@pytest.fixture(scope="module")
def wanted(theta, label_prompts):
    return {work.index: plain(theta, label_prompts, work)[0] for work in WORK}


def build(embed_fn, **options):
    defaults = {"slots": 3, "refill": 1, "widths": WIDTHS, "max_new_tokens": BUDGET, "penalty": False, "draw": False}
    return Decoder(MODEL, embed_fn, eos_id=EOS, banned=(PAD,), **defaults | options)


def texts(decoder, theta, label_prompts, work=WORK):
    made = list(decoder.generate(theta, label_prompts, work, jax.random.key(0)))
    return {one.index: [*one.tokens.tolist(), *[EOS] * one.finished] for one in made}


@pytest.mark.parametrize("embed_fn", [right, left, between])
def test_text_and_scores_of_a_causal_model_are_those_of_a_plain_loop(embed_fn, theta, label_prompts, wanted):
    """20 samples of two widths in three slots, each of which is filled again as soon as it is free."""
    decoder = build(embed_fn)
    made = list(decoder.generate(theta, label_prompts, WORK, jax.random.key(0)))
    assert {one.index: [*one.tokens.tolist(), *[EOS] * one.finished] for one in made} == wanted
    assert 0 < sum(one.finished for one in made) < len(made) / 2 and len({*map(tuple, wanted.values())}) > 15
    made.sort(key=lambda one: one.index)
    pairs = [(WORK[one.index], one) for one in made[:8]]
    for (work, _), values in zip(pairs, decoder.score(theta, label_prompts, pairs, LABELS), strict=True):
        text = wanted[work.index]
        for label in range(LABELS):
            scores = jax.nn.log_softmax(plain(theta, label_prompts, work._replace(label=label), text)[1])
            np.testing.assert_allclose(values[label], scores[np.arange(len(text)), text], atol=1e-5)
    assert decoder.traces == {"unstack": 1, "empty": 1, "prefill": 2, "place": 2, "advance": 1, "score": 2}


def test_slots_and_heads_spread_over_a_mesh(theta, label_prompts, wanted):
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    decoder = build(left, slots=4, mesh=mesh)
    assert texts(decoder, theta, label_prompts) == wanted
    layers = decoder._unstack(theta)
    cache = decoder._empty(decoder._positions(layers, label_prompts)).cache
    shapes = {leaf.sharding.shard_shape(leaf.shape) for leaf in jax.tree.leaves((cache.own, cache.inputs.layers))}
    assert shapes == {(1, 1, BUDGET, 4), (1, 1, ROWS + WIDTHS[-1], 4)}  # of 4 slots and 2 heads


def test_an_input_of_one_position_is_its_own_first_step(theta, label_prompts):
    work = [Work(0, i, np.array([2 + i]), np.array([-1]), Sampling(max_new_tokens=BUDGET)) for i in range(5)]
    alone = label_prompts | {"prompt": label_prompts["prompt"][:, :0]}
    assert texts(build(left), theta, alone, work) == {one.index: plain(theta, alone, one)[0] for one in work}
