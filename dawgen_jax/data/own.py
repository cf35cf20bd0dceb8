"""An own task's examples: what its columns and labels are, and how one file becomes train, dev and test.

Of one file, the test set is drawn once, the same for every seed: a fourth of each class (at least one example, and no
more than leaves 2 k). Every seed then draws its k to tune on and its k for dev from the rest, as from any pool.
"""

from __future__ import annotations

import itertools
import pathlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dawgen_jax.config import OwnTask, shown
from dawgen_jax.data import pools
from dawgen_jax.data.pools import LABEL, SENTENCE1, SENTENCE2, TEXT, Example, Pools
from dawgen_jax.errors import UserError
from dawgen_jax.tasks import Task

__all__ = ["OwnData", "own_task", "read_labelled", "read_own", "read_own_task"]

_MOST_SHOTS = 16
_NUMBERS = ("id", "idx", "index", "guid", "")
"""Columns that number rows."""
_WHOLE = re.compile("[0-9]{1,9}")  # ASCII alone: '\u0661' is a digit too


class OwnData(NamedTuple):
    """An own task with its examples.

    Attributes:
      task: labels, template and phrases filled in.
      pools: its examples; nothing is in two of them.
      k: examples a class to tune on, and as many for dev.
      columns: the text's column, or the pair's two.
      told: one sentence on how the examples were divided.
      warnings: one sentence each on what was left out or looks wrong.
    """

    task: Task
    pools: Pools
    k: int
    columns: tuple[str, ...]
    told: str
    warnings: tuple[str, ...]


class _Table(NamedTuple):
    """Rows of one split: a place for messages and fields; ``names`` are what integer labels stand for."""

    rows: Iterator[tuple[str, dict]]
    names: tuple[str, ...]


def own_task(own: OwnTask, labels: Sequence[str], columns: Sequence[str]) -> Task:
    """The task that ``own`` declares, with defaults for what it leaves empty.

    Args:
      own: the declaration.
      labels: class names, where ``own`` gives none.
      columns: the text's column, or the pair's two: what the template's fields may be called.

    Raises:
      ConfigError: its fields do not fit each other.
    """
    labels = own.labels or tuple(labels)
    single = len(columns) == 1
    template = own.template or ("{text} <mask>" if single else "{sentence1} <mask> {sentence2}")
    for column, field in zip(columns, ("text",) if single else ("sentence1", "sentence2"), strict=True):
        template = template.replace(f"{{{column}}}", f"{{{field}}}")
    spoken = [label.replace("_", " ") for label in labels]
    phrases = own.phrases or tuple((f"{label} :", "text :") if single else (f"{label} . first :", "second :")
                                   for label in spoken)
    return Task(own.name, labels, template, own.label_words or labels, phrases,
                (own.repetition_penalty,) * len(labels), positive=own.positive, test_split="test")


def read_own(own: OwnTask, k: int) -> OwnData:
    """Read an own task's data and divide it.

    Args:
      own: the declaration.
      k: examples a class to tune on, and as many for dev; 0 for as many as the data allows, at most 16.

    Raises:
      UserError: the data is missing or broken, a column or label is not clear, or a class has too few examples.
    """
    task, columns, examples = _read(own)
    examples, warnings = _distinct(examples)
    train, test, k, told = _divided(own, task, examples, k)
    return OwnData(task, Pools(train, examples.get("validation", []), test, own.data), k, columns, told, warnings)


def read_own_task(own: OwnTask) -> Task:
    """An own task, whatever number of examples its data has.

    Raises:
      UserError: the data is missing or broken, or a column or label is not clear.
    """
    return _read(own)[0]


def _read(own: OwnTask) -> tuple[Task, tuple[str, ...], dict[str, list[Example]]]:
    """The task, the columns of its texts, and its examples by split."""
    splits = _splits(own)
    columns, labelled, names = (), {}, {}
    for split, table in splits.items():
        labelled[split], columns = _labelled(own, split, table, columns)
        names |= dict.fromkeys(table.names)
    task = own_task(own, own.labels or _labels(own, labelled["train"], tuple(names)), columns)
    return task, columns, {split: _examples(task, rows, splits[split].names) for split, rows in labelled.items()}


def read_labelled(own: OwnTask, task: Task, path: str) -> list[Example]:
    """The examples of another file of an own task.

    Raises:
      UserError: the file is missing or broken, or has a label that the task has not.
    """
    rows, names = pools.rows_of(path, (), (own.label,) if own.label else LABEL, quotes=False)
    labelled, columns = _labelled(own, path, _Table(rows, names), ())
    if len(columns) != len(task.fields):
        raise UserError(f"{path}: holds {_kind(columns)}, but {task.name} is a task of "
                        f"{'single texts' if len(task.fields) == 1 else 'pairs'}; name its columns with --columns "
                        "(own.columns).")
    return _examples(task, labelled, names)


def _splits(own: OwnTask) -> dict[str, _Table]:
    """The splits that the data has, 'test' being that of ``own.test`` where it is given."""
    if not own.data:
        raise UserError(f"own.data is empty: name the file with labelled examples of the task '{own.name}' (--data "
                        "FILE.csv).")
    labels, path = (own.label,) if own.label else LABEL, pathlib.Path(own.data)

    def table(file: pathlib.Path | str) -> _Table:
        return _Table(*pools.rows_of(file, (), labels, quotes=False))

    if own.data.startswith("hub:") or (path.is_dir() and not pools.split_file(path, "train")):
        place, loaded = pools.hub_splits(own.name, own.data, "own.data", "a file or folder (--data)"
                                         ) if own.data.startswith("hub:") else _folder(path)
        splits = {split: _Table(((f"{place} {split}, row {number}", row) for number, row in enumerate(rows, 1)),
                                _class_names(rows, labels)) for split, rows in loaded.items()}
        if "train" not in splits:
            raise UserError(f"own.data = '{own.data}': has no train split (but: {', '.join(splits) or 'none'}).")
    elif path.is_dir():
        files = {split: pools.split_file(path, split) for split in pools.SPLITS}
        splits = {split: table(file) for split, file in files.items() if file}
    else:
        splits = {"train": table(path)}
    return splits | ({"test": table(own.test)} if own.test else {})


def _folder(path: pathlib.Path) -> tuple[str, dict[str, Any]]:
    """The splits of a Hugging Face data set in a folder, as ``save_to_disk`` or the hub lays it out."""
    import datasets

    datasets.disable_progress_bars()  # of seconds; --quiet could not reach them
    try:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            loaded = datasets.load_from_disk(str(path))
        else:
            loaded = datasets.load_dataset(str(path))
    except Exception as error:  # datasets raises many kinds, all of them about the files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"own.data = '{path}': neither train.csv (or .tsv, .jsonl, .parquet) nor a data set that can "
                        f"be read is there ({reason}).") from None
    return str(path), pools.named_splits(loaded if isinstance(loaded, Mapping) else {"train": loaded})


def _class_names(rows: Any, labels: Collection[str]) -> tuple[str, ...]:
    field = next((name for name in labels if name in rows.column_names), "")
    return tuple(getattr(rows.features.get(field), "names", None) or ())


_Labelled = list[tuple[str, tuple[str, ...], Any]]
"""(place, texts, label as it is written)."""


def _labelled(own: OwnTask, place: str, table: _Table, columns: tuple[str, ...]
              ) -> tuple[_Labelled, tuple[str, ...]]:
    """The rows of a split, and the columns of their texts."""
    rows = iter(table.rows)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{own.data if place == 'train' else place}: holds no row of examples under a header; add "
                        "some.")
    place, names = first[0], [str(name) for name in first[1]]
    label = _label_column(own, place, names)
    columns = columns or own.columns or _text_columns(place, names, label)
    found = []
    for place, row in itertools.chain([first], rows):
        for column in (*columns, label):
            if column not in row:
                raise UserError(f"{place}: no field {shown(column)} (fields there: {pools.listed(row)}); add it, or "
                                "name the columns with --columns and --label (own.columns, own.label).")
        texts = tuple(pools.text_of(place, row[column], column) for column in columns)
        if not texts[-1]:
            raise UserError(f"{place}: field '{columns[-1]}' is empty; fill it in or drop the row.")
        if not isinstance(row[label], str | int | float | None):
            raise UserError(f"{place}: field '{label}' is {shown(row[label])}; it must be text or a number.")
        found.append((place, texts, row[label]))
    return found, columns


def _label_column(own: OwnTask, place: str, names: Sequence[str]) -> str:
    wanted = [name for name in ((own.label,) if own.label else LABEL) if name in names]
    if not wanted:
        missing = f"no column {shown(own.label)}" if own.label else "no column 'label'"
        raise UserError(f"{place}: {missing} (columns there: {pools.listed(names)}); name the label's with --label "
                        "NAME (own.label).")
    return wanted[0]


def _text_columns(place: str, names: Sequence[str], label: str) -> tuple[str, ...]:
    """The column of the text, or the two of the pair."""
    others = [name for name in names if name != label]
    pair = [next((name for name in known if name in others), "") for known in (SENTENCE1, SENTENCE2)]
    if all(pair):
        return tuple(pair)
    texts = [name for name in TEXT if name in others]
    if texts:
        return (texts[0],)
    others = [name for name in others if name.lower() not in _NUMBERS]
    if len(others) not in (1, 2):
        raise UserError(f"{place}: which columns hold the texts is not clear (columns there: {pools.listed(names)}); "
                        "name the text's, or the pair's two, with --columns NAME [NAME] (own.columns).")
    return tuple(others)


def _kind(columns: Sequence[str]) -> str:
    what = "single texts" if len(columns) == 1 else "pairs"
    return f"{what} ({', '.join(columns)})"


def _spelled(value: Any, names: Sequence[str]) -> str:
    """A label as a class name: integers by the names that the file keeps for them; '' where there is none."""
    text = "" if value is None or value != value else str(value).strip()
    if text in ("-1", "-"):
        return ""
    whole = _WHOLE.fullmatch(text.removesuffix(".0"))
    if whole:
        return names[int(whole[0])] if int(whole[0]) < len(names) else whole[0]
    return text


def _labels(own: OwnTask, labelled: _Labelled, names: tuple[str, ...]) -> tuple[str, ...]:
    """The class names found in the train split: as its own list has them, else sorted (numbers by value)."""
    found = {_spelled(value, names) for _, _, value in labelled} - {""}
    if odd := [label for label in sorted(found) if len(label) > 100 or not label.isprintable()]:
        raise UserError(f"own.data = '{own.data}': label {shown(odd[0])} is no name of a class, which has at most 100 "
                        "printable characters; name the label's column in own.label, or mend the label.")
    if len({label.casefold() for label in found}) < len(found):
        raise UserError(f"own.data = '{own.data}': labels differ by nothing but case ({pools.listed(sorted(found))}); "
                        "spell each class in one way.")
    if len(found) < 2:
        raise UserError(f"own.data = '{own.data}': {'one class' if found else 'no class'} ("
                        f"{pools.listed(found) or 'no row has a label'}); a task has two or more.")
    if len(found) > 100:
        raise UserError(f"own.data = '{own.data}': {len(found)} different labels; name another column in own.label, or "
                        "the classes in own.labels.")
    if found <= set(names):
        return tuple(name for name in names if name in found)
    return tuple(sorted(found, key=lambda label: (0, int(label), "") if _WHOLE.fullmatch(label) else (1, 0, label)))


def _examples(task: Task, labelled: _Labelled, names: Sequence[str]) -> list[Example]:
    """The labelled ones."""
    spelling, examples = {label.casefold(): label for label in task.labels}, []
    for place, texts, value in labelled:
        label = _spelled(value, names)
        if label and label.casefold() not in spelling:
            raise UserError(f"{place}: label {shown(value)} is not a class of {task.name}; the classes are "
                            f"{pools.listed(task.labels)}: rename it there, or set own.labels.")
        if label:
            examples.append(Example(*["", *texts][-2:], spelling[label.casefold()]))
    return examples


def _distinct(examples: Mapping[str, list[Example]]) -> tuple[dict[str, list[Example]], tuple[str, ...]]:
    """Every example once, a repeated one where results are reported; and sentences on what was found."""
    seen: set[Example] = set()
    kept: dict[str, list[Example]] = {}
    for split in sorted(examples, key=("test", "validation", "train").index):
        kept[split] = [example for example in dict.fromkeys(examples[split]) if example not in seen]
        seen |= set(kept[split])
    warnings = []
    if dropped := sum(map(len, examples.values())) - len(seen):
        warnings.append(f"{dropped} repeated row(s) are left out, so that no example is both tuned and tested on.")
    texts = Counter(example[:2] for example in seen)
    if twice := [example for example, count in texts.items() if count > 1]:
        one = shown(" / ".join(filter(None, twice[0])))
        warnings.append(f"{len(twice)} text(s) have two labels, for instance {one}.")
    return kept, tuple(warnings)


def _divided(own: OwnTask, task: Task, examples: Mapping[str, list[Example]], k: int
             ) -> tuple[list[Example], list[Example], int, str]:
    """(pool to draw k + k of each class from, test, k, how)."""
    pool = examples["train"]
    report = next((split for split in ("test", "validation") if examples.get(split)), "")
    counts = Counter(example.label for example in pool)
    rarest = min(task.labels, key=lambda label: counts[label])
    fewest = counts[rarest]
    fit = min(_MOST_SHOTS, fewest // 2 if report else (fewest - max(1, fewest // 4)) // 2)
    k_needed = k or 1
    need = 2 * k_needed + (not report)
    if fewest < need:
        ways = [f"lower data.k to {fit} (0 takes as many as fit)"] * bool(fit) + ["add examples"]
        ways += ["name a test file in own.test"] * (not report)
        tested = "" if report else ", 1 or more to test on"
        raise UserError(f"own.data = '{own.data}': class '{rarest}' has {fewest} different example(s), but data.k = "
                        f"{k} needs {need} of each class ({k_needed} to tune on, {k_needed} for dev{tested}): "
                        f"{' or '.join(ways)}.")
    k = k or fit
    size = ", ".join(f"{label} {counts[label]}" for label in task.labels)
    drawn = f"every seed draws {k} a class to tune on and {k} for dev"
    if report:
        source = own.test if own.test else f"its {report} split"
        return pool, examples[report], k, (f"{len(pool)} examples ({size}); {drawn}; the {len(examples[report])} of "
                                           f"{source} are the test set.")
    held: set[int] = set()
    for label in task.labels:
        members = [number for number, example in enumerate(pool) if example.label == label]
        count = min(max(1, len(members) // 4), len(members) - 2 * k)
        held |= {members[i] for i in np.random.default_rng(0).permutation(len(members))[:count]}
    test = [pool[number] for number in sorted(held)]
    rest = [example for number, example in enumerate(pool) if number not in held]
    return rest, test, k, (f"{len(pool)} examples ({size}); {len(test)} are held out as the test set, the same for "
                           f"every seed; of the others {drawn}.")
