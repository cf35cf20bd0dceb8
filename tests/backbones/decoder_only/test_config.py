"""Hugging Face's config.json of decoder-only models, read and written, and what is refused."""

import pytest

from dawgen_jax.backbones.decoder_only.config import DecoderConfig, RopeScaling
from dawgen_jax.errors import ConfigError

SMALL = {"model_type": "llama", "vocab_size": 100, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA3 = {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
          "rope_type": "llama3"}
HUB = {
    # name: (what of its config.json is read, what it means)
    "SmolLM2-135M": (
        {"model_type": "llama", "attention_bias": False, "hidden_act": "silu", "hidden_size": 576,
         "intermediate_size": 1536, "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
         "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": False, "rope_scaling": None,
         "rope_theta": 100000, "tie_word_embeddings": True, "vocab_size": 49152},
        {"head_dim": 64, "rope_theta": 1e5, "tied_head": True, "projection_bias": False, "head_norms": False}),
    "Llama-2-7b": (
        {"model_type": "llama", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008,
         "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-05,
         "rope_scaling": None, "tie_word_embeddings": False, "vocab_size": 32000},
        {"head_dim": 128, "num_kv_heads": 32, "rope_theta": 1e4, "tied_head": False}),
    "TinyLlama-1.1B": (
        {"model_type": "llama", "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 5632,
         "num_attention_heads": 32, "num_hidden_layers": 22, "num_key_value_heads": 4, "rms_norm_eps": 1e-05,
         "rope_scaling": None, "tie_word_embeddings": False, "vocab_size": 32000},
        {"head_dim": 64, "num_kv_heads": 4}),
    "Llama-3.2-1B": (
        {"model_type": "llama", "attention_bias": False, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
         "intermediate_size": 8192, "mlp_bias": False, "num_attention_heads": 32, "num_hidden_layers": 16,
         "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_scaling": LLAMA3, "rope_theta": 500000.0,
         "tie_word_embeddings": True, "vocab_size": 128256},
        {"rope_theta": 5e5, "rope_scaling": RopeScaling(32.0, 1.0, 4.0, 8192), "tied_head": True}),
    "Qwen2.5-0.5B": (
        {"model_type": "qwen2", "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
         "max_window_layers": 24, "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
         "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True,
         "use_sliding_window": False, "vocab_size": 151936},
        {"head_dim": 64, "projection_bias": True, "head_norms": False, "rope_theta": 1e6}),
    "Qwen3-0.6B": (
        {"model_type": "qwen3", "attention_bias": False, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
         "intermediate_size": 3072, "max_window_layers": 28, "num_attention_heads": 16, "num_hidden_layers": 28,
         "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000,
         "sliding_window": None, "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936},
        {"head_dim": 128, "projection_bias": False, "head_norms": True}),
}


@pytest.mark.parametrize("name", HUB)
def test_reads_what_stands_on_the_hub_and_writes_it_back(name):
    values, wanted = HUB[name]
    config = DecoderConfig.from_hugging_face(values)
    assert {field: getattr(config, field) for field in wanted} == wanted
    assert DecoderConfig.from_hugging_face(config.to_hugging_face()) == config
    version_5 = {key: value for key, value in config.to_hugging_face().items() if key != "rope_theta"}
    assert DecoderConfig.from_hugging_face(version_5) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "gemma3_text"}, "model_type = 'gemma3_text': not a decoder-only model that this project reads"),
        ({"model_type": None}, "model_type = None"),
        ({"model_type": "mixtral", "num_local_experts": 8}, "model_type = 'mixtral'"),
        ({"num_local_experts": 8}, "num_local_experts = 8: is not supported"),
        ({"model_type": "qwen3", "num_experts": 64}, "num_experts = 64: is not supported"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window = True: only False is supported"),
        ({"sliding_window": 4096}, "sliding_window = 4096: sliding windows are not supported"),
        ({"model_type": "qwen3", "layer_types": ["full_attention", "sliding_attention"]}, "layer_types = "),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type = 'yarn': only 'default' and 'llama3'"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_type = 'linear'"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "rope_type = 'dynamic'"),
        ({"rope_scaling": {**LLAMA3, "factor": None}}, "rope_type = 'llama3': factor is missing"),
        ({"rope_scaling": {**LLAMA3, "factor": 0}}, "RopeScaling.factor = 0"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor = 0.5"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ({"rope_scaling": "llama3"}, "rope_scaling = 'llama3': must be an object"),
        ({"rope_interleaved": True}, "rope_interleaved = True"),
        ({"attention_bias": True}, "attention_bias = True: only False is supported"),
        ({"mlp_bias": True}, "mlp_bias = True"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu': only 'silu' is supported"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config = .*: is not supported"),
        ({"num_key_value_heads": 3}, "num_kv_heads = 3: must divide num_heads = 4"),
        ({"hidden_size": 18}, "hidden_size = 18: must be a multiple of num_attention_heads = 4"),
        ({"num_attention_heads": 0}, "hidden_size = 16: must be a multiple of num_attention_heads = 0"),
        ({"head_dim": 5}, "head_dim = 5"),
        ({"vocab_size": "100"}, "vocab_size = '100'"),
        ({"num_hidden_layers": 10**9}, "num_layers = 1000000000"),
        ({"rms_norm_eps": 2}, "norm_epsilon = 2"),
        ({"tie_word_embeddings": "false"}, "tied_head = 'false'"),
        ({"rope_theta": -1}, "rope_theta = -1"),
    ],
)
def test_refuses_with_the_field_named(values, message):
    with pytest.raises(ConfigError, match=message):
        DecoderConfig.from_hugging_face({**SMALL, **values})
