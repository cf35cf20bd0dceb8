"""Tuning of the generator's label prompts: losses, weight net, meta-gradient and update step."""
