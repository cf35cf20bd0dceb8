"""Examples of a custom task: its columns and labels, and the division of a file into train, dev and test.

The test set of a single file is sampled once, the same for every seed: a fourth of each class (at least one example,
and at most as many as leave 2k). Every seed then samples k examples for tuning and k for dev from the rest.
"""

from __future__ import annotations

import logging
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dawgen_jax.config import OwnTask, is_printable, shown
from dawgen_jax.data.pools import Example, Labelled, Layout, Pools, alike, classified, distinct, labelled
from dawgen_jax.data.records import listed, normalized, records, splits
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.tasks import Task

__all__ = ["OwnData", "own_task", "read_own", "read_own_task"]

log = logging.getLogger(__name__)
_MOST_SHOTS = 16


class OwnData(NamedTuple):
    """A custom task with its examples, k per class for tuning and k for dev, and the columns of its texts."""

    task: Task
    pools: Pools
    k: int
    columns: tuple[str, ...]


def own_task(own: OwnTask, labels: Sequence[str], columns: Sequence[str]) -> Task:
    """The task that ``own`` declares, with defaults for empty fields; its template may use ``columns`` as fields.

    Raises:
      ConfigError: its fields contradict each other.
    """
    labels = own.labels or tuple(labels)
    if len(set(map(normalized, labels))) < len(labels):
        raise ConfigError(f"Task {own.name}: labels differ by nothing but case, spaces or Unicode form "
                          f"({listed(labels)}); spell each class in one way.")
    single = len(columns) == 1
    template = own.template or ("{text} <mask>" if single else "{sentence1} <mask> {sentence2}")
    for column, field in zip(columns, ("text",) if single else ("sentence1", "sentence2"), strict=True):
        template = template.replace(f"{{{column}}}", f"{{{field}}}")
    spoken = [label.replace("_", " ") for label in labels]
    phrases = own.phrases or tuple((f"{label} :", "text :") if single else (f"{label} . first :", "second :")
                                   for label in spoken)
    positive = next((label for label in labels if normalized(label) == normalized(own.positive)), own.positive)
    return Task(own.name, labels, template, own.label_words or labels, phrases,
                (own.repetition_penalty,) * len(labels), positive=positive, test_split="test")


def read_own(own: OwnTask, k: int) -> OwnData:
    """Read a custom task's data and divide it; logs the division and the omitted rows.

    Args:
      own: the declaration.
      k: examples per class for tuning, and as many for dev; 0 for as many as the data allows, at most 16.

    Raises:
      UserError: the data is missing or broken, a column or label is ambiguous, or a class has too few examples.
    """
    task, found = _read(own)
    examples = _distinct(own, {split: [example for _, example in classified(one, task)]
                               for split, one in found.items()})
    train, test, k, how = _divided(own, task, examples, k)
    layout = found["train"].layout
    log.info("%s: %s, %s; %s", own.name, own.data, layout, how)
    pools = Pools(train, examples.get("validation", []), test, own.data, str(layout))
    return OwnData(task, pools, k, tuple(names[0] for names in layout.texts))


def read_own_task(own: OwnTask) -> Task:
    """A custom task, whatever the number of its examples.

    Raises:
      UserError: the data is missing or broken, or a column or label is ambiguous.
    """
    return _read(own, quiet=True)[0]


def _read(own: OwnTask, *, quiet: bool = False) -> tuple[Task, dict[str, Labelled]]:
    """The task and its labelled rows by split, train first; 'test' comes from ``own.test`` if that is given."""
    if not own.data:
        raise UserError(f"own.data is empty: name the file with labelled examples of the task '{own.name}' (--data "
                        "FILE.csv).")
    several = own.data.startswith("hub:") or pathlib.Path(own.data).is_dir()
    tables = splits(own.data, "own.data", own.name) if several else {"train": records(own.data)}
    if own.test:
        if "test" in tables and not quiet:
            log.warning("%s: its test split is not used, but own.test = %s.", own.data, own.test)
        tables["test"] = records(own.test)
    wanted, found = Layout().named(own.columns, own.label), {}
    for split, table in tables.items():
        needed = split == "train" or (split == "test" and bool(own.test))
        found[split] = labelled(table, wanted, needed=needed, quiet=quiet)
        wanted = wanted._replace(texts=found["train"].layout.texts)
    names = tuple(dict.fromkeys(name for one in found.values() for name in one.names))
    labels = own.labels or _labels(own, {label for _, _, label in found["train"].rows}, names)
    return own_task(own, labels, [names[0] for names in wanted.texts]), found


def _labels(own: OwnTask, found: set[str], names: Sequence[str]) -> list[str]:
    """Class names in the order of the file's list of names, or else sorted (numbers by value)."""
    fault = f"{len(found)} labels ({listed(sorted(found))}), but a task has 2 to 100 classes; name another column"
    odd = [label for label in sorted(found) if len(label) > 100 or not is_printable(label)]
    if odd:
        fault = (f"label {shown(odd[0])} is not the name of a class, which has at most 100 printable characters; fix "
                 "it, or name the label's column")
    if odd or not 2 <= len(found) <= 100:
        raise UserError(f"own.data = '{own.data}': {fault} in own.label.")
    if found <= set(names):
        return [name for name in names if name in found]
    return sorted(found, key=lambda label: (0, int(label), "") if label.isdecimal() else (1, 0, label))


def _distinct(own: OwnTask, examples: Mapping[str, list[Example]]) -> dict[str, list[Example]]:
    """Examples without repeats; a repeated example stays in the split on which results are reported."""
    kept: dict[str, list[Example]] = {}
    seen: dict[tuple[str, str, str], Example] = {}
    for split in sorted(examples, key=("test", "validation", "train").index):
        shared = sum(alike(example) in seen for example in examples[split])  # at last, of the train split
        kept[split] = [example for example in distinct(examples[split]) if alike(example) not in seen]
        seen |= {alike(example): example for example in kept[split]}
    if dropped := sum(map(len, examples.values())) - len(seen):
        log.warning("%s: %d repeated row(s) are left out (%d of the train split are in another one), so that no "
                    "example is both tuned and tested on; texts are compared without case, extra spaces and Unicode "
                    "forms.", own.data, dropped, shared)
    counts = Counter(key[:2] for key in seen)
    if twice := [example for key, example in seen.items() if counts[key[:2]] > 1]:
        log.warning("%s: %d text(s) have two labels, for instance %s.", own.data,
                    sum(count > 1 for count in counts.values()), shown(" / ".join(filter(None, twice[0][:2]))))
    return kept


def _divided(own: OwnTask, task: Task, examples: Mapping[str, list[Example]], k: int
             ) -> tuple[list[Example], list[Example], int, str]:
    """(pool from which each seed samples k + k per class, test, k, a description of the division)."""
    pool = examples["train"]
    report = next((split for split in ("test", "validation") if examples.get(split)), "")
    counts = Counter(example.label for example in pool)
    rarest = min(task.labels, key=lambda label: counts[label])
    fewest = counts[rarest]
    fit = min(_MOST_SHOTS, max(0, fewest // 2 if report else (fewest - max(1, fewest // 4)) // 2))
    k_needed = k or 1
    need = 2 * k_needed + (not report)
    if fewest < need:
        ways = [f"lower data.k to {fit} (0 takes as many as fit)"] * (fit > 0) + ["add examples"]
        ways += [f"leave '{rarest}' out of own.labels"] * (not fewest) + ["name a test file in own.test"] * (
            not report and fewest > 1)
        tested = "" if report else ", 1 or more to test on"
        raise UserError(f"own.data = '{own.data}': class '{rarest}' has {fewest} different example(s), but data.k = "
                        f"{k} needs {need} of each class ({k_needed} to tune on, {k_needed} for dev{tested}): "
                        f"{' or '.join(ways)}.")
    k = k or fit
    size = ", ".join(f"{label} {counts[label]}" for label in task.labels)
    sampled = f"every seed samples {k} per class to tune on and {k} for dev"
    if report:
        source = own.test if own.test else f"its {report} split"
        unused = len(examples.get("validation", [])) if report == "test" else 0
        rest = f" The {unused} of its validation split are not used." if unused else ""
        return pool, examples[report], k, (f"{len(pool)} examples ({size}); {sampled}; the {len(examples[report])} of "
                                           f"{source} are the test set.{rest}")
    held: set[int] = set()
    for label in task.labels:
        members = [number for number, example in enumerate(pool) if example.label == label]
        count = min(max(1, len(members) // 4), len(members) - 2 * k)
        held |= {members[i] for i in np.random.default_rng(0).permutation(len(members))[:count]}
    test = [pool[number] for number in sorted(held)]
    rest = [example for number, example in enumerate(pool) if number not in held]
    return rest, test, k, (f"{len(pool)} examples ({size}); {len(test)} are held out as the test set, the same for "
                           f"every seed; of the others {sampled}.")
