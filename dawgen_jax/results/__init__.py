"""Published numbers, result rows, tables, claims, a figure and the report."""
