"""How the examples of the mini world in ``dawgen_jax/miniworld/pools`` were made."""
