"""What a task is, the paper's seven, and a shipped sample of movie reviews."""

from dawgen_jax.tasks.paper import SEVEN
from dawgen_jax.tasks.samples import SAMPLE_DATA, SAMPLES
from dawgen_jax.tasks.schema import Task

__all__ = ["SAMPLES", "SAMPLE_DATA", "SEVEN", "Task"]
