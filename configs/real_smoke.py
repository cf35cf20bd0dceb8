"""Every stage on real input in minutes: SICK and MRPC with the real T5 tokenizer and a small random T5.

It shows that the main job runs on real data, not that it learns: the backbone is random (chance is expected).

``Departure:`` 10 prompt rows, 20 updates, 20 samples a label, 200 test pairs, 2 seeds; and, since a random model never
ends a sentence, unfinished samples are kept (``synthesis.unfinished = 'cut'``, marked 'cut' in every row).

Needs the data folder described in the README (DAWGEN_SHARED, by default ../shared) and a random T5 directory with the
tokenizer in it. About 4 minutes on 2 CPU cores:

    python -c "import transformers as t; t.T5ForConditionalGeneration(t.T5Config(vocab_size=32128, d_model=64, d_kv=16,
        d_ff=128, num_layers=2, num_heads=4, feed_forward_proj='gated-gelu')).save_pretrained('runs/random-t5')"
    cp $DAWGEN_SHARED/tokenizer/* runs/random-t5/
    python -m train.run configs/real_smoke.py --classifier.backbone.path runs/random-t5 \\
        --generator.backbone.path runs/random-t5
"""

import os
import pathlib

from dawgen_jax.config import (
    BackboneConfig,
    ClassifierConfig,
    Config,
    DataConfig,
    GeneratorConfig,
    SynthesisConfig,
)


def get_config() -> Config:
    """A short run on real text."""
    shared = pathlib.Path(os.environ.get("DAWGEN_SHARED", "../shared")) / "data"
    backbone = BackboneConfig("runs/random-t5")
    return Config(
        name="real_smoke",
        tasks=("SICK", "MRPC"),
        seeds=(13, 21),
        arms=("Prompting (zero-shot)", "Prompt Tuning", "FewGen: (Real, Syn) + GS", "DawGen: (Real, Syn) + GS"),
        data=DataConfig(root=str(shared), kshot=str(shared / "kshot"), corpus=str(shared / "synthetic_fewgen"),
                        max_test=200),
        generator=GeneratorConfig(backbone=backbone, prompt_length=10, num_steps=20, log_every=5),
        synthesis=SynthesisConfig(samples_per_label=20, max_new_tokens=12, unfinished="cut", batch_size=16),
        classifier=ClassifierConfig(backbone=backbone, prompt_length=10, real_steps=20, real_eval_every=10,
                                    num_steps=20, batch_size=4, eval_every=10),
    )
