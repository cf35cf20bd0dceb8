"""GGUF files of llama architecture to Hugging Face directories: weights in float32, config.json and tokenizer.

llama.cpp's reordering of query and key rows is undone, and quantised tensors are widened. The tokenizer is built from
the file's vocabulary and merges. Features that would be read almost right (another architecture, an untested
quantisation or splitting rule) are refused.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from dawgen_jax.backbones.checkpoint import check_names, leaves, write_config, write_tensors
from dawgen_jax.backbones.decoder_only import model
from dawgen_jax.backbones.decoder_only.config import DecoderConfig
from dawgen_jax.backbones.decoder_only.convert import tensor_names
from dawgen_jax.backbones.tokens import quiet_import
from dawgen_jax.errors import ConfigError, UserError

__all__ = ["convert"]

_QUANTISATIONS = ("F32", "F16", "BF16", "Q8_0", "Q4_1")
_PARTS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
          "self_attn.o_proj": "attn_output", "input_layernorm": "attn_norm", "mlp.gate_proj": "ffn_gate",
          "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm"}
_WHOLE = {"model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "output.weight",
          "model.norm.weight": "output_norm.weight"}
_CONTROL, _USER_DEFINED = 3, 4
"""Token types: special tokens, and user-defined tokens that are never split but belong to the text."""
_DOCUMENT_START = "<|endoftext|>"
"""The document separator in the training text of vocabularies like GPT-2's, whichever first token the file states."""


class _File:
    """An open GGUF file."""

    def __init__(self, path: pathlib.Path):
        try:
            import gguf
        except ImportError:
            raise UserError(f"{path}: GGUF files are read by the package gguf; pip install 'dawgen-jax[gguf]'."
                            ) from None
        if not path.is_file():
            raise UserError(f"{path}: no such file; give a GGUF file.")
        try:
            reader = gguf.GGUFReader(path)
        except Exception as error:  # the reader checks nothing: a truncated file fails in many ways
            raise UserError(f"{path}: is not a complete GGUF file ({error}); copy it again.") from None
        self.path, self._fields, self._dequantize = path, reader.fields, gguf.dequantize
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a metadata field, or a default."""
        return self._fields[key].contents() if key in self._fields else default

    def need(self, key: str) -> Any:
        """The value of a required metadata field."""
        if key not in self._fields:
            raise UserError(f"{self.path}: its field {key} is missing; take another file of this model.")
        return self._fields[key].contents()

    def read(self, name: str) -> np.ndarray:
        """A tensor in float32, [out, in] as in PyTorch."""
        tensor = self.tensors[name]
        return self._dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)


def convert(path: str | os.PathLike, folder: str | os.PathLike) -> None:
    """Write the Hugging Face directory of a GGUF file; config.json is written last.

    Args:
      path: the file.
      folder: directory, created if missing.

    Raises:
      UserError: the file is incomplete, has another architecture or an unsupported quantisation, or has no tokenizer
        that can be built; nothing is written.
    """
    file, folder = _File(pathlib.Path(path)), pathlib.Path(folder)
    config = _config(file)
    wanted = {}
    for leaf in leaves(model.abstract(config), tensor_names):
        shape = leaf.shape[1:] if leaf.stacked else leaf.shape
        wanted |= dict.fromkeys(leaf.names, shape[::-1] if leaf.transposed else shape)
    check_names(file.path, file.tensors, [_stored_name(name) for name in wanted])
    for name, shape in wanted.items():
        tensor = file.tensors[_stored_name(name)]
        if tuple(map(int, tensor.shape[::-1])) != shape:
            raise UserError(f"{file.path}: tensor {tensor.name} has shape {list(map(int, tensor.shape[::-1]))} where "
                            f"the metadata ask for {list(shape)}; copy the file again.")
        if tensor.tensor_type.name not in _QUANTISATIONS:
            raise UserError(f"{file.path}: tensor {tensor.name} is stored as {tensor.tensor_type.name}; take a file in "
                            f"{', '.join(_QUANTISATIONS[:-1])} or {_QUANTISATIONS[-1]}.")
    tokenizer = _tokenizer(file, config.vocab_size)

    heads, tensors = {"self_attn.q_proj": config.num_heads, "self_attn.k_proj": config.num_kv_heads}, {}
    for name in wanted:
        tensor = file.read(_stored_name(name))
        if permuted := heads.get(".".join(name.split(".")[3:5])):
            # llama.cpp rotates neighbouring rows of a head, Hugging Face the two halves of a head.
            tensor = tensor.reshape(permuted, -1, 2, config.width).swapaxes(1, 2).reshape(tensor.shape)
        if not np.isfinite(tensor).all():
            raise UserError(f"{file.path}: tensor {_stored_name(name)} holds NaN or infinity; copy the file again.")
        tensors[name] = tensor
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder, tensors.items())
    tokenizer.save_pretrained(folder)
    start = tokenizer.convert_tokens_to_ids(_DOCUMENT_START) if _DOCUMENT_START in tokenizer.get_vocab() else None
    if file.get("tokenizer.ggml.add_bos_token", False):
        start = tokenizer.bos_token_id
    write_config(folder, {
        **config.to_hugging_face(),
        "max_position_embeddings": file.get("llama.context_length", 2048),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "document_start_token_id": start,
    })


def _stored_name(name: str) -> str:
    """llama.cpp's name of a tensor.

    >>> _stored_name("model.layers.7.self_attn.q_proj.weight")
    'blk.7.attn_q.weight'
    """
    if name in _WHOLE:
        return _WHOLE[name]
    _, _, layer, *part, kind = name.split(".")
    return f"blk.{layer}.{_PARTS['.'.join(part)]}.{kind}"


def _config(file: _File) -> DecoderConfig:
    """The shape in the metadata.

    Raises:
      UserError: another architecture, or an unsupported feature.
    """
    architecture = file.get("general.architecture")
    if architecture != "llama":
        raise UserError(f"{file.path}: its architecture is {architecture!r}; only 'llama' is read from GGUF: give a "
                        "Hugging Face directory of this model.")
    heads, width = file.need("llama.attention.head_count"), file.need("llama.embedding_length")
    head_dim = file.get("llama.attention.key_length", width // heads if heads else 0)
    for key, plain in (("llama.expert_count", 0), ("llama.rope.scaling.type", "none"),
                       ("llama.rope.dimension_count", head_dim), ("llama.attention.value_length", head_dim),
                       ("llama.attention.sliding_window", 0)):
        if (value := file.get(key, plain)) != plain:
            raise UserError(f"{file.path}: {key} = {value!r} is not supported; give a Hugging Face directory of a "
                            "Llama model.")
    if "rope_freqs.weight" in file.tensors:
        raise UserError(f"{file.path}: rescaled rotary frequencies (rope_freqs.weight) are not read from GGUF; give "
                        "the Hugging Face directory of this model.")
    embedding = file.tensors.get("token_embd.weight")
    try:
        return DecoderConfig(
            vocab_size=int(embedding.shape[-1]) if embedding is not None else 0,
            width=width,
            head_dim=head_dim,
            d_ff=file.need("llama.feed_forward_length"),
            num_layers=file.need("llama.block_count"),
            num_heads=heads,
            num_kv_heads=file.get("llama.attention.head_count_kv", heads),
            norm_epsilon=file.need("llama.attention.layer_norm_rms_epsilon"),
            rope_theta=file.get("llama.rope.freq_base", 10000.0),
            tied_head="output.weight" not in file.tensors,
        )
    except ConfigError as error:
        raise UserError(f"{file.path}: {error}") from None


def _tokenizer(file: _File, vocab_size: int) -> Any:
    """The file's byte-level BPE as a tokenizer of ``transformers``.

    Raises:
      UserError: the tokenizer is missing, of another kind, or has an unknown rule for splitting a text.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    with quiet_import():
        from transformers import PreTrainedTokenizerFast

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    splits = {"smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]),
              "gpt-2": byte_level}
    kind, rule = file.get("tokenizer.ggml.model"), file.get("tokenizer.ggml.pre")
    if kind is None or not (tokens := file.get("tokenizer.ggml.tokens")):
        raise UserError(f"{file.path}: has no tokenizer; take a file that holds one.")
    if kind != "gpt2":
        raise UserError(f"{file.path}: its tokenizer is of kind {kind!r}; only 'gpt2' (byte-level BPE) is read from "
                        "GGUF: give the Hugging Face directory of this model.")
    if rule not in splits:
        raise UserError(f"{file.path}: tokenizer.ggml.pre = {rule!r}: unknown rule for splitting a text; known are "
                        f"{', '.join(splits)}: give the Hugging Face directory of this model.")
    if len(tokens) != vocab_size or len(set(tokens)) != vocab_size:
        raise UserError(f"{file.path}: its tokenizer has {len(set(tokens))} different pieces, but the embedding has "
                        f"{vocab_size} rows; take another file of this model.")
    merges = [tuple(pair.split(" ")) for pair in file.need("tokenizer.ggml.merges")]
    try:
        tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    except Exception as error:  # tokenizers raises plain exceptions, here for a merge of unknown tokens
        raise UserError(f"{file.path}: its tokenizer's merges do not fit its pieces ({error}); copy it again."
                        ) from None
    tokenizer.pre_tokenizer, tokenizer.decoder = splits[rule], decoders.ByteLevel()
    for token, kind in zip(tokens, file.get("tokenizer.ggml.token_type", []), strict=False):
        if kind in (_CONTROL, _USER_DEFINED):
            tokenizer.add_tokens([AddedToken(token, special=kind == _CONTROL, normalized=False)])
    named = {}
    for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")):
        index = file.get(f"tokenizer.ggml.{key}_token_id")
        if index is not None and not 0 <= index < vocab_size:
            raise UserError(f"{file.path}: tokenizer.ggml.{key}_token_id = {index}: the vocabulary has {vocab_size} "
                            "pieces; take another file of this model.")
        if index is not None:
            named[name] = tokens[index]
    if "eos_token" not in named:
        raise UserError(f"{file.path}: its field tokenizer.ggml.eos_token_id is missing; take another file of this "
                        "model.")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
