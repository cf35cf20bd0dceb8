"""The paper's three tables on T5-large (google/t5-large-lm-adapt): seven tasks, 16 shots, 5 seeds, every row.

Expected (published, accuracy, mean of 5 seeds, average of the seven tasks): zero-shot 37.04, prompt tuning 43.49,
DawGen with gradient surgery 62.35. Not run by this project, which had no access to the weights.

Cost: ``--dry-run`` prints updates and operations of every cell, and minutes once a cell of the directory has run.

    dawgen backbone convert DOWNLOADED_T5_LARGE_LM_ADAPT checkpoints/t5-large-lm-adapt     # if it has no safetensors
    dawgen run paper --out runs/paper --classifier.backbone.path checkpoints/t5-large-lm-adapt \\
        --generator.backbone.path checkpoints/t5-large-lm-adapt --data.root hub: --data.corpus RELEASED_SETS \\
        --data.released RELEASED_SETS --transfer.documents DOCUMENTS.txt [--shard 0/8]
    dawgen tables runs/paper --claims --latex tables.tex --figure figure.svg

RELEASED_SETS is a folder TASK/*/gen-train.jsonl[.gz], of which each task reads the sets with suitable first sentences.
A text file instead gives the same lines to all tasks of a command, although the tasks need different ones. So run each
group of tasks with its file, `--tasks ... --data.corpus FILE`, all in the same run directory:

    QQP QNLI          questions
    MRPC RTE          sentences of 20 to 70 words (other lines are ignored)
    MNLI SNLI SICK    sentences of 5 to 30 words (SICK: to 15; other lines are ignored)
"""

from dawgen_jax.config import BackboneConfig, ClassifierConfig, Config, DataConfig, GeneratorConfig

BACKBONE = BackboneConfig("checkpoints/t5-large-lm-adapt", name="T5-large", dtype="bfloat16", scan_unroll=1, remat=True)
BASELINES = ("Prompting (zero-shot)", "In-Context", "FT", "Prompt-based FT", "PFT + soft prompt", "PPT",
             "Prompt Tuning", "Prompt Tuning #same-T", "SPoT", "OPTIMA", "LoRA")
STRATEGIES = ("Syn only", "Real+Syn", "Real -> Syn", "Syn -> Real", "(Real, Syn)", "(Real, Syn) + GS")


def get_config() -> Config:
    """The paper's settings as far as they are known; all others are the defaults of their fields."""
    return Config(
        name="paper",
        tasks=("QQP", "MRPC", "MNLI", "SNLI", "QNLI", "RTE", "SICK"),
        arms=(*BASELINES, *(f"{generator}: {method}" for generator in ("FewGen", "DawGen") for method in STRATEGIES),
              "FewGen: Real+Syn+LS", "DawGen: LoRA (Real, Syn) + GS", "FewGen released: (Real, Syn) + GS"),
        data=DataConfig(root="hub:"),
        generator=GeneratorConfig(backbone=BACKBONE),
        classifier=ClassifierConfig(backbone=BACKBONE, vmap_seeds=False),
    )
