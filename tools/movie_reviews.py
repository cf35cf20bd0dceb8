"""Sample the part of the Sentence Polarity Dataset that the package ships as the task MR.

    python -m tools.movie_reviews DATA dawgen_jax/tasks/samples

DATA is a folder with MR/train.jsonl and MR/test.jsonl (fields text and label; 'negative' or 'positive'). The sample has
the 16-shot splits of the paper's five seeds, sampled from the training file as for every other task, and the first 500
test sentences of each class, in file order. train.jsonl has the sentences of all splits.
"""

from __future__ import annotations

import json
import pathlib
import sys

from dawgen_jax.data.fewshot import few_shot
from dawgen_jax.data.pools import Example, read_examples
from dawgen_jax.tasks import SAMPLES

SEEDS = (13, 21, 42, 87, 100)
SHOTS, TESTED = 16, 500

NOTICE = """\
# Movie review sentences

A sample of the Sentence Polarity Dataset v1.0 by Bo Pang and Lillian Lee, licensed under CC BY 4.0
(https://creativecommons.org/licenses/by/4.0/).

Changes: white space collapsed, exact repeats removed, sentences shuffled and divided into train and test. This folder
holds 16 + 16 training and dev sentences per class for five seeds and 1,000 test sentences, drawn by
tools/movie_reviews.py.

    @inproceedings{pang-lee-2005-seeing,
      title = {Seeing Stars: Exploiting Class Relationships for Sentiment Categorization with Respect to Rating Scales},
      author = {Pang, Bo and Lee, Lillian},
      booktitle = {Proceedings of the 43rd Annual Meeting of the Association for Computational Linguistics},
      year = {2005}
    }
"""


def write(path: pathlib.Path, examples: list[Example]) -> None:
    """Write examples as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"text": example.sentence2, "label": example.label} for example in examples]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main(data: str, out: str) -> None:
    """Read the full files and write the sample."""
    task, folder = SAMPLES["MR"], pathlib.Path(out) / "MR"
    pool = read_examples(pathlib.Path(data) / "MR" / "train.jsonl", task)
    drawn = []
    for seed in SEEDS:
        train, dev = few_shot(pool, task, SHOTS, seed)
        drawn += [*train, *dev]
        write(folder / f"{SHOTS}-{seed}" / "train.jsonl", train)
        write(folder / f"{SHOTS}-{seed}" / "dev.jsonl", dev)
    write(folder / "train.jsonl", list(dict.fromkeys(drawn)))
    test = read_examples(pathlib.Path(data) / "MR" / "test.jsonl", task)
    chosen = {example for label in task.labels for example in [e for e in test if e.label == label][:TESTED]}
    write(folder / "test.jsonl", [example for example in test if example in chosen])
    (folder / "NOTICE.md").write_text(NOTICE, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
