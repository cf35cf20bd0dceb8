"""The next token: penalty, bans, minimum length, temperature, top-k, top-p, drawn frequencies."""

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax.backbones.sampling import Sampling, greedy, next_tokens, penalise, truncate

V = 40
SCORES = np.random.default_rng(0).normal(size=(6, V)).astype(np.float32) * 2


def settings(**fields) -> Sampling:
    """Rows of settings; a scalar holds for all."""
    values = Sampling()._replace(**fields)
    dtypes = np.float32, np.int32, np.float32, np.float32, np.int32, np.int32
    return Sampling(
        *(jnp.asarray(np.broadcast_to(value, 6), dtype) for value, dtype in zip(values, dtypes, strict=True))
    )


def choose(scores, sampling, *, position=5, banned=(), seen=None, seed=0):
    forbidden = np.zeros(V, bool)
    forbidden[list(banned)] = True
    tokens, healthy = next_tokens(
        jnp.asarray(scores), sampling, keys=jax.random.split(jax.random.key(seed), 6), position=jnp.full(6, position),
        banned=jnp.asarray(forbidden), eos_id=1, seen=seen)  # fmt: skip
    return np.asarray(tokens), np.asarray(healthy)


def test_greedy_is_argmax_and_takes_the_first_of_a_tie():
    tied = np.concatenate([SCORES, SCORES], axis=1)
    np.testing.assert_array_equal(greedy(jnp.asarray(tied)), np.argmax(tied, axis=-1))
    assert greedy(jnp.full((1, 4), jnp.nan))[0] < 4


def test_penalty_divides_positive_and_multiplies_negative_logits_of_seen_tokens_only():
    seen = np.zeros((6, V), bool)
    seen[:, ::3] = True
    penalty = np.array([1, 1.1, 1.5, 2, 0.5, 1], np.float32)
    wanted = np.where(seen, np.where(SCORES > 0, SCORES / penalty[:, None], SCORES * penalty[:, None]), SCORES)
    ours = penalise(jnp.asarray(SCORES), jnp.asarray(seen), jnp.asarray(penalty))
    np.testing.assert_allclose(ours, wanted, rtol=1e-6)
    np.testing.assert_array_equal(ours[0], SCORES[0])


def test_truncation_is_that_of_a_sort():
    top_k = np.array([0, 1, 5, 0, 7, V + 9])
    top_p = np.array([1, 1, 1, 0.6, 0.5, 1e-6], np.float32)
    ours = np.asarray(truncate(jnp.asarray(SCORES), jnp.asarray(top_k), jnp.asarray(top_p)))
    for row, k, p, kept in zip(SCORES.astype(np.float64), top_k, top_p, ours, strict=True):
        order = np.argsort(-row)
        order = order[: k or V]
        mass = np.exp(row[order] - row.max())
        reached = np.cumsum(mass / mass.sum())
        order = order[: np.searchsorted(reached, p) + 1] if p < 1 else order
        assert sorted(np.flatnonzero(np.isfinite(kept))) == sorted(order)
        np.testing.assert_array_equal(kept[order], row[order].astype(np.float32))


def test_settings_hold_row_by_row():
    scores = SCORES.copy()
    scores[:, 1] = 50
    scores[:, 7] = 40
    sampling = settings(min_new_tokens=[0, 6, 0, 6, 0, 6], temperature=[0, 0, 0, 0, 2, 2], top_k=[0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(choose(scores, sampling)[0], [1, 7, 1, 7, 1, 7])
    np.testing.assert_array_equal(choose(scores, sampling, banned=(1, 7))[0][:4], np.argsort(-SCORES, 1)[:4, 0] * 0 + [
        max((s, -t) for t, s in enumerate(row) if t not in (1, 7))[1] * -1 for row in SCORES[:4]])  # fmt: skip
    seen = jnp.zeros((6, V), bool).at[:, 1].set(True)
    strong = settings(repetition_penalty=[1, 2, 1, 2, 1, 2])
    np.testing.assert_array_equal(choose(scores, strong, seen=seen)[0], [1, 7, 1, 7, 1, 7])


def test_draws_follow_the_probabilities_and_the_key_alone():
    scores = np.log(np.array([[0.0, 0.1, 0.2, 0.7]], np.float32) + 1e-30)
    count = 4000
    many = jnp.broadcast_to(jnp.asarray(scores), (count, 4))
    rows = Sampling(*(jnp.full(count, value) for value in Sampling(temperature=1.0)))
    drawn, _ = next_tokens(
        many, rows, keys=jax.random.split(jax.random.key(1), count), position=jnp.zeros(count, jnp.int32),
        banned=jnp.zeros(4, bool), eos_id=3)  # fmt: skip
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / count, [0, 0.1, 0.2, 0.7], atol=0.03)
    sampling = settings(temperature=1.0)
    assert (choose(SCORES, sampling, seed=1)[0] == choose(SCORES, sampling, seed=1)[0]).all()
    assert (choose(SCORES, sampling, seed=1)[0] != choose(SCORES, sampling, seed=2)[0]).any()


def test_scores_without_a_finite_one_are_reported_not_sampled():
    scores = SCORES.copy()
    scores[0] = np.nan
    scores[1, 3] = np.nan
    tokens, healthy = choose(scores, settings(temperature=[0, 1, 0, 1, 0, 1]))
    np.testing.assert_array_equal(healthy, [False, False, True, True, True, True])
    assert ((tokens >= 0) & (tokens < V)).all()
    assert not choose(SCORES, settings(), banned=range(V))[1].any()
