"""Small random checkpoints of decoder-only models and what PyTorch computes from them."""

import contextlib
import io
import pathlib

import numpy as np
import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}
KINDS = {
    # name: (class, fields)
    "llama": ("Llama", {}),
    "llama-tied": ("Llama", {"tie_word_embeddings": True, "rope_parameters": {"rope_theta": 1e5}}),
    "llama3": ("Llama", {"rope_parameters": LLAMA3}),
    "qwen2": ("Qwen2", {"num_attention_heads": 6, "num_key_value_heads": 3, "hidden_size": 36}),
    "qwen2-tied": ("Qwen2", {"num_attention_heads": 3, "num_key_value_heads": 3, "hidden_size": 30,
                             "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 6}),
}
"""Odd shapes: groups of 1, 2 and 5 query heads, and heads x head_dim unequal to H. The llama3 scaling acts within the
lengths that are tested: low, interpolated and high frequencies all occur."""
SHAPE = {"vocab_size": 97, "hidden_size": 35, "intermediate_size": 44, "num_hidden_layers": 3, "head_dim": 10,
         "num_attention_heads": 5, "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "initializer_range": 0.2}


def write(folder: pathlib.Path, kind: str, *, seed: int = 0, **fields) -> transformers.PreTrainedModel:
    """Write the checkpoint of a kind and return the model as PyTorch reads it back.

    Biases and norms, which a fresh model has at 0 and 1, are random too.
    """
    name, own = KINDS[kind]
    fields = {**SHAPE, **own, **fields}
    if name == "Qwen2":
        fields.pop("head_dim")
    torch.manual_seed(seed)
    model_class = getattr(transformers, f"{name}ForCausalLM")
    with contextlib.redirect_stderr(io.StringIO()):
        model = model_class(model_class.config_class(**fields))
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.3 * torch.randn_like(parameter))
                assert parameter.dtype == torch.float32, parameter_name
        model.save_pretrained(folder)
        return read(folder)


def read(folder: pathlib.Path, **options) -> transformers.PreTrainedModel:
    """The checkpoint as PyTorch reads it."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **options)
    return model.eval().requires_grad_(False)


def positions(mask: np.ndarray) -> torch.Tensor:
    """Positions that skip padding, as ``generate`` makes them."""
    return torch.tensor(np.maximum(np.cumsum(mask, 1) - 1, 0))


def states(model, embeddings: torch.Tensor, mask: np.ndarray) -> dict[str, torch.Tensor]:
    """Output of every layer, of the final norm, and logits."""
    found = {}
    hooks = [layer.register_forward_hook(
        lambda module, arguments, output, name=f"layer {i}": found.__setitem__(
            name, output[0] if isinstance(output, tuple) else output))
        for i, layer in enumerate(model.model.layers)]
    out = model(inputs_embeds=embeddings, attention_mask=torch.tensor(mask).long(), position_ids=positions(mask),
                output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    return {**found, "states": out.hidden_states[-1], "logits": out.logits}


def greedy(model, tokens: np.ndarray, mask: np.ndarray, steps: int, banned: int) -> tuple[np.ndarray, np.ndarray]:
    """Greedy tokens [B, steps], never ``banned``, and the gaps between the two best scores [B, steps].

    Rows are padded on the left; there is no cache.
    """
    tokens, gaps, length = torch.tensor(tokens), [], tokens.shape[1]
    for _ in range(steps):
        grown = np.pad(mask, ((0, 0), (0, tokens.shape[1] - length)), constant_values=True)
        scores = model(input_ids=tokens, attention_mask=torch.tensor(grown).long(),
                       position_ids=positions(grown)).logits[:, -1]
        scores[:, banned] = -torch.inf
        best = scores.topk(2)
        gaps.append(best.values[:, 0] - best.values[:, 1])
        tokens = torch.cat([tokens, best.indices[:, :1]], dim=1)
    return tokens[:, length:].numpy(), torch.stack(gaps, 1).numpy()
