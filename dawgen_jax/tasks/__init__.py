"""What a task is, and the paper's seven."""

from dawgen_jax.tasks.paper import SEVEN
from dawgen_jax.tasks.schema import Task

__all__ = ["SEVEN", "Task"]
