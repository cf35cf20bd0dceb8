"""Soft prompts: places, positions, starts, files."""

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from dawgen_jax import prompts
from dawgen_jax.backbones.t5 import model
from dawgen_jax.data.encoding import rectangle
from dawgen_jax.errors import UserError
from tests import tiny


def test_rows_stand_in_front_and_infix_rows_in_their_slots():
    theta = tiny.theta()
    tokens = np.array([[3, 4, 0, 0, 1], [5, 0, 0, 1, 0]], np.int32)
    slots = np.array([[-1, -1, 0, 1, -1], [-1, 0, 1, -1, -1]], np.int32)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], bool)
    prompt, infix = np.full((2, 3, 16), 7.0, np.float32), np.arange(64, dtype=np.float32).reshape(2, 2, 16)
    embeddings, full_mask = prompts.insert(theta, tokens, mask, prompt, model=tiny.MODEL, infix=infix, slots=slots)
    assert embeddings.shape == (2, 8, 16)
    np.testing.assert_array_equal(embeddings[:, :3], prompt)
    np.testing.assert_array_equal(embeddings[0, 5:7], infix[0])
    np.testing.assert_array_equal(embeddings[1, 4:6], infix[1])
    np.testing.assert_array_equal(embeddings[1, 3], theta["embedding"][5])
    np.testing.assert_array_equal(full_mask[1], [1, 1, 1, 1, 1, 1, 1, 0])


def test_first_tokens_may_stand_in_front_of_the_prompt():
    theta, rows = tiny.theta(), [[3, 4, 5, 6], [7, 8], [9]]
    tokens, mask = rectangle(rows, 5)
    prompt = np.full((3, 2, 16), 7.0, np.float32)
    embeddings, full_mask = prompts.insert(theta, tokens, mask, prompt, model=tiny.MODEL, head=1)
    for i, row in enumerate(rows):
        own = theta["embedding"][np.array(row)]
        np.testing.assert_array_equal(embeddings[i][full_mask[i]], np.concatenate([own[:1], prompt[i], own[1:]]))


@pytest.mark.parametrize("tail", [0, 1, 2])
def test_a_prompt_inside_stands_before_the_last_tokens_of_every_row(tail):
    theta, rows = tiny.theta(), [[3, 4, 5, 6], [7, 8], [9, 10, 11]]
    tokens, mask = rectangle(rows, 5)
    prompt = np.full((2, 16), 7.0, np.float32)
    delta = np.random.default_rng(0).normal(size=(3, 5, 16)).astype(np.float32)
    embeddings, full_mask = prompts.insert(theta, tokens, mask, prompt, model=tiny.MODEL, tail=tail, delta=delta)
    assert embeddings.shape == (3, 7, 16)
    for i, row in enumerate(rows):
        own = theta["embedding"][np.array(row)] + delta[i, :len(row)]
        front = len(row) - tail
        np.testing.assert_array_equal(embeddings[i][full_mask[i]], np.concatenate([own[:front], prompt, own[front:]]))
        np.testing.assert_array_equal(full_mask[i], np.arange(7) >= 5 - len(row))


def test_vocabulary_rows_as_a_prompt_are_the_same_as_tokens():
    # Prompt rows take positions 0..P-1: a prompt of embedded tokens must be those tokens.
    theta, text = tiny.theta(), np.array([[6, 7, 8, 1]], np.int32)
    prompt = prompts.rows_of(theta, text[0, :2], model=tiny.MODEL)
    soft, soft_mask = prompts.insert(theta, text[:, 2:], np.ones((1, 2), bool), prompt, model=tiny.MODEL)
    hard = model.embed(theta, text, config=tiny.T5)
    np.testing.assert_array_equal(model.encode(theta, soft, soft_mask, config=tiny.T5),
                                  model.encode(theta, hard, jnp.ones((1, 4), bool), config=tiny.T5))


def test_label_prompts_end_with_their_phrase_and_differ_only_there():
    theta, ids = tiny.theta(), np.arange(10, 20)
    start = prompts.label_prompts(theta, [[3, 4], [3, 5]], [[6], [6, 7]], ids, 5, model=tiny.MODEL, seed=0)
    assert start["prompt"].shape == (2, 5, 16) and start["infix"].shape == (2, 2, 16)
    np.testing.assert_array_equal(start["prompt"][0, :3], start["prompt"][1, :3])
    np.testing.assert_array_equal(start["prompt"][1, 3:], theta["embedding"][np.array([3, 5])])
    np.testing.assert_array_equal(start["infix"][0, 1], theta["embedding"][6])


def test_a_vocabulary_prompt_has_the_first_pieces_or_a_draw_without_repeats():
    theta, ids = tiny.theta(), np.arange(10, 20)

    def pieces(length, seed=None):
        rows = prompts.vocabulary_prompt(theta, ids, length, model=tiny.MODEL, seed=seed)
        table = np.asarray(theta["embedding"])
        return [int(np.flatnonzero((table == row).all(axis=1))[0]) for row in rows]

    assert pieces(4) == [10, 11, 12, 13]
    assert sorted(pieces(10, seed=1)) == ids.tolist()
    assert pieces(4, seed=1) == pieces(4, seed=1) != pieces(4, seed=2)


def test_of_a_phrase_that_is_longer_than_the_prompt_the_end_is_kept():
    theta = tiny.theta()
    start = prompts.text_prompt(theta, [3, 4, 5, 6], np.arange(10, 20), 3, model=tiny.MODEL, seed=0)
    np.testing.assert_array_equal(start, theta["embedding"][np.array([4, 5, 6])])


def test_too_long_a_prompt_is_refused():
    with pytest.raises(UserError, match="prompt_length = 9"):
        prompts.vocabulary_prompt(tiny.theta(), np.arange(8), 9, model=tiny.MODEL)


def test_files_round_trip_and_a_broken_one_is_named(tmp_path):
    prompts.save(tmp_path / "p.safetensors", {"prompt": np.ones((2, 3))})
    np.testing.assert_array_equal(prompts.load(tmp_path / "p.safetensors")["prompt"], np.ones((2, 3), np.float32))
    (tmp_path / "q.safetensors").write_bytes(b"no")
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("q.safetensors", "missing.safetensors", "folder.safetensors"):
        with pytest.raises(UserError, match=rf"{name}: cannot be read as soft prompts \(.*\); give a file"):
            prompts.load(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_prompts_that_are_not_finite_or_of_another_dtype_are_refused(value, tmp_path):
    path = tmp_path / "p.safetensors"
    prompts.save(path, {"prompt": np.ones((2, 3)), "infix": np.array([[0, value]])})
    with pytest.raises(UserError, match=r"p.safetensors: tensor infix holds NaN or infinity; tune the prompt again"):
        prompts.load(path)
    save_file({"prompt": np.ones((2, 3), np.int32)}, path)
    with pytest.raises(UserError, match=r"p.safetensors: tensor prompt is stored as I32, not as float32; give a file"):
        prompts.load(path)
