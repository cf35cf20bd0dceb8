"""Configuration of a T5: shape, numerics, and translation from and to Hugging Face's config.json.

Hugging Face mixes two properties, which are separate here: ``tied_head`` (the head is the embedding) and
``scale_decoder_outputs`` (hidden states are multiplied by d_model^-0.5 before the head). transformers 5 writes
``tie_word_embeddings: true`` for every T5 and moves the meaning of the old flag to ``scale_decoder_outputs``.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt

from dawgen_jax.config.backbone import NOT_FLOAT16
from dawgen_jax.config.validation import shown, validated
from dawgen_jax.errors import ConfigError

__all__ = ["ACTIVATIONS", "MODEL_TYPES", "T5Config"]

Activation = Literal["relu", "relu2", "gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "silu", "swish", "tanh",
                     "sigmoid"]
ModelType = Literal["t5", "mt5", "umt5"]
ACTIVATIONS: tuple[str, ...] = typing.get_args(Activation)
"""Activations of the feed-forward layer by their Hugging Face names; gelu_new is the tanh approximation."""
MODEL_TYPES: tuple[str, ...] = typing.get_args(ModelType)
"""Values of config.json's model_type with T5's shape (byt5, flan-t5 and t5-efficient say 't5')."""
Width = Annotated[int, Field(ge=1, le=2**24)]
Layers = Annotated[int, Field(ge=1, le=1000)]


@validated
class T5Config:
    """Shape and numerics of a T5; frozen and hashable, so that it may be a static argument.

    Attributes:
      vocab_size: V, rows of the embedding (often more than the tokenizer has tokens).
      d_model: H.
      d_kv: width of one head; heads x d_kv may differ from H.
      d_ff: width of the feed-forward layer.
      num_layers: encoder layers.
      num_decoder_layers: decoder layers.
      num_heads: heads of every attention.
      relative_attention_num_buckets: rows of a relative bias table.
      relative_attention_max_distance: all longer distances share a bucket.
      activation: one of ``ACTIVATIONS``.
      gated: v1.1's activation(x wi_0) * (x wi_1) instead of v1.0's activation(x wi).
      layer_norm_epsilon: epsilon of every RMSNorm.
      tied_head: the output head is the embedding.
      scale_decoder_outputs: hidden states times H^-0.5 before the head (v1.0).
      per_layer_bias: every layer has a relative bias table (umt5) instead of sharing layer 0's.
      pad_id: padding.
      eos_id: end of sequence.
      decoder_start_id: first decoder input.
      dtype: compute dtype; norms, softmax, logits and losses stay in float32 or wider. float16 is refused.
      scan_unroll: layers per step of the scan over layers; 0 unrolls all.
      remat: recompute a layer's activations in the backward pass.
      model_type: the value in config.json, kept for writing it back.
    """

    vocab_size: Width
    d_model: Width
    d_kv: Width
    d_ff: Width
    num_layers: Layers
    num_decoder_layers: Layers
    num_heads: Width
    relative_attention_num_buckets: Annotated[int, Field(ge=4, le=2**24)] = 32
    relative_attention_max_distance: Width = 128
    activation: Activation = "gelu_new"
    gated: bool = True
    layer_norm_epsilon: Annotated[float, Field(ge=0, lt=1)] = 1e-6
    tied_head: bool = False
    scale_decoder_outputs: bool = False
    per_layer_bias: bool = False
    pad_id: NonNegativeInt = 0
    eos_id: NonNegativeInt = 1
    decoder_start_id: NonNegativeInt = 0
    dtype: Annotated[Literal["float32", "bfloat16", "float64"], NOT_FLOAT16] = "float32"
    scan_unroll: NonNegativeInt = 0
    remat: bool = False
    model_type: ModelType = "t5"

    def __post_init__(self):
        for field in ("pad_id", "eos_id", "decoder_start_id"):
            if getattr(self, field) >= self.vocab_size:
                raise ConfigError(f"T5Config.{field} = {shown(getattr(self, field))}: must be below vocab_size = "
                                  f"{self.vocab_size}.")
        if self.gated and self.activation == "gelu":
            raise ConfigError("T5Config.activation = 'gelu': must be 'gelu_new' if gated (Hugging Face's 'gated-gelu' "
                              "is the tanh approximation).")

    @classmethod
    def from_hugging_face(cls, values: Mapping[str, Any], **numerics) -> T5Config:
        """The configuration in a parsed config.json.

        Args:
          values: the parsed file; missing fields take the defaults of ``transformers``.
          **numerics: dtype, scan_unroll, remat.

        Raises:
          ConfigError: not a T5, or a value out of range.
        """
        model_type = values.get("model_type", "t5")
        if model_type not in MODEL_TYPES:
            raise ConfigError(
                f"model_type = {shown(model_type)}: not a T5; give a checkpoint of "
                f"{', '.join(MODEL_TYPES)} (flan-t5, byt5 and t5-efficient say 't5')."
            )
        default = {"t5": ("relu", 6, 2048, 8), "mt5": ("gated-gelu", 8, 1024, 6), "umt5": ("gated-gelu", 8, 1024, 6)}
        projection, layers, d_ff, heads = default[model_type]
        projection = values.get("feed_forward_proj", projection)
        if not isinstance(projection, str):
            raise ConfigError(f"feed_forward_proj = {shown(projection)}: must be text.")
        kind, _, activation = projection.rpartition("-")
        if kind not in ("", "gated"):
            raise ConfigError(f"feed_forward_proj = {shown(projection)}: must be 'gated-ACTIVATION' or 'ACTIVATION'.")
        if (kind, activation) == ("gated", "gelu"):
            activation = "gelu_new"
        layers = values.get("num_layers", layers)
        tied = values.get("tie_word_embeddings", True)
        # mt5 never scales. umt5 follows its flag, as in transformers 4; transformers 5 overwrites the flag with True.
        scale = values.get("scale_decoder_outputs", tied)
        for field, value in (("tie_word_embeddings", tied), ("scale_decoder_outputs", scale)):
            if not isinstance(value, bool):
                raise ConfigError(f"{field} = {shown(value)}: must be true or false.")
        # A null counts as a missing field and takes T5's default.
        pad, eos, start = (values.get(f"{name}_token_id") for name in ("pad", "eos", "decoder_start"))
        pad, eos = 0 if pad is None else pad, 1 if eos is None else eos
        decoder_layers = values.get("num_decoder_layers")
        return cls(
            vocab_size=values.get("vocab_size", 32128 if model_type == "t5" else 250112),
            d_model=values.get("d_model", 512),
            d_kv=values.get("d_kv", 64),
            d_ff=values.get("d_ff", d_ff),
            num_layers=layers,
            num_decoder_layers=layers if decoder_layers is None else decoder_layers,
            num_heads=values.get("num_heads", heads),
            relative_attention_num_buckets=values.get("relative_attention_num_buckets", 32),
            relative_attention_max_distance=values.get("relative_attention_max_distance", 128),
            activation=activation,
            gated=kind == "gated",
            layer_norm_epsilon=values.get("layer_norm_epsilon", 1e-6),
            tied_head=tied,
            scale_decoder_outputs=scale and model_type != "mt5",
            per_layer_bias=model_type == "umt5",
            pad_id=pad,
            eos_id=eos[0] if isinstance(eos, list) and eos else eos,
            decoder_start_id=pad if start is None else start,
            model_type=model_type,
            **numerics,
        )

    def to_hugging_face(self) -> dict[str, Any]:
        """The config.json that ``transformers`` 4 and 5 read as this model."""
        activation = "gelu" if self.gated and self.activation == "gelu_new" else self.activation
        architecture = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}[self.model_type]
        return {
            "architectures": [f"{architecture}ForConditionalGeneration"],
            "model_type": self.model_type,
            "is_encoder_decoder": True,
            "vocab_size": self.vocab_size,
            "d_model": self.d_model,
            "d_kv": self.d_kv,
            "d_ff": self.d_ff,
            "num_layers": self.num_layers,
            "num_decoder_layers": self.num_decoder_layers,
            "num_heads": self.num_heads,
            "relative_attention_num_buckets": self.relative_attention_num_buckets,
            "relative_attention_max_distance": self.relative_attention_max_distance,
            "feed_forward_proj": f"gated-{activation}" if self.gated else activation,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "dropout_rate": 0.1,
            "initializer_factor": 1.0,
            "tie_word_embeddings": self.tied_head,
            "scale_decoder_outputs": self.scale_decoder_outputs,
            "pad_token_id": self.pad_id,
            "eos_token_id": self.eos_id,
            "decoder_start_token_id": self.decoder_start_id,
        }
