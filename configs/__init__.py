"""Configuration files: Python modules with ``get_config()``, which may import each other."""
