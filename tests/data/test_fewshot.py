"""Few-shot splits: LM-BFF's rule to the line, SICK's rule, ready files, too few examples."""

import json

import numpy as np
import pytest

from dawgen_jax.config import DataConfig
from dawgen_jax.data.fewshot import READY, RESAMPLED, draw_split, few_shot, read_split
from dawgen_jax.data.pools import Example, load_pools
from dawgen_jax.errors import UserError
from dawgen_jax.miniworld import examples as miniworld
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
    with pytest.raises(UserError, match=r"2-21: no fixed split for data.k = 2 and seed 21 \(there are: 2-13\)"):
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


@pytest.mark.parametrize("task", [RTE, SICK], ids=["RTE", "SICK"])
def test_repeats_in_a_pool_are_passed_over_in_the_order_of_the_shuffle(task):
    pool = pool_of(task, 30)
    pool += pool[:12]
    for seed in range(20):
        train, dev = few_shot(pool, task, 4, seed)
        assert len({*train, *dev}) == 8 * len(task.labels)
        more = few_shot(pool, task, 5, seed)
        assert [*train[:4], *dev[:4]] == [*more[0][:5], *more[1][:3]]  # of one order, whatever k is
    if task is RTE:
        shuffled = [pool[i] for i in np.random.RandomState(13).permutation(42) if pool[i].label == "entailment"]
        assert [half[i] for half in few_shot(pool, RTE, 2, 13) for i in (0, 1)] == list(dict.fromkeys(shuffled))[:4]
    with pytest.raises(UserError, match=rf"class '{task.labels[0]}' of {task.name} has 4 examples \(and 8 repeats\), "
                                        r"but data.k = 3 needs 6"):
        few_shot(pool_of(task, 4 * len(task.labels)) * 3, task, 3, 13)


@pytest.mark.parametrize("name", ["mini-snli", "mini-rte"])
def test_pools_of_the_mini_world_have_no_repeats(name):
    pool = miniworld.pools(name).train
    assert len(set(pool)) == len(pool)


def test_texts_both_to_tune_and_to_select_on_are_refused_under_one_label_and_warned_of_under_two(tmp_path, caplog):
    pool, data = pool_of(RTE, 8), DataConfig(k=1, kshot=str(tmp_path))
    draw_split(RTE, DataConfig(k=2), pool, 13)
    write_split(tmp_path / "RTE" / "1-13", pool[:2], "train")
    write_split(tmp_path / "RTE" / "1-13", pool[2:4], "dev")
    draw_split(RTE, data, [], 13)
    assert not caplog.text
    other = pool[0]._replace(label="not_entailment")
    write_split(tmp_path / "RTE" / "1-13", [pool[2], other], "dev")
    draw_split(RTE, data, [], 13)
    assert ("RTE, seed 13: 1 of the 2 examples to select on have the texts of one to tune on under another label"
            in caplog.text)
    write_split(tmp_path / "RTE" / "1-13", [pool[3], pool[0]], "dev")
    with pytest.raises(UserError, match=r"dev\.jsonl:2: repeats the example of .*train\.jsonl:1, and no example may"):
        draw_split(RTE, data, [], 13)
    write_split(tmp_path / "RTE" / "2-13", [pool[0], pool[0], pool[1], pool[3]], "train")  # as it was published
    write_split(tmp_path / "RTE" / "2-13", pool[4:], "dev")
    assert read_split(tmp_path, RTE, 2, 13)[0].count(pool[0]) == 2


def test_a_folder_of_splits_with_a_name_that_none_can_have():
    with pytest.raises(UserError, match="no such folder"):
        draw_split(RTE, DataConfig(kshot="a" * 300), [], 13)
