"""A custom task: from labelled texts or pairs in a file to a tuned prompt, a synthetic set and a report.

    dawgen backbone fetch smollm2-135m-q4
    dawgen check own_task --data FILE.csv --backbone smollm2-135m-q4    # reports the plan, and any problems
    dawgen run own_task --data FILE.csv --backbone smollm2-135m-q4

FILE (.csv, .tsv, .jsonl, .parquet; or a folder, or hub:NAME) has one example per row: one or two texts, and a label.
Everything else is read from the file or has a default, which you may change below or on the command line
(``--own.template "{text} It was <mask>" --own.label_words terrible great``). 16 shots need 32 examples per class (16
for tuning and 16 for dev) and additional examples for the test set. With fewer examples, the number of shots is the
largest that fits (16 examples per class give 6 + 6, and 4 for the test).

The settings are for a small causal model; with a T5, prompts get the paper's rows and rate by themselves, and more
updates help: ``--classifier.num_steps 1000``. The embedded mini-t5 knows only the 139 words of the mini
world.

``Departure:`` sampling at temperature 0.9 and top 30 (greedy, with which all samples of a label would be equal), 100
samples per label (5,000); first sentences of pairs from the task's examples (a corpus); 100 updates of 8 + 8 (3,000 of
16 + 16); at most 50 generator updates at rate 7e-3 (160 per label at 5e-3), of which the lowest dev loss is kept (the
last), lambda 0.1 (1).

Expected: depends on the task.
"""

from dawgen_jax.config import (
    BackboneConfig,
    ClassifierConfig,
    Config,
    DataConfig,
    GeneratorConfig,
    OwnTask,
    SynthesisConfig,
)


def get_config() -> Config:
    """Zero-shot, prompt tuning, LoRA, and DawGen with gradient surgery, on one seed."""
    backbone = BackboneConfig(scan_unroll=1)  # one compiled layer instead of all of them
    return Config(
        name="own_task",
        tasks=("own",),
        own=OwnTask(name="own"),
        seeds=(13,),
        arms=("Prompting (zero-shot)", "Prompt Tuning", "LoRA", "DawGen: (Real, Syn) + GS"),
        data=DataConfig(k=0, corpus="pool"),
        generator=GeneratorConfig(
            backbone=backbone, prompt_length=12, learning_rate=7e-3, num_steps=50, dist_weight=0.1, select="dev_nll"),
        synthesis=SynthesisConfig(samples_per_label=100, temperature=0.9, top_k=30, max_new_tokens=60, score=True),
        classifier=ClassifierConfig(
            backbone=backbone, real_steps=100, real_batch_per_label=4, real_eval_every=20, num_steps=100,
            batch_size=8, eval_every=20, max_tokens=128, eval_batch_size=16),
    )
