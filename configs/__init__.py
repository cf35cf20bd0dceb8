"""Configuration files: Python with ``get_config()``, which may import each other."""
