"""Definition of a task, the paper's seven tasks, and a shipped sample of movie reviews."""

from dawgen_jax.tasks.paper import SEVEN
from dawgen_jax.tasks.samples import SAMPLE_DATA, SAMPLES
from dawgen_jax.tasks.schema import Task

__all__ = ["SAMPLES", "SAMPLE_DATA", "SEVEN", "Task"]
