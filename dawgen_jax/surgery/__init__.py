"""Gradient surgery (Algorithm 2 of the paper) and its alternatives, as optax aggregators.

Imports jax, optax and :mod:`dawgen_jax.errors` only, so that it can be used without the rest of the package.
"""

from dawgen_jax.surgery import weightings
from dawgen_jax.surgery.aggregator import AggregatorState, aggregator, gradient_surgery, weighted_sum

__all__ = ["AggregatorState", "aggregator", "gradient_surgery", "weighted_sum", "weightings"]
