"""Typed, frozen, validated configuration of every stage.

A config file is Python with ``get_config() -> Config``; the command line overrides single fields. Defaults are the
paper's if the paper (or the code of its baselines) states them, and ours otherwise; :mod:`dawgen_jax.origins` lists
which. Every choice is a field, so that a result can name it. Fields are checked on construction: an unknown field, a
wrong type or a value out of range raises :class:`ConfigError`.
"""

from dawgen_jax.config.backbone import BackboneConfig
from dawgen_jax.config.classifier import PAPER, ClassifierConfig, FineTuningConfig, LoraConfig
from dawgen_jax.config.data import DataConfig, OwnTask
from dawgen_jax.config.fields import digest, fields_of
from dawgen_jax.config.files import load_config, shipped_configs
from dawgen_jax.config.generator import GeneratorConfig
from dawgen_jax.config.run import Config, MeshConfig
from dawgen_jax.config.synthesis import SynthesisConfig
from dawgen_jax.config.transfer import TransferConfig
from dawgen_jax.config.validation import is_printable, shown
from dawgen_jax.errors import ConfigError, UserError

__all__ = ["PAPER", "BackboneConfig", "ClassifierConfig", "Config", "ConfigError", "DataConfig", "FineTuningConfig",
           "GeneratorConfig", "LoraConfig", "MeshConfig", "OwnTask", "SynthesisConfig", "TransferConfig", "UserError",
           "digest", "fields_of", "is_printable", "load_config", "shipped_configs", "shown"]
