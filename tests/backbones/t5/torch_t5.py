"""Small random Hugging Face checkpoints and what PyTorch computes from them."""

import contextlib
import io
import pathlib

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

V11 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
KINDS = {
    # name: (class, untied head written into the file, fields)
    "v1.0": ("T5", False, {}),
    "v1.0-untied": ("T5", True, {}),
    "v1.1-tied": ("T5", False, V11),
    "v1.1": ("T5", True, V11),
    "gated-silu": ("T5", True, {"feed_forward_proj": "gated-silu", "tie_word_embeddings": False}),
    "byt5": ("T5", True, {**V11, "num_layers": 3, "num_decoder_layers": 1, "vocab_size": 384}),
    "deep-decoder": ("T5", False, {"num_layers": 1, "num_decoder_layers": 2, "feed_forward_proj": "gelu"}),
    "mt5": ("MT5", True, {}),
    "umt5": ("UMT5", True, {}),
    "few-buckets": ("T5", True, {**V11, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12}),
}
"""Every kind has heads x d_kv (3 x 8) != d_model (32)."""


def write(folder: pathlib.Path, kind: str, *, seed: int = 0, **fields) -> transformers.PreTrainedModel:
    """Write the checkpoint of a kind and return the model as PyTorch reads it back.

    A fresh model of transformers 5 always has its head tied, so an untied one is put into the file.
    """
    name, untied, own = KINDS[kind]
    shape = {
        "vocab_size": 99,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 40,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "num_heads": 3,
        "decoder_start_token_id": 0,
    }
    model_class = getattr(transformers, f"{name}ForConditionalGeneration")
    torch.manual_seed(seed)
    with contextlib.redirect_stderr(io.StringIO()):
        model_class(model_class.config_class(**{**shape, **own, **fields})).save_pretrained(folder)
        if untied:
            tensors = load_file(folder / "model.safetensors")
            rows = tensors["shared.weight"].shape
            tensors["lm_head.weight"] = np.random.default_rng(seed).normal(size=rows).astype(np.float32)
            save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return read(folder, name)


def read(folder: pathlib.Path, name: str = "T5", **options) -> transformers.PreTrainedModel:
    """The checkpoint as PyTorch reads it."""
    model = getattr(transformers, f"{name}ForConditionalGeneration").from_pretrained(folder, **options)
    return model.eval().requires_grad_(False)


def greedy(model, source: np.ndarray, mask: np.ndarray, steps: int) -> np.ndarray:
    """Greedy tokens [B, steps] and the gaps between the two best scores [B, steps], without a cache, never padding."""
    tokens, gaps = torch.zeros(len(source), 1, dtype=torch.long), []
    source, mask = torch.tensor(source), torch.tensor(mask).long()
    for _ in range(steps):
        scores = model(input_ids=source, attention_mask=mask, decoder_input_ids=tokens).logits[:, -1]
        scores[:, 0] = -torch.inf
        best = scores.topk(2)
        gaps.append(best.values[:, 0] - best.values[:, 1])
        tokens = torch.cat([tokens, best.indices[:, :1]], dim=1)
    return tokens[:, 1:].numpy(), torch.stack(gaps, 1).numpy()
