"""DawGen in JAX and Flax: few-shot prompt tuning of T5 with synthetic data."""

__version__ = "0.1.0"
