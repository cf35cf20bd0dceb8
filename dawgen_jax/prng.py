"""Random keys of a fixed implementation, so that results do not depend on ``jax_default_prng_impl``."""

from __future__ import annotations

import jax

__all__ = ["key"]


def key(seed: jax.typing.ArrayLike) -> jax.Array:
    """The threefry key for a seed.

    >>> key(7)
    Array((), dtype=key<fry>) overlaying:
    [0 7]
    """
    return jax.random.key(seed, impl="threefry2x32")
