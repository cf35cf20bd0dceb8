"""report.html: a run directory as a single page; also tables as a page."""

from dawgen_jax.results.report.page import tables_page, write_report

__all__ = ["tables_page", "write_report"]
