"""One known fault of the XLA compiler on CPU, and the flag that keeps clear of it.

jaxlib 0.10.2 miscompiles some fused reductions: under jit, ``vmap(lambda r: sum((eye(3) @ r) ** 2))`` over 32,769 rows
adds up to less than it should (https://github.com/jax-ml/jax/issues/39103). Nothing warns of it. An empty
``--xla_cpu_experimental_ynn_fusion_type`` turns that fusion off; XLA reads it once, when the first backend starts.
"""

from __future__ import annotations

import importlib.metadata
import os
import warnings

__all__ = ["mend_environment", "warn_of_fault"]

_FAULTY = ("0.10.2",)
_FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def _at_risk() -> bool:
    return importlib.metadata.version("jaxlib") in _FAULTY and _FLAG not in os.environ.get("XLA_FLAGS", "")


def mend_environment() -> None:
    """Set the flag for this process and those that it starts; a flag that is set already stays as it is.

    To be called before anything asks JAX for a device.
    """
    if _at_risk():
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}=".strip()


def warn_of_fault() -> None:
    """Warn once a process, where this jaxlib has the fault and the flag is not set.

    Warns:
      RuntimeWarning: results on CPU may be wrong.
    """
    if _at_risk():
        warnings.warn(f"jaxlib {importlib.metadata.version('jaxlib')} miscompiles some reductions on CPU; set "
                      f"XLA_FLAGS='{_FLAG}=' before JAX starts.", RuntimeWarning, stacklevel=3)
