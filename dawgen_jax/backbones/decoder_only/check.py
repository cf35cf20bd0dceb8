"""Report on a decoder-only checkpoint, and its numerical comparison with PyTorch."""

from __future__ import annotations

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax import prng
from dawgen_jax.backbones import comparison
from dawgen_jax.backbones.base import Work
from dawgen_jax.backbones.checkpoint import read_object
from dawgen_jax.backbones.comparison import LENGTH, PROMPT, STEPS, differs, parameters
from dawgen_jax.backbones.decoder_only import convert
from dawgen_jax.backbones.decoder_only.format import CausalFormat, document_start
from dawgen_jax.backbones.decoder_only.seam import DecoderOnly
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.backbones.tokens import read_tokenizer
from dawgen_jax.errors import UserError

__all__ = ["SENTENCES", "perplexity", "report"]

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "Paris is the capital of France, and Berlin is the capital of Germany.",
    "A man is playing a guitar on the street while people walk by.",
    "In 1969, Neil Armstrong became the first person to walk on the Moon.",
    "Water boils at one hundred degrees Celsius at sea level.",
)
"""Plain English, on which a wrongly loaded model has a perplexity of hundreds."""


def describe(folder: pathlib.Path, config, theta) -> dict:
    """Kind, head, parameter counts and stored dtypes."""
    return {
        "kind": config.model_type,
        "head": "tied" if config.tied_head else "untied",
        "rope": f"{config.rope_theta:g}" + (" (llama3)" if config.rope_scaling else ""),
        "layers": config.num_layers,
        "heads": [config.num_heads, config.num_kv_heads],
        "width": config.width,
        "vocabulary": config.vocab_size,
        **parameters(folder, theta),
    }


def perplexity(seam: DecoderOnly, form: CausalFormat, theta) -> float:
    """Perplexity of ``SENTENCES``, each alone after the document start.

    A sentence's first token is never scored, since without a document start nothing precedes it.
    """
    rows = [[*form.start, *ids] for ids in form.ids(SENTENCES)]
    tokens = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for row, ids in zip(tokens, rows, strict=True):
        row[:len(ids)] = ids
    mask = np.arange(tokens.shape[1])[None] < np.array([[len(ids)] for ids in rows])

    @jax.jit
    def log_probs(theta, tokens, mask):
        states = seam.input_states(theta, seam.embed(theta, tokens), mask)[:, :-1]
        scores = jax.nn.log_softmax(seam.logits(theta, states))
        return jnp.take_along_axis(scores, tokens[:, 1:, None], axis=-1)[..., 0]

    scored = mask[:, 1:] & (np.arange(1, tokens.shape[1]) > len(form.start))[None]
    return math.exp(-float(np.mean(np.asarray(log_probs(theta, tokens, mask))[scored])))


def tokenizer_report(folder: pathlib.Path, config) -> tuple[dict, CausalFormat | None]:
    """Whether the tokenizer in ``folder`` fits the model; its size, and the tokens that start and end a text."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        return {"found": False, "agrees": True}, None
    try:
        tokenizer = read_tokenizer(folder, config.vocab_size)
        start = document_start(tokenizer, read_object(folder / "config.json"))
        form = CausalFormat(tokenizer, config.vocab_size, () if start is None else (start,))
    except UserError as error:
        return {"found": True, "agrees": False, "reason": str(error)}, None
    return {"found": True, "agrees": True, "tokens": len(tokenizer), "unused_rows": config.vocab_size - len(tokenizer),
            "start": start, "end": form.eos_id}, form


def compare(folder: pathlib.Path, config, theta) -> dict:
    """Largest differences from PyTorch on random tokens after a random soft prompt."""
    import torch
    import transformers

    # Only safetensors are read, no code of the directory runs, and nothing is downloaded.
    oracle = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True)
    oracle, seam = oracle.eval().requires_grad_(False), DecoderOnly(config)
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, config.vocab_size, (3, LENGTH))
    lengths = (LENGTH, 5, 8)
    mask = np.arange(PROMPT + LENGTH)[None] < PROMPT + np.array(lengths)[:, None]
    rows = np.asarray(theta["embedding"])[rng.integers(3, config.vocab_size, PROMPT)]

    def loss_fn(prompt, theta, tokens, mask):  # arguments, since XLA would fold constants during compilation
        prompts = jnp.broadcast_to(prompt[None], (3, *prompt.shape)).astype(config.dtype)
        embeddings = jnp.concatenate([prompts, seam.embed(theta, tokens)], axis=1)
        scores = seam.logits(theta, seam.input_states(theta, embeddings, mask)[:, PROMPT - 1 : -1])
        gold = jnp.take_along_axis(jax.nn.log_softmax(scores), tokens[..., None], -1)[..., 0]
        return -jnp.sum(jnp.where(mask[:, PROMPT:], gold, 0)), scores

    with jax.default_matmul_precision("highest"):
        differentiated = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
        (_, scores), gradient = differentiated(jnp.asarray(rows), theta, tokens, mask)
        texts = [row[:length] for row, length in zip(tokens, lengths, strict=True)]
        greedy_tokens = greedy_difference(oracle, seam, theta, texts)
    prompt, loss, differences, largest = torch.tensor(rows, requires_grad=True), 0, [], []
    for i, length in enumerate(lengths):  # one row at a time, without padding
        text = torch.tensor(tokens[i, :length])
        embeddings = torch.cat([prompt, oracle.get_input_embeddings()(text)])[None]
        wanted = oracle(inputs_embeds=embeddings).logits[0, PROMPT - 1 : -1]
        loss = loss + torch.nn.functional.cross_entropy(wanted, text, reduction="sum")
        wanted = wanted.detach().numpy()
        differences.append(np.abs(np.asarray(scores[i, :length]) - wanted).max())
        largest.append(np.abs(wanted).max())
    loss.backward()
    gradients = prompt.grad.numpy()
    return {
        "logits": float(max(differences) / max(largest)),
        "prompt_gradient": float(np.abs(np.asarray(gradient) - gradients).max() / np.abs(gradients).max()),
        "greedy_tokens": greedy_tokens,
    }


def greedy_difference(oracle, seam: DecoderOnly, theta, texts: list[np.ndarray]) -> int:
    """Number of rows whose greedy tokens first differ from PyTorch's where the two best scores differ by over 1e-4."""
    import torch

    def embed_fn(theta, prompts, rows):
        return seam.embed(theta, rows.source), rows.mask

    decoder = Decoder(seam, embed_fn, eos_id=0, banned=(), slots=4, widths=(LENGTH,), max_new_tokens=STEPS,
                      penalty=False, draw=False)  # fmt: skip
    work = [Work(0, i, text, None, Sampling(max_new_tokens=STEPS)) for i, text in enumerate(texts)]
    wrong = 0
    for sample in decoder.generate(theta, None, work, prng.key(0)):
        written = np.append(sample.tokens, [0] * sample.finished).astype(int)
        whole = torch.tensor(np.append(work[sample.index].source, written[:-1]))[None]
        scores = oracle(input_ids=whole).logits[0, -len(written):].numpy()
        wrong += differs(scores, written)
    return wrong


def report(folder: pathlib.Path) -> dict:
    """The :func:`~dawgen_jax.backbones.comparison.report`, and the perplexity of plain English."""
    config, theta = convert.load(folder, scan_unroll=1)
    tokenizer, form = tokenizer_report(folder, config)
    described = describe(folder, config, theta)
    if form is not None:
        described["perplexity"] = perplexity(DecoderOnly(config), form, theta)
    return comparison.report(folder, described, tokenizer, lambda: compare(folder, config, theta))
