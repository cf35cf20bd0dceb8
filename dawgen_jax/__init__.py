"""DawGen in JAX and Flax: few-shot prompt tuning of T5 with synthetic data."""

from dawgen_jax.compiler import warn_of_fault

__version__ = "0.1.0"

warn_of_fault()
