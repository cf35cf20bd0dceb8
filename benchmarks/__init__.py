"""One script a question; each prints a figure next to a named peer's, or what it found, as JSON on its last line."""

import dawgen_jax  # noqa: F401  (sets the compiler's flag before a backend starts)
