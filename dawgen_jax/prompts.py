"""Soft prompts: insertion into a model's input, and initialisation; ``io.prompt_files`` reads and writes them.

A classifier's prompt P is one array [P, H] in front of the text, or in front of its last tokens. A generator's label
prompts Q are a dictionary ``{"prompt": [L, P, H], "infix": [L, I, H]}``: virtual tokens before and after sentence 1.
Virtual tokens occupy positions of the input, so a prompt in front shifts the text by P, as in Hugging Face and PEFT.

``Departure:`` DawGen's generator baseline (CTRL) has a deep prefix of keys and values at every layer; here a generator
has virtual tokens in its input only.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax.backbones.base import Model
from dawgen_jax.errors import UserError
from dawgen_jax.io import world
from dawgen_jax.io.prompt_files import load, save

__all__ = ["insert", "label_prompts", "load", "rows_of", "save", "text_prompt", "vocabulary_prompt"]


def insert(theta, tokens, mask, prompt, *, model: Model, head: int = 0, tail: int | None = None, infix=None,
           slots=None, delta=None):
    """Insert virtual tokens into a model's input: ``[E(tokens)[:h] ; prompt ; E(tokens)[h:]]``, or -n instead of h.

    Infix rows replace embeddings at their slots.

    Args:
      theta: the backbone's parameters.
      tokens: int32 [B, T] token ids.
      mask: bool [B, T], True at real positions.
      prompt: [P, H], or [B, P, H] with one prompt per example; P may be 0.
      model: the backbone.
      head: h, number of tokens of each row that precede the prompt.
      tail: n, number of real tokens of each row that follow the prompt; None uses ``head``.
      infix: [B, I, H] virtual tokens inside the text, if any.
      slots: int32 [B, T], the infix row at each position, -1 for the token's embedding; required with ``infix``.
      delta: [B, T, H] added to the embeddings of the tokens, if given.

    Returns:
      (embeddings [B, P + T, H] in the compute dtype, mask bool [B, P + T]). With ``tail`` the rows are padded on the
      left; otherwise their padding stays in place.
    """
    batch, length = tokens.shape
    if tail is not None:
        # Roll rows to the right, so that the last n columns are the last n tokens of each.
        padding = length - jnp.sum(mask, axis=1, keepdims=True)
        source = (jnp.arange(length)[None] - padding) % length
        tokens, mask = (jnp.take_along_axis(one, source, axis=1) for one in (tokens, mask))
        if delta is not None:
            delta = jnp.take_along_axis(delta, source[..., None], axis=1)
    embedded = model.embed(theta, tokens)
    if delta is not None:
        embedded += delta.astype(embedded.dtype)
    if infix is not None:
        # A product with one-hot rows: its transpose is also a product, whereas a gather's is a slow scatter-add.
        places = jax.nn.one_hot(slots, infix.shape[1], dtype=embedded.dtype)
        rows = jnp.einsum("bti,bih->bth", places, infix.astype(embedded.dtype))
        embedded = jnp.where((slots >= 0)[..., None], rows, embedded)
    prompt = jnp.broadcast_to(prompt, (batch, *prompt.shape[-2:])).astype(embedded.dtype)
    seen = jnp.ones((batch, prompt.shape[1]), bool)
    front = head if tail is None else length - tail
    return (jnp.concatenate([embedded[:, :front], prompt, embedded[:, front:]], axis=1),
            jnp.concatenate([mask[:, :front], seen, mask[:, front:]], axis=1))


def rows_of(theta, ids, *, model: Model) -> np.ndarray:
    """Input embeddings [len(ids), H] of tokens ``ids``, in float32."""
    return np.asarray(world.host(model.embed(theta, jnp.asarray(ids, jnp.int32)[None]))[0], np.float32)


def vocabulary_prompt(theta, ids: np.ndarray, length: int, *, model: Model, seed: int | None = None) -> np.ndarray:
    """A prompt [P, H] of vocabulary embeddings: the first ``length`` of ``ids``, or a random sample given ``seed``.

    Args:
      theta: the backbone's parameters.
      ids: alphabetic tokens that start a word, in vocabulary order.
      length: P.
      model: the backbone.
      seed: seed for sampling without replacement; None takes the first ids.

    Raises:
      UserError: ``ids`` has fewer than ``length`` entries.
    """
    if len(ids) < length:
        raise UserError(f"classifier.prompt_length = {length}: the vocabulary has only {len(ids)} alphabetic "
                        "word-starting tokens to start a prompt from; choose a shorter prompt.")
    chosen = ids[:length] if seed is None else np.random.default_rng(seed).choice(ids, length, replace=False)
    return rows_of(theta, chosen, model=model)


def text_prompt(theta, phrase: np.ndarray, ids: np.ndarray, length: int, *, model: Model, seed: int) -> np.ndarray:
    """A prompt [P, H] that ends with the embedded phrase; filler tokens sampled from ``ids`` precede it.

    Args:
      theta: the backbone's parameters.
      phrase: token ids of the phrase, without end of sequence; only the last ``length`` are used.
      ids: candidates for filler tokens.
      length: P.
      model: the backbone.
      seed: seed for the filler tokens.
    """
    phrase = np.asarray(phrase, np.int32)[-length:]
    fill = np.random.default_rng(seed).choice(ids, length - len(phrase), replace=True)
    return rows_of(theta, np.concatenate([fill.astype(np.int32), phrase]), model=model)


def label_prompts(theta, prefixes: list, infixes: list, ids: np.ndarray, length: int, *, model: Model,
                  seed: int) -> dict:
    """Initial label prompts of a generator, from each label's phrases.

    Args:
      theta: the generator backbone's parameters.
      prefixes: token ids of each label's phrase before sentence 1.
      infixes: token ids of each label's phrase between the sentences; the longest sets I.
      ids: candidates for filler tokens.
      length: P.
      model: the generator backbone.
      seed: seed for the filler tokens; labels share it, so that they differ only by their phrases.

    Returns:
      {"prompt": [L, P, H], "infix": [L, I, H]} float32.
    """
    width = max(len(infix) for infix in infixes)
    return {
        "prompt": np.stack([text_prompt(theta, phrase, ids, length, model=model, seed=seed) for phrase in prefixes]),
        "infix": np.stack([text_prompt(theta, phrase, ids, width, model=model, seed=seed) for phrase in infixes]),
    }
