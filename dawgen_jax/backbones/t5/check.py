"""Report on a T5 checkpoint, and its numerical comparison with PyTorch."""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax import prng
from dawgen_jax.backbones import comparison
from dawgen_jax.backbones.base import Work
from dawgen_jax.backbones.comparison import LENGTH, PROMPT, STEPS, differs, parameters
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.backbones.t5 import convert, model
from dawgen_jax.backbones.t5.format import sentinel_id
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.backbones.tokens import read_tokenizer
from dawgen_jax.errors import UserError

__all__ = ["report"]

def describe(folder: pathlib.Path, config, theta) -> dict:
    """Kind, head, parameter counts and stored dtypes."""
    kind = config.model_type if config.model_type != "t5" else "v1.1" if config.gated else "v1.0"
    return {
        "kind": kind,
        "feed_forward": ("gated-" if config.gated else "") + config.activation,
        "head": "tied" if config.tied_head else "untied",
        "scaled_head": config.scale_decoder_outputs,
        "layers": [config.num_layers, config.num_decoder_layers],
        "width": config.d_model,
        "vocabulary": config.vocab_size,
        **parameters(folder, theta),
    }


def tokenizer_report(folder: pathlib.Path, config) -> dict:
    """Whether the tokenizer in ``folder`` fits the model; its size, special tokens, first sentinel and unused rows."""
    # A byte tokenizer (byt5) has no vocabulary file, only a configuration.
    if not any((folder / name).is_file() for name in ("tokenizer.json", "spiece.model", "tokenizer_config.json")):
        return {"found": False, "agrees": True}
    tokenizer = read_tokenizer(folder)
    agrees = len(tokenizer) <= config.vocab_size
    agrees &= tokenizer.pad_token_id == config.pad_id and tokenizer.eos_token_id == config.eos_id
    try:
        sentinel = sentinel_id(tokenizer)
    except UserError:
        sentinel = None
    agrees &= sentinel is not None and sentinel < config.vocab_size
    return {
        "found": True,
        "agrees": agrees,
        "tokens": len(tokenizer),
        "unused_rows": config.vocab_size - len(tokenizer),
        "pad": tokenizer.pad_token_id,
        "eos": tokenizer.eos_token_id,
        "sentinel": sentinel,
    }


def compare(folder: pathlib.Path, config, theta) -> dict:
    """Largest differences from PyTorch on random tokens and a random soft prompt."""
    import torch
    import transformers

    # Only safetensors are read, no code of the directory runs, and nothing is downloaded.
    oracle = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True)
    oracle = oracle.eval().requires_grad_(False)
    if config.model_type == "umt5":
        # Before 5.24, transformers 5 set this flag, by which umt5 scales its outputs, to True for every checkpoint.
        oracle.config.tie_word_embeddings = config.scale_decoder_outputs
    rng = np.random.default_rng(0)
    source = rng.integers(3, config.vocab_size, (3, LENGTH))
    mask = np.arange(LENGTH)[None] < np.array([[LENGTH], [5], [8]])
    target = rng.integers(3, config.vocab_size, (3, STEPS))
    inputs = np.pad(target, ((0, 0), (1, 0)), constant_values=config.decoder_start_id)[:, :-1]
    rows = np.asarray(theta["embedding"])[rng.integers(3, config.vocab_size, PROMPT)]

    def loss_fn(prompt):
        text = model.embed(theta, source, config=config)
        embeddings = jnp.concatenate([jnp.broadcast_to(prompt[None], (3, *prompt.shape)), text], axis=1)
        seen = jnp.concatenate([jnp.ones((3, PROMPT), bool), mask], axis=1)
        encoded = model.encode(theta, embeddings, seen, config=config)
        hidden = model.decode(theta, inputs, encoded, seen, config=config)
        scores = model.logits(theta, hidden, config=config)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(scores), target[..., None], -1)), scores

    with jax.default_matmul_precision("highest"):
        (_, scores), gradient = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(jnp.asarray(rows))
        greedy_tokens = greedy_difference(oracle, config, theta, source, mask)
    prompt = torch.tensor(rows, requires_grad=True)
    embeddings = torch.cat([prompt.expand(3, -1, -1), oracle.get_input_embeddings()(torch.tensor(source))], 1)
    seen = torch.cat([torch.ones(3, PROMPT), torch.tensor(mask)], 1).long()
    out = oracle(inputs_embeds=embeddings, attention_mask=seen, decoder_input_ids=torch.tensor(inputs),
                 labels=torch.tensor(target))
    out.loss.backward()

    def relative(ours, theirs):
        return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())

    return {
        "logits": relative(scores, out.logits.detach().numpy()),
        "prompt_gradient": relative(gradient, prompt.grad.numpy()),
        "greedy_tokens": greedy_tokens,
    }


def greedy_difference(oracle, config, theta, source, mask) -> int:
    """Number of rows whose greedy tokens first differ from PyTorch's where the two best scores differ by over 1e-4."""
    import torch

    def embed_fn(theta, prompts, rows):
        return model.embed(theta, rows.source, config=config), rows.mask

    decoder = Decoder(T5(config), embed_fn, eos_id=config.eos_id, banned=(config.pad_id,), slots=4, widths=(LENGTH,),
                      max_new_tokens=STEPS, penalty=False, draw=False)  # fmt: skip
    work = [Work(0, i, row[seen], None, Sampling(max_new_tokens=STEPS)) for i, (row, seen) in
            enumerate(zip(source, mask, strict=True))]  # fmt: skip
    wrong = 0
    for sample in decoder.generate(theta, None, work, prng.key(0)):
        text = np.append(sample.tokens, [config.eos_id] * sample.finished).astype(int)
        inputs = np.append(config.decoder_start_id, text[:-1])[None]
        tokens = torch.tensor(work[sample.index].source[None])
        scores = oracle(input_ids=tokens, decoder_input_ids=torch.tensor(inputs)).logits[0].numpy()
        scores[:, config.pad_id] = -np.inf
        wrong += differs(scores, text)
    return wrong


def report(folder: pathlib.Path) -> dict:
    """The :func:`~dawgen_jax.backbones.comparison.report` on a T5."""
    config, theta = convert.load(folder)
    return comparison.report(folder, describe(folder, config, theta), tokenizer_report(folder, config),
                             lambda: compare(folder, config, theta))
