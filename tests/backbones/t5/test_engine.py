"""Continuous batching: the same text in any order, batch or mesh; no retrace; budgets, cuts and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dawgen_jax.backbones.base import Generated, Work
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.config import SynthesisConfig
from dawgen_jax.errors import ConfigError, UserError

CONFIG = T5Config(60, 16, 4, 24, 1, 1, 3)
LABELS, ROWS = 2, 2
BUDGET = 8
RNG = np.random.default_rng(0)
SOURCES = [RNG.integers(3, 60, RNG.integers(2, 14)) for _ in range(24)]


def settings(i: int) -> Sampling:
    """Rows of many kinds together: greedy and drawn, penalised, with a least and a largest length."""
    return Sampling(
        temperature=[0.0, 1.0, 2.0][i % 3],
        top_k=[0, 10][i % 2],
        top_p=[1.0, 0.8][i // 2 % 2],
        repetition_penalty=[1.0, 1.5][i // 3 % 2],
        min_new_tokens=i % 4,
        max_new_tokens=1 + i % BUDGET,
    )


WORK = [Work(i % LABELS, i, source, None, settings(i)) for i, source in enumerate(SOURCES)]


@pytest.fixture(scope="module")
def theta():
    return jax.jit(model.init, static_argnums=0)(CONFIG, jax.random.key(0))


@pytest.fixture(scope="module")
def prompts():
    return jax.random.normal(jax.random.key(1), (LABELS, ROWS, CONFIG.d_model))


def embed_fn(theta, prompts, rows):
    text = model.embed(theta, rows.source, config=CONFIG)
    front = jnp.ones((len(rows.source), ROWS), bool)
    return jnp.concatenate([prompts[rows.label], text], 1), jnp.concatenate([front, rows.mask], 1)


def build(embed_fn=embed_fn, **options) -> Decoder:
    defaults = {"eos_id": 1, "banned": (0,), "slots": 8, "widths": (16,), "max_new_tokens": BUDGET}
    return Decoder(T5(CONFIG), embed_fn, **defaults | options)


@pytest.fixture(scope="module")
def decoder():
    return build()


def run(decoder, theta, prompts, work=WORK, seed=3) -> dict[int, Generated]:
    samples = list(decoder.generate(theta, prompts, work, jax.random.key(seed)))
    assert len(samples) == len({sample.index for sample in samples}) == len(work)
    return {sample.index: sample for sample in samples}


def same(first, second) -> list[bool]:
    return [
        np.array_equal(first[i].tokens, second[i].tokens) and first[i].finished == second[i].finished for i in first
    ]


@pytest.fixture(scope="module")
def reference(decoder, theta, prompts):
    return run(decoder, theta, prompts)


@jax.jit
def teacher_forced(theta, prompts, source, length, label, tokens):
    rows = jnp.concatenate([prompts[label], model.embed(theta, source, config=CONFIG)])[None]
    mask = (jnp.arange(rows.shape[1]) < ROWS + length)[None]
    encoded = model.encode(theta, rows, mask, config=CONFIG)
    hidden = model.decode(theta, tokens[None], encoded, mask, config=CONFIG)
    return model.logits(theta, hidden, config=CONFIG)[0]


def scores_of(theta, prompts, work: Work, tokens: np.ndarray) -> np.ndarray:
    """Scores [U + 1, V] of each next token after 0..U tokens, without a cache."""
    source = np.pad(work.source, (0, 16 - len(work.source)))
    inputs = np.pad(tokens, (1, BUDGET - len(tokens)))
    return np.asarray(teacher_forced(theta, prompts, source, len(work.source), work.label, inputs))[: len(tokens) + 1]


def test_greedy_and_penalised_rows_are_those_of_a_plain_loop(theta, prompts, reference):
    """Token by token from uncached scores, with the rules written out."""
    for work in (work for work in WORK if work.sampling.temperature == 0):
        sample, setting = reference[work.index], work.sampling
        text = np.append(sample.tokens, [1] * sample.finished).astype(int)
        assert len(text) == setting.max_new_tokens or sample.finished
        scores = scores_of(theta, prompts, work, text[:-1])
        for position, token in enumerate(text):
            row = scores[position].copy()
            for seen in {*work.source, *text[:position]} - {0, 1}:
                row[seen] *= 1 / setting.repetition_penalty if row[seen] > 0 else setting.repetition_penalty
            row[0] = -np.inf
            if position < setting.min_new_tokens:
                row[1] = -np.inf
            assert token == row.argmax() or row.max() - row[token] < 1e-4


def test_text_depends_neither_on_order_nor_neighbours_nor_refills(decoder, theta, prompts, reference):
    traces = dict(decoder.traces)
    assert all(same(reference, run(decoder, theta, prompts, WORK[::-1])))
    assert all(same({i: reference[i] for i in (5, 7)}, run(decoder, theta, prompts, [WORK[7], WORK[5]])))
    assert dict(decoder.traces) == traces == {name: 1 for name in ("unstack", "empty", "prefill", "place", "advance")}
    assert not all(same(reference, run(decoder, theta, prompts, seed=4)))


def test_other_shapes_and_devices_give_the_same_text(theta, prompts, reference, capsys):
    """Another shape rounds differently: a token may differ only at a gap below 1e-4, and such cases are counted."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    ties = 0
    for other in (build(slots=3, refill=2, widths=(4, 16)), build(slots=6, mesh=mesh)):
        samples = run(other, theta, prompts)
        for work, agrees in zip(WORK, same(reference, samples), strict=True):
            if agrees:
                continue
            assert work.sampling.temperature == 0, "a drawn token differs"
            first, second = reference[work.index].tokens, samples[work.index].tokens
            place = np.flatnonzero(first[: len(second)] != second[: len(first)])[0]
            row = scores_of(theta, prompts, work, first[:place])[place]
            assert abs(row[first[place]] - row[second[place]]) < 1e-4
            ties += 1
        list(other.score(theta, prompts, [(work, samples[work.index]) for work in WORK], LABELS))
        of_width = dict.fromkeys(("prefill", "place", "score"), len(other.widths))
        assert dict(other.traces) == {"unstack": 1, "empty": 1, "advance": 1, **of_width}
    with capsys.disabled():
        print(f"[{ties} near ties among {2 * len(WORK)} samples]", end=" ")


def test_drawn_tokens_are_those_of_the_sample_s_key(decoder, theta, prompts):
    """fold_in(fold_in(key, label), index), then the position, is the key of each token's Gumbel noise."""
    work = Work(1, 20, SOURCES[20], None, Sampling(temperature=0.7, max_new_tokens=BUDGET, min_new_tokens=BUDGET))
    tokens = run(decoder, theta, prompts, [work], seed=5)[20].tokens
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 1), 20)
    scores = scores_of(theta, prompts, work, tokens[:-1]) / np.float32(0.7)
    scores[:, [0, 1]] = -np.inf
    wanted = [jax.random.categorical(jax.random.fold_in(key, u), row) for u, row in enumerate(scores)]
    np.testing.assert_array_equal(tokens, wanted)
    assert (tokens != scores.argmax(-1)).any()


@pytest.mark.parametrize("switch", [jax.enable_x64(True), jax.numpy_dtype_promotion("strict")], ids=["x64", "strict"])
def test_global_switches_of_dtypes_change_no_text(switch, decoder, theta, prompts, reference):
    pairs = [(work, reference[work.index]) for work in WORK[:5]]
    scores = list(decoder.score(theta, prompts, iter(pairs), LABELS))
    with switch:
        other = build()
        assert all(same(reference, run(other, theta, prompts)))
        for ours, wanted in zip(other.score(theta, prompts, iter(pairs), LABELS), scores, strict=True):
            assert ours.dtype == np.float32
            np.testing.assert_array_equal(ours, wanted)


def test_a_long_stream_keeps_the_slots_busy(theta, prompts):
    decoder = build()
    work = [Work(0, i, SOURCES[i % 24], None, Sampling(min_new_tokens=1 + i % BUDGET, max_new_tokens=1 + i % BUDGET))
            for i in range(240)]  # fmt: skip
    tokens = sum(len(sample.tokens) for sample in run(decoder, theta, prompts, work).values())
    assert tokens == 240 * (BUDGET + 1) / 2 <= decoder.steps * decoder.slots <= 1.3 * tokens


def test_minimum_banned_and_penalised_ids_hold(theta, prompts):
    banned = {0, *range(2, 50)}
    other = build(banned=banned)
    sampling = Sampling(min_new_tokens=8, max_new_tokens=8, repetition_penalty=1e4)
    work = [Work(0, i, np.arange(50, 60), None, sampling._replace(temperature=i % 2)) for i in range(6)]
    for sample in run(other, theta, prompts, work).values():
        assert len(sample.tokens) == 8 and not sample.finished
        assert not set(sample.tokens) & {1, *banned}


def test_end_of_sequence_is_never_penalised(theta, prompts):
    """A penalised end of sequence would never end: its logit is untouched even though the source holds it."""
    decoder, ended = build(), set()
    for size in (50, -50):
        biased = {**theta, "head": theta["head"].at[1].set(size * theta["head"][1])}
        work = [
            Work(i % 2, i, np.append(source, 1), None, Sampling(repetition_penalty=1.5, max_new_tokens=8))
            for i, source in enumerate(SOURCES[:8])
        ]
        plain = [item._replace(sampling=Sampling(max_new_tokens=1)) for item in work]
        at_once = {i for i, sample in run(decoder, biased, prompts, plain).items() if sample.finished}
        assert at_once <= {i for i, sample in run(decoder, biased, prompts, work).items() if not len(sample.tokens)}
        ended |= at_once
    assert ended


def test_an_end_of_sequence_that_leads_by_less_than_the_penalty_still_ends_the_sample(theta, prompts):
    decoder = build(draw=False)
    for index, source in enumerate(SOURCES[:4]):
        work = Work(0, index, np.append(source, 1), None, Sampling(repetition_penalty=1.5, max_new_tokens=2))
        first = scores_of(theta, prompts, work, np.zeros(0, np.int32))[0].copy()
        first[[0, 1, *source]] = -np.inf
        best = int(first.argmax())
        assert first[best] > 0
        leading = {**theta, "head": theta["head"].at[1].set(1.2 * theta["head"][best])}
        (sample,) = run(decoder, leading, prompts, [work]).values()
        assert sample.finished and not len(sample.tokens)


def test_log_probabilities_under_every_label(decoder, theta, prompts, reference):
    pairs = [(work, reference[work.index]) for work in WORK[:5]]
    values = list(decoder.score(theta, prompts, iter(pairs), LABELS))
    for (work, sample), value in zip(pairs, values, strict=True):
        text = np.append(sample.tokens, [1] * sample.finished).astype(int)
        for label in range(LABELS):
            scores = jax.nn.log_softmax(scores_of(theta, prompts, work._replace(label=label), text[:-1]))
            np.testing.assert_allclose(value[label], scores[np.arange(len(text)), text], atol=1e-4)


def test_long_sources_are_cut_before_the_soft_rows_and_counted(theta, prompts):
    seen = []

    def watched(theta, prompts, rows):
        jax.debug.callback(lambda *rows: seen.append(rows), rows.source, rows.slots)
        return embed_fn(theta, prompts, rows)

    decoder = build(watched, slots=1, widths=(6,), max_new_tokens=2, refill=1)
    slots = np.array([-1] * 7 + [0, 1, -1])
    work = Work(0, 0, np.arange(3, 13), slots, Sampling(max_new_tokens=1))
    made = run(decoder, theta, prompts, [work])
    assert decoder.cut == 1
    decoder._score = lambda theta, prompts, rows, targets, mask: np.zeros(targets.shape)
    list(decoder.score(theta, prompts, [(work, made[0])], 1))
    assert decoder.cut == 1  # the same text once more
    np.testing.assert_array_equal(seen[0][0][0], [3, 4, 5, 10, 11, 12])
    np.testing.assert_array_equal(seen[0][1][0], [-1, -1, -1, 0, 1, -1])
    with pytest.raises(UserError, match="exceed the source budget 6"):
        run(decoder, theta, prompts, [Work(0, 0, np.arange(3, 13), np.arange(10), WORK[0].sampling)])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens = 0: must be 1 to 8"),
        ({"max_new_tokens": 9}, "max_new_tokens = 9"),
        ({"top_p": 0.0}, "top_p = 0.0: must be greater than 0"),
        ({"top_p": 1.5}, "top_p = 1.5"),
        ({"temperature": -1.0}, "temperature = -1.0"),
        ({"temperature": np.nan}, "temperature = nan"),
        ({"temperature": 1e-5}, r"temperature = 1e-05: must be 0 \(greedy\), or 1e-4 or more"),
        ({"top_k": -1}, "top_k = -1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty = 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message, decoder, theta, prompts):
    work = Work(0, 7, np.arange(3), None, Sampling(**{"max_new_tokens": 4, **setting}))
    with pytest.raises(UserError, match=f"sample 7 of label 0: {message}"):
        list(decoder.generate(theta, prompts, [work], jax.random.key(0)))


def test_the_smallest_temperature_gives_finite_scores(decoder, theta, prompts):
    with pytest.raises(ConfigError, match="temperature = 1e-05"):
        SynthesisConfig(temperature=1e-5)
    loud = {**theta, "head": theta["head"] * 1e3}
    cold = [Work(0, i, source, None, Sampling(1e-4, top_p=0.9, max_new_tokens=4)) for i, source in enumerate(SOURCES)]
    hot = [work._replace(sampling=work.sampling._replace(temperature=0.0)) for work in cold]
    assert all(same(run(decoder, loud, prompts, cold), run(decoder, loud, prompts, hot)))


def test_impossible_decoders_and_broken_backbones_are_refused(decoder, theta, prompts):
    for options, message in (
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"widths": ()}, "widths = 0"),
        ({"slots": 0}, "slots = 0"),
        ({"banned": [i for i in range(60) if i != 1]}, "covers the whole vocabulary"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(**options)
    with pytest.raises(UserError, match="its source is empty"):
        run(decoder, theta, prompts, [Work(0, 0, np.zeros(0, int), None, WORK[0].sampling)])
    for options, setting in (
        ({"penalty": False}, {"repetition_penalty": 1.5}),
        ({"draw": False}, {"temperature": 1.0}),
    ):
        with pytest.raises(UserError, match="since this decoder has"):
            run(
                build(**options),
                theta,
                prompts,
                [Work(0, 0, np.ones(1, int), None, Sampling(**setting, max_new_tokens=1))],
            )
    broken = {**theta, "head": theta["head"] * jnp.nan}
    with pytest.raises(UserError, match="scores are not finite"):
        list(decoder.generate(broken, prompts, WORK[:1], jax.random.key(0)))
