"""One known fault of the XLA compiler on CPU, and the flag that keeps clear of it.

jaxlib 0.10.2 miscompiles some fused reductions: under jit, ``vmap(lambda r: sum((eye(3) @ r) ** 2))`` over 32,769 rows
adds up to less than it should (https://github.com/jax-ml/jax/issues/39103). Nothing warns of it. An empty
``--xla_cpu_experimental_ynn_fusion_type`` turns that fusion off; XLA reads it once, when the first backend starts.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import warnings

__all__ = ["avoid_fault"]

_FAULTY = ("0.10.2",)
_FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def avoid_fault() -> None:
    """Set the flag for this process and its children if this jaxlib has the fault; a flag that is set already stays.

    Warns:
      RuntimeWarning: a backend has started without the flag, so that setting it has no effect.
    """
    if importlib.metadata.version("jaxlib") not in _FAULTY or _FLAG in os.environ.get("XLA_FLAGS", ""):
        return
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}=".strip()
    # Asking JAX itself whether a backend has started would start one.
    if getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None):
        warnings.warn("jaxlib 0.10.2 miscompiles some reductions on CPU, and JAX has started: import dawgen_jax "
                      f"before JAX is used, or set XLA_FLAGS='{_FLAG}='.", RuntimeWarning, stacklevel=3)
