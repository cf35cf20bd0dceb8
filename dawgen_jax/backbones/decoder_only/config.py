"""Configuration of a decoder-only model: shape, numerics, and translation from and to Hugging Face's config.json.

One set of flags describes Llama, Qwen2 and Qwen3. A feature that these flags cannot express (sliding windows, experts,
other rotary embeddings or activations, quantised weights) is refused by name, since a model that is almost right is
worse than an error.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt

from dawgen_jax.config.validation import shown, validated
from dawgen_jax.errors import ConfigError

__all__ = ["MODEL_TYPES", "DecoderConfig", "RopeScaling"]

ModelType = Literal["llama", "qwen2", "qwen3"]
MODEL_TYPES: tuple[str, ...] = typing.get_args(ModelType)
"""Values of config.json's model_type that this family reads."""
Width = Annotated[int, Field(ge=1, le=2**24)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Positive = Annotated[float, Field(gt=0)]


@validated
class RopeScaling:
    """The 'llama3' rescaling of rotary frequencies for an extended context.

    Attributes:
      factor: divisor of low frequencies.
      low_freq_factor: wavelengths above original_length / low_freq_factor are divided by ``factor``.
      high_freq_factor: wavelengths below original_length / high_freq_factor are kept; between the two, interpolated.
      original_length: context of the model before the extension.
    """

    factor: Positive
    low_freq_factor: Positive
    high_freq_factor: Positive
    original_length: Width


@validated
class DecoderConfig:
    """Shape and numerics of a decoder-only model; frozen and hashable, so that it may be a static argument.

    Attributes:
      vocab_size: V, rows of the embedding.
      width: H.
      head_dim: width of one head; heads x head_dim may differ from H.
      d_ff: width of the feed-forward layer.
      num_layers: N.
      num_heads: query heads.
      num_kv_heads: heads of keys and values, each shared by num_heads / num_kv_heads query heads.
      norm_epsilon: epsilon of every RMSNorm.
      rope_theta: base of the rotary frequencies.
      rope_scaling: rescaled frequencies (Llama 3.1 and later); None for plain ones.
      projection_bias: biases on queries, keys and values (Qwen2).
      head_norms: RMSNorm over each head of queries and keys (Qwen3).
      tied_head: the output head is the embedding.
      dtype: compute dtype; norms, softmax, logits and losses stay in float32 or wider.
      scan_unroll: layers per step of the scan over layers; 0 unrolls all.
      remat: recompute a layer's activations in the backward pass.
      model_type: the value in config.json, kept for writing it back.
    """

    vocab_size: Width
    width: Width
    head_dim: Annotated[int, Field(ge=2, le=2**16, multiple_of=2)]
    d_ff: Width
    num_layers: Layers
    num_heads: Width
    num_kv_heads: Width
    norm_epsilon: Annotated[float, Field(ge=0, lt=1)] = 1e-6
    rope_theta: Positive = 10000.0
    rope_scaling: RopeScaling | None = None
    projection_bias: bool = False
    head_norms: bool = False
    tied_head: bool = False
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    scan_unroll: NonNegativeInt = 0
    remat: bool = False
    model_type: ModelType = "llama"

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(f"DecoderConfig.num_kv_heads = {self.num_kv_heads}: must divide num_heads = "
                              f"{self.num_heads}.")

    @classmethod
    def from_hugging_face(cls, values: Mapping[str, Any], **numerics) -> DecoderConfig:
        """The configuration in a parsed config.json.

        Args:
          values: the parsed file; missing fields take the defaults of ``transformers``.
          **numerics: dtype, scan_unroll, remat.

        Raises:
          ConfigError: another family, an unsupported feature, or a value out of range.
        """
        model_type = values.get("model_type")
        if model_type not in MODEL_TYPES:
            raise ConfigError(f"model_type = {shown(model_type)}: not a decoder-only model that this project reads; "
                              f"give a checkpoint of {', '.join(MODEL_TYPES)} (SmolLM2 and TinyLlama say 'llama').")
        _refuse_unknown(values, model_type)
        default = _DEFAULTS[model_type]
        width, heads = values.get("hidden_size", default["hidden_size"]), values.get("num_attention_heads", 32)
        kv_heads, head_dim = (values.get(field, default[field]) for field in ("num_key_value_heads", "head_dim"))
        if head_dim is None:
            if not isinstance(width, int) or not isinstance(heads, int) or heads < 1 or width % heads:
                raise ConfigError(f"hidden_size = {shown(width)}: must be a multiple of num_attention_heads = "
                                  f"{shown(heads)}, or head_dim must be given.")
            head_dim = width // heads
        rope_theta, rope_scaling = _rope(values)
        return cls(
            vocab_size=values.get("vocab_size", default["vocab_size"]),
            width=width,
            head_dim=head_dim,
            d_ff=values.get("intermediate_size", default["intermediate_size"]),
            num_layers=values.get("num_hidden_layers", 32),
            num_heads=heads,
            num_kv_heads=heads if kv_heads is None else kv_heads,
            norm_epsilon=values.get("rms_norm_eps", 1e-6),
            rope_theta=rope_theta,
            rope_scaling=rope_scaling,
            projection_bias=model_type == "qwen2",
            head_norms=model_type == "qwen3",
            tied_head=values.get("tie_word_embeddings", False),
            model_type=model_type,
            **numerics,
        )

    def to_hugging_face(self) -> dict[str, Any]:
        """The config.json that ``transformers`` 4 and 5 read as this model."""
        rope: dict[str, Any] = {"rope_type": "default"}
        if scaling := self.rope_scaling:
            rope = {"rope_type": "llama3", "factor": scaling.factor, "low_freq_factor": scaling.low_freq_factor,
                    "high_freq_factor": scaling.high_freq_factor,
                    "original_max_position_embeddings": scaling.original_length}
        architecture = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[self.model_type]
        return {
            "architectures": [f"{architecture}ForCausalLM"],
            "model_type": self.model_type,
            "vocab_size": self.vocab_size,
            "hidden_size": self.width,
            "head_dim": self.head_dim,
            "intermediate_size": self.d_ff,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "hidden_act": "silu",
            "rms_norm_eps": self.norm_epsilon,
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_theta": self.rope_theta, **rope},
            "attention_bias": False,
            "tie_word_embeddings": self.tied_head,
        }


_DEFAULTS: dict[str, dict[str, int | None]] = {
    "llama": {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_key_value_heads": None,
              "head_dim": None},
    "qwen2": {"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_key_value_heads": 32,
              "head_dim": None},
    "qwen3": {"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_key_value_heads": 32,
              "head_dim": 128},
}
"""Defaults of ``transformers`` for missing fields."""
_FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "rope_interleaved": (False,),
    "use_sliding_window": (False,),
    "partial_rotary_factor": (1, 1.0),
    "quantization_config": (),
    "num_experts": (),
    "num_local_experts": (),
}
"""Fields of config.json that would change the computation, with their supported values."""


def _refuse_unknown(values: Mapping[str, Any], model_type: str) -> None:
    """Raise a :class:`ConfigError` for a field that asks for an unsupported computation."""
    for field, allowed in _FIXED.items():
        value = values.get(field)
        if value is not None and value not in allowed:
            known = f"only {shown(allowed[0])} is supported" if allowed else "is not supported"
            raise ConfigError(f"{field} = {shown(value)}: {known}; take another {model_type} checkpoint.")
    window = values.get("sliding_window")
    # Qwen states a window width even though the window is off unless use_sliding_window is true.
    if window is not None and model_type == "llama":
        raise ConfigError(f"sliding_window = {shown(window)}: sliding windows are not supported; take a checkpoint "
                          "whose layers attend to all of the text.")
    kinds = values.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise ConfigError(f"layer_types = {shown(kinds)}: only 'full_attention' is supported; take a checkpoint whose "
                          "layers attend to all of the text.")


def _rope(values: Mapping[str, Any]) -> tuple[Any, RopeScaling | None]:
    """The base and the rescaling of the rotary frequencies.

    transformers 4 writes ``rope_theta`` and ``rope_scaling``, transformers 5 writes both into ``rope_parameters``.
    """
    found: dict[str, Any] = {}
    for field in ("rope_scaling", "rope_parameters"):
        part = values.get(field) or {}
        if not isinstance(part, dict):
            raise ConfigError(f"{field} = {shown(part)}: must be an object.")
        found |= part
    kind = found.get("rope_type", found.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ConfigError(f"rope_type = {shown(kind)}: only 'default' and 'llama3' are supported; take a checkpoint "
                          "with one of these rotary embeddings.")
    if found.get("partial_rotary_factor", 1) != 1:
        raise ConfigError(f"partial_rotary_factor = {shown(found['partial_rotary_factor'])}: only 1 is supported; take "
                          "a checkpoint that rotates whole heads.")
    theta = found.get("rope_theta", values.get("rope_theta", 10000.0))
    if kind == "default":
        return theta, None
    fields = {"factor": "factor", "low_freq_factor": "low_freq_factor", "high_freq_factor": "high_freq_factor",
              "original_length": "original_max_position_embeddings"}
    if missing := [name for name in fields.values() if found.get(name) is None]:
        raise ConfigError(f"rope_type = 'llama3': {missing[0]} is missing; copy config.json again.")
    return theta, RopeScaling(**{field: found[name] for field, name in fields.items()})
