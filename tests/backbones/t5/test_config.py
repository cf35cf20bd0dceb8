"""Hugging Face's config.json, read and written, and what is refused."""

import pytest

from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.errors import ConfigError

SMALL = {"vocab_size": 100, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4}


@pytest.mark.parametrize(
    ("values", "scaled", "activation", "gated"),
    [
        ({}, True, "relu", False),
        ({"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"}, False, "gelu_new", True),
        # transformers 5 says 'tied' of every T5 and keeps the truth in another field.
        ({"tie_word_embeddings": True, "scale_decoder_outputs": False, "feed_forward_proj": "gated-gelu"}, False,
         "gelu_new", True),
        ({"feed_forward_proj": "gated-silu"}, True, "silu", True),
        ({"feed_forward_proj": "gelu"}, True, "gelu", False),
        ({"model_type": "mt5", "tie_word_embeddings": True}, False, "gelu_new", True),
        ({"model_type": "umt5"}, True, "gelu_new", True),
    ],
)  # fmt: skip
def test_reads_and_writes_config_json(values, scaled, activation, gated):
    config = T5Config.from_hugging_face({**SMALL, **values})
    assert (config.scale_decoder_outputs, config.activation, config.gated) == (scaled, activation, gated)
    assert config.num_decoder_layers == 2 and config.decoder_start_id == 0
    assert T5Config.from_hugging_face(config.to_hugging_face()) == config


HUB = {
    # name: (what of its config.json is read, layers, heads x d_kv, head, feed-forward layer)
    "t5-efficient-tiny-nl8": (
        {"d_ff": 1024, "d_kv": 64, "d_model": 256,
         "decoder_start_token_id": 0, "eos_token_id": 1, "feed_forward_proj": "relu", "model_type": "t5",
         "num_decoder_layers": 8, "num_heads": 4, "num_layers": 8, "pad_token_id": 0, "vocab_size": 32128},
        (8, 8), 256, (True, True), ("relu", False)),
    "t5-efficient-small-dl2": (
        {"d_ff": 2048, "d_kv": 64, "d_model": 512, "feed_forward_proj": "relu", "model_type": "t5",
         "num_decoder_layers": 2, "num_heads": 8, "num_layers": 6, "pad_token_id": 0, "vocab_size": 32128},
        (6, 2), 512, (True, True), ("relu", False)),
    "t5-small-lm-adapt": (
        {"d_ff": 1024, "d_kv": 64, "d_model": 512, "decoder_start_token_id": 0, "eos_token_id": 1,
         "feed_forward_proj": "gated-gelu", "model_type": "t5", "num_decoder_layers": 8, "num_heads": 6,
         "num_layers": 8, "pad_token_id": 0, "relative_attention_num_buckets": 32, "tie_word_embeddings": False,
         "vocab_size": 32128},
        (8, 8), 384, (False, False), ("gelu_new", True)),
    "flan-t5-large": (
        {"d_ff": 2816, "d_kv": 64, "d_model": 1024, "decoder_start_token_id": 0, "eos_token_id": 1,
         "feed_forward_proj": "gated-gelu", "model_type": "t5", "num_decoder_layers": 24,
         "num_heads": 16, "num_layers": 24, "pad_token_id": 0,
         "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32, "tie_word_embeddings": False,
         "vocab_size": 32128},
        (24, 24), 1024, (False, False), ("gelu_new", True)),
}  # fmt: skip


@pytest.mark.parametrize("name", HUB)
def test_reads_what_stands_on_the_hub(name):
    values, layers, inner, head, feed_forward = HUB[name]
    config = T5Config.from_hugging_face(values)
    assert (config.num_layers, config.num_decoder_layers) == layers and config.num_heads * config.d_kv == inner
    assert (config.tied_head, config.scale_decoder_outputs) == head
    assert (config.activation, config.gated) == feed_forward
    assert (config.pad_id, config.eos_id, config.decoder_start_id, config.vocab_size) == (0, 1, 0, 32128)
    assert T5Config.from_hugging_face(config.to_hugging_face()) == config


def test_null_ids_are_those_of_t5():
    null = dict.fromkeys(("pad_token_id", "eos_token_id", "decoder_start_token_id"))
    assert T5Config.from_hugging_face({**SMALL, **null}) == T5Config.from_hugging_face(SMALL)


@pytest.mark.parametrize(
    ("values", "numerics", "message"),
    [
        ({"model_type": "bart"}, {}, "model_type = 'bart'"),
        ({"feed_forward_proj": "gated-swiglu"}, {}, "activation = 'swiglu'"),
        ({"feed_forward_proj": "a-b-c"}, {}, "feed_forward_proj = 'a-b-c'"),
        ({"d_model": 0}, {}, "d_model = 0"),
        ({"d_model": "32"}, {}, "d_model = '32': must be an integer"),
        ({"d_model": None}, {}, "d_model = None"),
        ({"num_layers": True}, {}, "num_layers = True"),
        ({"num_layers": 10**9}, {}, "num_layers = 1000000000: must be at most 1000"),
        ({"num_decoder_layers": 0}, {}, "num_decoder_layers = 0"),
        ({"d_ff": 10**30}, {}, "d_ff = 1000"),
        ({"feed_forward_proj": 3}, {}, "feed_forward_proj = 3: must be text"),
        ({"model_type": ["t5"]}, {}, r"model_type = \['t5'\]"),
        ({"tie_word_embeddings": "false"}, {}, "tie_word_embeddings = 'false': must be true or false"),
        ({"scale_decoder_outputs": "false"}, {}, "scale_decoder_outputs = 'false': must be true or false"),
        ({"layer_norm_epsilon": 10}, {}, "layer_norm_epsilon = 10: must be less than 1"),
        ({"layer_norm_epsilon": "1e-6"}, {}, "layer_norm_epsilon = '1e-6': must be a number"),
        ({"eos_token_id": []}, {}, r"eos_id = \[\]: must be an integer"),
        ({"eos_token_id": -1}, {}, "eos_id = -1"),
        ({"pad_token_id": 10**6}, {}, "pad_id = 1000000: must be below vocab_size = 100"),
        ({"decoder_start_token_id": "0"}, {}, "decoder_start_id = '0'"),
        ({}, {"dtype": "float16"}, "overflow"),
        ({}, {"scan_unroll": -1}, "scan_unroll = -1"),
    ],
)
def test_refuses_with_the_field_named(values, numerics, message):
    with pytest.raises(ConfigError, match=message):
        T5Config.from_hugging_face({**SMALL, **values}, **numerics)
