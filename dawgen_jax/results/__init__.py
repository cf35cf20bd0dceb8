"""Published numbers, result rows, tables, claims, quality of synthetic sets and the report."""
