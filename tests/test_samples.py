"""The shipped sample of movie reviews: its sizes, its licence, and that no sentence is in two places."""

import json

from dawgen_jax.tasks import SAMPLE_DATA, SAMPLES

SEEDS = (13, 21, 42, 87, 100)


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_split_is_balanced_and_disjoint_from_dev_and_test():
    labels = SAMPLES["MR"].labels
    test = read(SAMPLE_DATA / "MR" / "test.jsonl")
    assert [sum(row["label"] == label for row in test) for label in labels] == [500, 500]
    tested = {row["text"] for row in test}
    assert len(tested) == 1000
    for seed in SEEDS:
        train, dev = (read(SAMPLE_DATA / "MR" / f"16-{seed}" / name) for name in ("train.jsonl", "dev.jsonl"))
        for rows in (train, dev):
            assert [sum(row["label"] == label for row in rows) for label in labels] == [16, 16]
        texts = [{row["text"] for row in rows} for rows in (train, dev)]
        assert not texts[0] & texts[1] and not (texts[0] | texts[1]) & tested


def test_the_notice_names_authors_licence_and_changes():
    notice = (SAMPLE_DATA / "MR" / "NOTICE.md").read_text(encoding="utf-8")
    assert all(word in notice for word in ("Pang", "Lee", "CC BY 4.0", "Changes"))
