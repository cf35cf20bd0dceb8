"""Shards and sets: whole or not there, the same bytes twice, read back as written, readable by others."""

import dataclasses
import json
import math
import os

import pytest

from dawgen_jax.config import SynthesisConfig
from dawgen_jax.data.pools import Example
from dawgen_jax.errors import UserError
from dawgen_jax.synthesis.files import (
    content_digest,
    read_counts,
    read_samples,
    read_set,
    shard_path,
    write_samples,
    write_set,
)
from dawgen_jax.synthesis.filtering import Sample, Selector
from dawgen_jax.tasks import SEVEN

SICK = SEVEN["SICK"]
SAMPLES = [Sample(Example(f'a "{i}" ü\u2028', f"b | {i}", label), i, i == 1, (-1.5, -2.25, -3.0))
           for i in range(3) for label in SICK.labels]


def selection(samples=SAMPLES):
    selector = Selector(SICK, SynthesisConfig(samples_per_label=5, unfinished="cut"))
    selector.add(samples)
    return selector.select()


def test_shards_come_back_as_written(tmp_path):
    write_samples(shard_path(tmp_path, 3), SAMPLES)
    assert shard_path(tmp_path, 3).is_file() and not shard_path(tmp_path, 2).exists()
    assert read_samples(shard_path(tmp_path, 3)) == SAMPLES
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00003.jsonl"]
    write_samples(shard_path(tmp_path, 0), [])
    assert read_samples(shard_path(tmp_path, 0)) == []


def test_a_shard_is_whole_or_not_there(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_samples(shard_path(tmp_path, 0), SAMPLES)
    assert not shard_path(tmp_path, 0).exists()


def test_broken_shards_are_named(tmp_path):
    shard_path(tmp_path, 0).write_text('{"sentence1": "a"}\n')
    with pytest.raises(UserError, match=r"shard-00000.jsonl:1: SampleLine.label: is missing; remove the file"):
        read_samples(shard_path(tmp_path, 0))
    with pytest.raises(UserError, match=r"shard-00001.jsonl: no such file"):
        read_samples(shard_path(tmp_path, 1))


def test_set_comes_back_and_restarts_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = (write_set(tmp_path / name, SICK, selection(), {"backbone": "t5"}) for name in ("a", "b"))
    assert first == second == content_digest(selection().samples) != content_digest(selection().samples[1:])
    assert read_set(tmp_path / "a") == selection().samples
    assert read_counts(tmp_path / "a") == selection().counts
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["README.md", "counts.json", "train.jsonl", "train.parquet"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_json_lines_are_plain(tmp_path):
    write_set(tmp_path, SICK, selection([s._replace(scores=()) for s in SAMPLES]))
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text("utf-8").split("\n")[:-1]]
    assert rows[0] == {"sentence1": SAMPLES[0].example.sentence1, "sentence2": "b | 0", "label": "entailment",
                       "index": 0,
                       "cut": False}


def test_datasets_reads_the_folder(tmp_path):
    import datasets

    folder = tmp_path / "set"
    folder.mkdir()
    write_set(folder, SICK, selection(), {"generator": "DawGen"}, quality={"copies": 0.1})
    for name, content in (("quality.jsonl", '{"n": 9}\n'), ("meta.json", '{"task": "SICK"}\n')):
        (folder / name).write_text(content)  # as the pipeline puts next to them
    splits = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in splits.items()} == {"train": len(selection().samples)}
    loaded = splits["train"]
    assert loaded.features["label"].names == list(SICK.labels)
    assert loaded[4] == {"sentence1": SAMPLES[4].example.sentence1, "sentence2": "b | 1", "label": 1, "index": 1,
                         "cut": True,
                         "scores": [-1.5, -2.25, -3.0]}


def test_the_set_is_a_pool_of_its_task(tmp_path):
    from dawgen_jax.data.pools import read_examples

    write_set(tmp_path, SICK, selection())
    expected = [(s.sentence1.strip(), s.sentence2, s.label) for s, *_ in selection().samples]
    assert read_examples(tmp_path / "train.jsonl", SICK) == read_examples(tmp_path / "train.parquet", SICK) == expected


def test_card_says_what_was_rejected(tmp_path):
    made = [*SAMPLES, Sample(Example("z", "", "neutral"), 9)]
    write_set(tmp_path, SICK, selection(made), {"backbone": "t5-large", "seed": 13})
    card = (tmp_path / "README.md").read_text("utf-8")
    assert "| neutral | 5 | 4 | 3 | 3 | 1 | 1 empty |" in card
    assert '"backbone": "t5-large"' in card and "path: train.parquet" in card


def test_the_cards_head_is_what_the_hub_asks_for(tmp_path):
    from huggingface_hub import DatasetCard

    write_set(tmp_path, SICK, selection(), {"seed": 13}, quality={"copies": 0.125, "n": 9}, languages=["en"])
    card = DatasetCard.load(tmp_path / "README.md")
    head = card.data.to_dict()
    assert head["language"] == ["en"] and head["license"] == "unknown" and head["size_categories"] == ["n<1K"]
    assert head["task_categories"] == ["text-classification"] and head["source_datasets"] == ["extended|other-SICK"]
    assert {"synthetic", "machine-generated"} <= set(head["tags"])
    assert head["annotations_creators"] == ["machine-generated"]
    assert "| copies | 0.125 |" in card.text and "| n | 9 |" in card.text and '"seed": 13' in card.text
    write_set(tmp_path, SICK, selection())
    assert "language" not in DatasetCard.load(tmp_path / "README.md").data.to_dict()


def test_names_from_data_cannot_change_the_card(tmp_path):
    import datasets
    import yaml

    evil = 'x | <img src=x onerror=alert(1)> `y`\n---\ntags: [evil]\n# z "\u202e'
    task = dataclasses.replace(SICK, name=evil, labels=(evil, "b", "c"))
    made = [Sample(Example("s", f"t{i}", label), i) for i, label in enumerate(task.labels)]
    selector = Selector(task, SynthesisConfig(samples_per_label=1))
    selector.add(made)
    write_set(tmp_path, task, selector.select(), {"facts": evil + "\n```\n"}, quality={evil: 1.0})
    _, head, body = (tmp_path / "README.md").read_text("utf-8").split("---\n", 2)
    assert yaml.safe_load(head)["tags"] == ["synthetic", "machine-generated", "dawgen"]
    text, block = body.split("```json\n")
    assert "<img" not in text and "\n#  z" not in text and "\n---" not in text and "\u202e" not in body
    assert len([line for line in text.split("\n") if line.startswith("| x")]) == 2  # the label, the measure
    assert json.loads(block.split("\n```\n")[0])["facts"] == evil + "\n```\n"
    loaded = datasets.load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"), split="train")
    assert loaded.features["label"].names == list(task.labels)


def test_broken_counts_are_named(tmp_path):
    (tmp_path / "counts.json").write_text("{")
    with pytest.raises(UserError, match=r"counts.json: cannot be read"):
        read_counts(tmp_path)


@pytest.mark.parametrize("wrong", [
    {"sentence1": 3}, {"sentence2": None}, {"label": ["a"]}, {"index": "1"}, {"index": True}, {"index": -1},
    {"cut": "false"}, {"cut": 0}, {"scores": 3}, {"scores": ["a"]}, {"scores": [None]}, {"other": 1}])
def test_samples_of_the_wrong_type_are_named(tmp_path, wrong):
    write_samples(shard_path(tmp_path, 0), SAMPLES[:1])
    row = json.loads(shard_path(tmp_path, 0).read_text())
    shard_path(tmp_path, 0).write_text(json.dumps(row | wrong) + "\n")
    field = next(iter(wrong))
    with pytest.raises(UserError, match=rf"jsonl:1: SampleLine(\.{field}|: must have).*; remove the file, and it"):
        read_samples(shard_path(tmp_path, 0))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_neither_written_nor_read(tmp_path, wrong):
    sample = SAMPLES[0]._replace(scores=(-1.5, -2.5))
    with pytest.raises(UserError, match=rf"sample 0 of label '.*': its scores .*{wrong}\) are not all finite"):
        write_samples(shard_path(tmp_path, 0), [sample._replace(scores=(-1.5, wrong))])
    write_samples(shard_path(tmp_path, 0), [sample])
    path = shard_path(tmp_path, 0)
    path.write_text(path.read_text().replace("-2.5", json.dumps(wrong)))
    with pytest.raises(UserError, match=r"jsonl:1: SampleLine.scores\[1\] = -?(nan|inf): must be a finite number"):
        read_samples(shard_path(tmp_path, 0))


def test_counts_of_the_wrong_type_are_named(tmp_path):
    write_set(tmp_path, SICK, selection())
    whole = json.loads((tmp_path / "counts.json").read_text())
    label = next(iter(whole))
    for wrong in (3, {}, whole[label] | {"wanted": "1"}, whole[label] | {"rejected": 3},
                  whole[label] | {"rejected": {"empty": None}}):
        (tmp_path / "counts.json").write_text(json.dumps({label: wrong}))
        with pytest.raises(UserError, match=rf"counts\.json: {label}\S* = .*: must be|{label}.wanted: is missing"):
            read_counts(tmp_path)


def test_no_reason_breaks_the_cards_table(tmp_path):
    chosen = selection()
    label, count = next(iter(chosen.counts.items()))
    counts = {label: count._replace(rejected={"contains 'a|b\r\n'": 1})}
    write_set(tmp_path, SICK, chosen._replace(counts=counts))
    card = (tmp_path / "README.md").read_bytes()
    assert b"\r" not in card and rb"1 contains 'a\|b\\r\\n' |" in card
