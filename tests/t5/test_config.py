"""Hugging Face's config.json, read and written, and what is refused."""

import pytest

from dawgen_jax.config import ConfigError
from dawgen_jax.t5.config import T5Config

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


@pytest.mark.parametrize(
    ("values", "numerics", "message"),
    [
        ({"model_type": "bart"}, {}, "model_type = 'bart'"),
        ({"feed_forward_proj": "gated-swiglu"}, {}, "activation = 'swiglu'"),
        ({"feed_forward_proj": "a-b-c"}, {}, "feed_forward_proj = 'a-b-c'"),
        ({"d_model": 0}, {}, "d_model = 0"),
        ({}, {"dtype": "float16"}, "overflow"),
        ({}, {"scan_unroll": -1}, "scan_unroll = -1"),
    ],
)
def test_refuses_with_the_field_named(values, numerics, message):
    with pytest.raises(ConfigError, match=message):
        T5Config.from_hugging_face({**SMALL, **values}, **numerics)
