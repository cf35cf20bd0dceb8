"""The commands under their old names: ``python -m train.NAME`` is ``dawgen NAME``."""
