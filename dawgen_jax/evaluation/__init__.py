"""Scoring, metrics, and measures of synthetic sets."""
