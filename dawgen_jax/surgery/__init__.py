"""Gradient surgery (Algorithm 2) and its alternatives, as optax aggregators."""
