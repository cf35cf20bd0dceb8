"""report.html: a run directory as one page that a person can judge."""

from dawgen_jax.results.report.page import write_report

__all__ = ["write_report"]
