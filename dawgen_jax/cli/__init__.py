"""The command ``dawgen``: one module per command, with the options that they share in :mod:`dawgen_jax.cli.options`."""
