"""A compiler flag that avoids a known fault of XLA on CPU.

jaxlib 0.10.2 miscompiles some fused reductions: under jit, ``vmap(lambda r: sum((eye(3) @ r) ** 2))`` over 32,769 rows
returns a sum that is too small, without a warning (https://github.com/jax-ml/jax/issues/39103). An empty
``--xla_cpu_experimental_ynn_fusion_type`` disables that fusion; XLA reads the flag once, when the first backend starts.
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
    """Set the flag for this process and its children if this jaxlib has the fault; an existing value is kept.

    Warns:
      RuntimeWarning: a backend has started without the flag, so it is too late to set it.
    """
    if importlib.metadata.version("jaxlib") not in _FAULTY or _FLAG in os.environ.get("XLA_FLAGS", ""):
        return
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}=".strip()
    # A public query would start a backend.
    if getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None):
        warnings.warn("jaxlib 0.10.2 miscompiles some reductions on CPU, and a JAX backend has started: import "
                      f"dawgen_jax before using JAX, or set XLA_FLAGS='{_FLAG}='.", RuntimeWarning, stacklevel=3)
