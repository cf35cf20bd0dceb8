"""The paper's tables on Flan-T5-large (google/flan-t5-large), data by the same generator as for T5-large.

Expected (published, average of the seven tasks): zero-shot 56.57, prompt tuning 62.49, DawGen with gradient surgery
77.19 (FewGen data: 77.78). Not run by this project, which had no access to the weights.

The synthetic sets depend only on the generator's backbone: run this in the directory of configs/paper.py with the same
`--data.corpus` (and, if that is a text file, the same `--tasks`), and the sets are reused.

    dawgen run paper_flan --classifier.backbone.path checkpoints/flan-t5-large \\
        --generator.backbone.path checkpoints/t5-large-lm-adapt --data.root hub: --data.corpus RELEASED_SETS \\
        --data.released RELEASED_SETS --transfer.documents DOCUMENTS.txt --out runs/paper
"""

import dataclasses

from dawgen_jax.config import BackboneConfig, Config, load_config


def get_config() -> Config:
    """configs/paper.py with another classifier backbone."""
    base = load_config("paper")
    backbone = BackboneConfig("checkpoints/flan-t5-large", name="Flan-T5-large", dtype="bfloat16", scan_unroll=1,
                              remat=True)
    return dataclasses.replace(base, name="paper_flan",
                               classifier=dataclasses.replace(base.classifier, backbone=backbone))
