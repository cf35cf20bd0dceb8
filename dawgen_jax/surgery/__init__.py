"""Gradient surgery (Algorithm 2 of the paper) and its alternatives, as optax aggregators.

This package imports only jax, optax and :mod:`dawgen_jax.errors`, so it can be used alone.
"""

from dawgen_jax.surgery import weightings
from dawgen_jax.surgery.aggregator import AggregatorState, aggregator, gradient_surgery, weighted_sum

__all__ = ["AggregatorState", "aggregator", "gradient_surgery", "weighted_sum", "weightings"]
