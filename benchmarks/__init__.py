"""One script per question; each prints a figure next to a named peer's, or its findings as JSON on its last line."""

import dawgen_jax  # noqa: F401  (sets the compiler's flag before a backend starts)
