"""Few-shot splits: LM-BFF's rule to the line, SICK's rule, ready files, too few examples."""

import json

import numpy as np
import pytest

from dawgen_jax.config import DataConfig, UserError
from dawgen_jax.data.fewshot import READY, RESAMPLED, draw_split, few_shot, read_split
from dawgen_jax.data.pools import Example, load_pools
from dawgen_jax.tasks import SEVEN

RTE, SICK = SEVEN["RTE"], SEVEN["SICK"]


def pool_of(task, n):
    return [Example(f"a{i}", f"b{i}", task.labels[i % len(task.labels)]) for i in range(n)]


def write_split(folder, examples, name):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(example._asdict()) + "\n" for example in examples))


def test_lm_bff_rule():
    pool = pool_of(RTE, 50)
    lines = list(pool)
    np.random.seed(13)  # LM-BFF's own calls: the legacy generator shuffles the list of lines
    np.random.shuffle(lines)
    of = {label: [line for line in lines if line.label == label] for label in RTE.labels}
    train, dev = few_shot(pool, RTE, 4, 13)
    assert train == [*of["entailment"][:4], *of["not_entailment"][:4]]
    assert dev == [*of["entailment"][4:8], *of["not_entailment"][4:8]]


def test_sick_rule_is_that_of_datasets():
    datasets = pytest.importorskip("datasets")
    pool = pool_of(SICK, 60)
    train, dev = few_shot(pool, SICK, 3, 42)
    for position, label in enumerate(SICK.labels):
        members = [example.sentence1 for example in pool if example.label == label]
        shuffled = datasets.Dataset.from_dict({"x": members}).shuffle(seed=42)["x"]
        assert [example.sentence1 for example in train[3 * position : 3 * position + 3]] == list(shuffled[:3])
        assert [example.sentence1 for example in dev[3 * position : 3 * position + 3]] == list(shuffled[3:6])


@pytest.mark.parametrize("task", [RTE, SICK], ids=["RTE", "SICK"])
def test_seeds_differ_and_train_and_dev_are_disjoint(task):
    pool = pool_of(task, 120)
    train, dev = few_shot(pool, task, 16, 13)
    assert not set(train) & set(dev)
    assert few_shot(pool, task, 16, 13) == (train, dev) != few_shot(pool, task, 16, 21)


def test_too_few_examples_of_a_class():
    pool = [example for example in pool_of(RTE, 20) if example.label == "entailment" or example.sentence1 < "a12"]
    count = sum(example.label == "not_entailment" for example in pool)
    with pytest.raises(UserError, match=rf"pool.jsonl: class 'not_entailment' of RTE has {count} examples, but "
                                        r"data.k = 4 needs 8 \(4 to tune on, 4 for dev\)"):
        few_shot(pool, RTE, 4, 13, where="pool.jsonl")
    with pytest.raises(UserError, match="class 'entailment' of RTE has 0 examples"):
        few_shot([], RTE, 4, 13)


def test_ready_files_first_then_the_pool(tmp_path):
    train, dev = pool_of(RTE, 4), pool_of(RTE, 8)[4:]
    write_split(tmp_path / "RTE" / "2-13", train, "train")
    write_split(tmp_path / "RTE" / "2-13", dev, "dev")
    data = DataConfig(root="r", kshot=str(tmp_path), k=2)
    assert draw_split(RTE, data, pool_of(RTE, 40), 13) == (train, dev, READY)
    assert draw_split(SICK, data, pool_of(SICK, 40), 13).source == RESAMPLED
    assert draw_split(RTE, DataConfig(root="r", k=2), pool_of(RTE, 40), 13).source == RESAMPLED
    with pytest.raises(UserError, match=r"2-21: no ready split for data.k = 2 and seed 21 \(there are: 2-13\)"):
        draw_split(RTE, data, pool_of(RTE, 40), 21)
    with pytest.raises(UserError, match="no such folder; leave it empty"):
        draw_split(RTE, DataConfig(kshot=str(tmp_path / "nothing")), [], 21)


def test_ready_files_are_checked(tmp_path):
    write_split(tmp_path / "RTE" / "2-13", pool_of(RTE, 3), "train")
    with pytest.raises(UserError, match=r"train.jsonl: class 'not_entailment' has 1 examples, but a 2-shot split has"):
        read_split(tmp_path, RTE, 2, 13)
    write_split(tmp_path / "RTE" / "2-13", pool_of(RTE, 4), "train")
    with pytest.raises(UserError, match=r"dev.jsonl: no such file"):
        read_split(tmp_path, RTE, 2, 13)


@pytest.mark.shared
@pytest.mark.parametrize("task", ["RTE", "MRPC"])
@pytest.mark.parametrize("seed", [13, 21, 42, 87, 100])
def test_complete_pools_give_lm_bffs_files(shared, task, seed):
    pool = load_pools(SEVEN[task], str(shared / "data")).train
    drawn, ready = few_shot(pool, SEVEN[task], 16, seed), read_split(shared / "data/kshot", SEVEN[task], 16, seed)
    for mine, theirs in zip(drawn, ready, strict=True):
        for label in SEVEN[task].labels:
            assert [e for e in mine if e.label == label] == [e for e in theirs if e.label == label]


def test_pairs_both_to_tune_and_to_select_on_are_warned_of(tmp_path, caplog):
    pool = pool_of(RTE, 8)
    draw_split(RTE, DataConfig(k=2), pool, 13)
    assert not caplog.text
    draw_split(RTE, DataConfig(k=2), [pool[i % 2] for i in range(8)], 13)
    assert "RTE, seed 13: 4 of the 4 pairs to select on are among those to tune on" in caplog.text
    caplog.clear()
    for name in ("train", "dev"):
        write_split(tmp_path / "RTE" / "1-13", pool[:2] if name == "train" else [pool[0], pool[3]], name)
    draw_split(RTE, DataConfig(k=1, kshot=str(tmp_path)), pool, 13)
    assert "1 of the 2 pairs to select on" in caplog.text
    with pytest.raises(UserError, match="no such folder"):
        draw_split(RTE, DataConfig(kshot="a" * 300), pool, 13)
