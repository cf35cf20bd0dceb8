"""DawGen in JAX and Flax: few-shot prompt tuning with synthetic data.

Names of the Python API are imported from here; each loads its module when it is first asked for:

>>> from dawgen_jax import Classifier, Example, Generator, Task, appraise, find_task, gradient_surgery, load_backbone
"""

import importlib
from typing import TYPE_CHECKING, Any

from dawgen_jax.compiler import avoid_fault

if TYPE_CHECKING:
    from dawgen_jax.api import Classifier, Generator, Predictions, appraise, load_backbone
    from dawgen_jax.config import Config
    from dawgen_jax.data.pools import Example
    from dawgen_jax.errors import UserError
    from dawgen_jax.pipeline.inputs import find_task
    from dawgen_jax.surgery import gradient_surgery
    from dawgen_jax.tasks import Task

__all__ = ["Classifier", "Config", "Example", "Generator", "Predictions", "Task", "UserError", "appraise",
           "find_task", "gradient_surgery", "load_backbone"]
__version__ = "0.1.0"

_HOMES = {"Classifier": "api", "Config": "config", "Example": "data.pools", "Generator": "api", "Predictions": "api",
          "Task": "tasks", "UserError": "errors", "appraise": "api", "find_task": "pipeline.inputs",
          "gradient_surgery": "surgery", "load_backbone": "api"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


avoid_fault()
