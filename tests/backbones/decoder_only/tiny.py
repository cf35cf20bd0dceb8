"""Small tokenizers of both kinds, checkpoints with them, and GGUF files, made without PyTorch."""

import functools
import json
import pathlib

import gguf
import jax
import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from dawgen_jax.backbones.decoder_only import convert, model
from dawgen_jax.backbones.decoder_only.config import DecoderConfig

TEXT = ["Premise: A man is playing a guitar .", "Hypothesis: A man is not playing 12 guitars ?", "Answer: Yes Maybe No",
        "It was great", "It was terrible"] * 3
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@functools.cache
def byte_level() -> Tokenizer:
    """GPT-2's kind with SmolLM2's special pieces and digits; a line break is one piece."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    return tokenizer


@functools.cache
def sentence_piece() -> Tokenizer:
    """Llama 2's kind: '▁' for spaces, one in front of every text, bytes for what is unknown, <s> put in front."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    trained.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    trained.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False))
    trained.pre_tokenizer = None
    state = json.loads(trained.to_str())
    state["model"]["byte_fallback"] = True
    state["added_tokens"] = state["added_tokens"][:3]  # bytes are not special pieces
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer as ``transformers`` has it."""
    names = ({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} if "<s>" in tokenizer.get_vocab() else
             {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"})
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tokenizer.to_str()), **names)


def shape(**fields) -> DecoderConfig:
    """A Llama of width 64 with the byte-level vocabulary; quantised blocks have 32 columns."""
    return DecoderConfig(**{"vocab_size": byte_level().get_vocab_size(), "width": 64, "head_dim": 16, "d_ff": 96,
                            "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "tied_head": True,
                            "norm_epsilon": 2.0**-20, **fields})  # which float32 holds exactly


def checkpoint(folder: pathlib.Path, config: DecoderConfig | None = None) -> tuple[DecoderConfig, dict]:
    """A random checkpoint with its tokenizer."""
    config = config or shape()
    theta = jax.jit(model.init, static_argnums=0)(config, jax.random.key(0))
    convert.save(folder, config, theta)
    wrapped(byte_level()).save_pretrained(folder)
    return config, theta


LLAMA_CPP = {"embedding": "token_embd", "head": "output", "norm": "output_norm", "attention_norm": "attn_norm",
             "query": "attn_q", "key": "attn_k", "value": "attn_v", "output": "attn_output",
             "feed_forward_norm": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}


def write_gguf(path: pathlib.Path, config: DecoderConfig, theta, quantisation: str = "F32", *, pre: str = "smollm",
               kind: str | None = "gpt2", architecture: str = "llama", **metadata) -> dict:
    """Write ``theta`` as llama.cpp's converter does, and return it as the quantisation keeps it.

    Args:
      path: file.
      config: the shape.
      theta: parameters.
      quantisation: of all matrices; norms stay float32.
      pre: tokenizer.ggml.pre.
      kind: tokenizer.ggml.model; None for a file without tokenizer.
      architecture: general.architecture.
      **metadata: integers and texts by key, dots written as two underscores.
    """
    writer, chosen = gguf.GGUFWriter(path, architecture), gguf.GGMLQuantizationType[quantisation]
    writer.add_block_count(config.num_layers)
    writer.add_context_length(512)
    writer.add_embedding_length(config.width)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    for key, value in metadata.items():
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(key.replace("__", "."), value)
    if kind is not None:
        tokenizer = byte_level()
        pieces = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
        writer.add_tokenizer_model(kind)
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(pieces)
        writer.add_token_types([3 if piece in SPECIAL else 1 for piece in pieces])
        writer.add_token_merges([" ".join(pair) for pair in merges(tokenizer)])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_pad_token_id(2)

    def put(keys, leaf):
        names = [key.key for key in keys]
        stored = LLAMA_CPP[names[-2] if names[-1] == "scale" else names[-1]]
        for i, tensor in enumerate(np.asarray(leaf) if names[0] == "layers" else [np.asarray(leaf)]):
            name = f"blk.{i}.{stored}.weight" if names[0] == "layers" else f"{stored}.weight"
            matrix = tensor.ndim == 2
            tensor = tensor.T if matrix and names[0] == "layers" else tensor
            heads = {"query": config.num_heads, "key": config.num_kv_heads}.get(names[-1])
            if heads:  # as convert_hf_to_gguf.py permutes them
                halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, -1)
                tensor = halves.swapaxes(1, 2).reshape(tensor.shape)
            kind = chosen if matrix else gguf.GGMLQuantizationType.F32
            writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(tensor), kind), raw_dtype=kind)

    def kept(keys, leaf):
        if leaf.ndim < 2 or (keys[0].key == "layers" and leaf.ndim < 3):
            return np.asarray(leaf)
        rows = np.asarray(leaf) if keys[0].key != "layers" else np.asarray(leaf).swapaxes(1, 2)
        rows = gguf.dequantize(gguf.quantize(np.ascontiguousarray(rows), chosen), chosen).reshape(rows.shape)
        return rows if keys[0].key != "layers" else rows.swapaxes(1, 2)

    jax.tree_util.tree_map_with_path(put, theta)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return jax.tree_util.tree_map_with_path(kept, theta)


def merges(tokenizer: Tokenizer) -> list[list[str]]:
    """The merges of a BPE tokenizer."""
    return json.loads(tokenizer.to_str())["model"]["merges"]
