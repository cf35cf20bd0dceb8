"""Is a synthetic set any good? Numbers (``measures``), suspicious samples (``flags``) and verdicts (``judgement``).

:func:`appraise` judges one set against real pairs; :func:`measure` gives the measures that every set of a run records.
"""

from dawgen_jax.evaluation.quality.judgement import Appraisal, Figure, Real, appraise
from dawgen_jax.evaluation.quality.measures import measure

__all__ = ["Appraisal", "Figure", "Real", "appraise", "measure"]
