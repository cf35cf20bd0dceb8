"""Quality of a synthetic set: numbers (``measures``), suspicious samples (``flags``) and verdicts (``judgement``).

:func:`appraise` judges a set against real pairs; :func:`measure` computes the measures that a run records per set.
"""

from dawgen_jax.evaluation.quality.judgement import Appraisal, Figure, Real, appraise
from dawgen_jax.evaluation.quality.measures import measure

__all__ = ["Appraisal", "Figure", "Real", "appraise", "measure"]
