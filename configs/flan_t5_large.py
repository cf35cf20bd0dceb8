"""The paper's main table on Flan-T5-large (google/flan-t5-large), data by the same generator as for T5-large.

Expected (published, average of the seven tasks): zero-shot 56.57, prompt tuning 62.49, DawGen with gradient surgery
77.19 (FewGen data: 77.78). Not run by this project: the weights were not to be had where it is developed.

The synthetic sets are those of the generator's backbone: run this in the directory of configs/t5_large.py, with the
`--data.corpus` (and, where that is a text file, the `--tasks`) of the commands there, and nothing is generated again.

    python -m train.run configs/flan_t5_large.py --classifier.backbone.path checkpoints/flan-t5-large \\
        --generator.backbone.path checkpoints/t5-large-lm-adapt --data.root hub: --data.corpus RELEASED_SETS \\
        --out runs/t5_large
"""

import dataclasses
import pathlib
import runpy

from dawgen_jax.config import BackboneConfig, Config


def get_config() -> Config:
    """configs/t5_large.py with another classifier backbone."""
    base = runpy.run_path(str(pathlib.Path(__file__).with_name("t5_large.py")))["get_config"]()
    backbone = BackboneConfig("checkpoints/flan-t5-large", name="Flan-T5-large", dtype="bfloat16", scan_unroll=1,
                              remat=True)
    return dataclasses.replace(base, name="flan_t5_large",
                               classifier=dataclasses.replace(base.classifier, backbone=backbone))
