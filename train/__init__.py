"""The programs. Importing this package sets what the XLA compiler needs, before any backend starts."""

import warnings

with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of the flag that is about to be set
    from dawgen_jax.compiler import mend_environment

mend_environment()
