"""A task of your own: from labelled texts or pairs in a file to a tuned prompt, a synthetic set and a report.

    dawgen check own_task --data FILE.csv      # shows what will be done, and what is wrong
    dawgen run own_task --data FILE.csv

FILE (.csv, .tsv, .jsonl, .parquet; or a folder, or hub:NAME) holds one example a row: a text or two of them, and a
label. Everything else is found in it or has a default that you may state below or on the command line
(``--own.template "{text} It was <mask>." --own.label_words terrible great``). 16 shots take 32 examples a class, 16 to
tune on and 16 for dev, and the test set comes on top; with fewer, as many shots are taken as fit (from 16 examples a
class 6 + 6, and 4 to test on).

The embedded mini-t5 knows nothing but the 139 words of the mini world: for text of yours give a T5 checkpoint,
``--generator.backbone.path DIR --classifier.backbone.path DIR``. ``Departure:`` sampling at temperature 1.0 (greedy:
all samples of a label would be one), 200 samples a label (5,000); first sentences of pairs from the task's own examples
(a corpus); 1,000 updates (3,000) for arms with synthetic data; generator prompts of the lowest loss on dev (of the
last update), since a pre-trained model soon overfits a few shots.

Expected: no number can be promised for a task that we do not know. Cost: on mini-t5 and 2 CPU cores about 10 minutes.
"""

from dawgen_jax.config import ClassifierConfig, Config, DataConfig, GeneratorConfig, OwnTask, SynthesisConfig


def get_config() -> Config:
    """Zero-shot, prompt tuning, and DawGen with gradient surgery, on 3 seeds."""
    return Config(
        name="own_task",
        tasks=("own",),
        own=OwnTask(name="own"),
        seeds=(13, 21, 42),
        arms=("Prompting (zero-shot)", "Prompt Tuning", "DawGen: (Real, Syn) + GS"),
        data=DataConfig(k=0, corpus="pool"),
        generator=GeneratorConfig(select="dev_nll"),
        synthesis=SynthesisConfig(samples_per_label=200, temperature=1.0, score=True),
        classifier=ClassifierConfig(num_steps=1000),
    )
