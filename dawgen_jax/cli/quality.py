"""Judge a synthetic set: ``dawgen quality SYN --real TRAIN [--heldout POOL] [--test TEST] ...``.

SYN is the folder of a set, or a file of labelled pairs. TRAIN, POOL and TEST are files of labelled pairs. --out gets
quality.json (all figures), leaks.jsonl (samples that nearly repeat a test pair, with --test) and, if a rule drops
samples, the remaining set as filtered/.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro
from rich.console import Console

from dawgen_jax.backbones.base import Backbone
from dawgen_jax.cli.evaluate import load_cell, load_prompt
from dawgen_jax.cli.options import parse
from dawgen_jax.config import BackboneConfig, ClassifierConfig
from dawgen_jax.data.pools import Example, read_examples
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.evaluation.quality import Appraisal, Real, appraise
from dawgen_jax.evaluation.quality.flags import Rules, leak_rows, refine
from dawgen_jax.evaluation.quality.measures import features
from dawgen_jax.io.files import read_json, write_file, write_json
from dawgen_jax.io.metadata import read_meta
from dawgen_jax.io.store import finish
from dawgen_jax.io.terminal import plain, printable
from dawgen_jax.pipeline.inputs import KNOWN, Encoded, find_task, labelled_examples, load_backbone
from dawgen_jax.pipeline.predictions import score_examples
from dawgen_jax.results.measures import appraisal_table
from dawgen_jax.results.render import Table
from dawgen_jax.results.rows import versions
from dawgen_jax.synthesis import files
from dawgen_jax.synthesis.filtering import LabelCount, Sample, Selection
from dawgen_jax.tasks import Task
from dawgen_jax.training.placement import Placement

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Print figures of a synthetic set with verdicts, and write a set without samples that the rules forbid."""

    synthetic: Annotated[Path, tyro.conf.Positional]
    """Folder of a set (train.jsonl, counts.json), or a file of labelled pairs."""
    real: Path
    """The real pairs on which the generator was tuned (.jsonl, .csv, .tsv or .parquet)."""
    heldout: Path | None = None
    """Real pairs that the generator has not seen, for comparison."""
    test: Path | None = None
    """The pairs on which classifiers will be scored, to find leaks."""
    task: str = ""
    """Name of the task, or 'own' if only its labels are known; by default, the task named in the folder."""
    columns: tuple[str, ...] = ()
    """Columns of the text, or of both sentences in order, in the files of real pairs; by default the usual names."""
    label: str = ""
    """Column of the label in these files; by default a usual name."""
    backbone: str = ""
    """Directory or name of a backbone, for features and predictions, which are omitted without it."""
    prompt: str = ""
    """The cell of a prompt tuned on the real pairs with that backbone, or its prompt.safetensors."""
    seed: int = 0
    """Seed for sampling and permutations."""
    out: Path | None = None
    """New folder for quality.json, leaks.jsonl and, if a rule drops samples, the set filtered/."""
    rules: Annotated[Rules, tyro.conf.arg(name="")] = Rules()


class GivenSet(NamedTuple):
    """A synthetic set on disk: its path, task, samples and counts by label."""

    path: Path
    task: Task
    samples: list[Sample]
    counts: dict[str, LabelCount]


def read_given(path: Path, name: str = "") -> GivenSet:
    """Read a set folder (train.jsonl, counts.json), or a file of labelled pairs.

    Args:
      path: path of the folder or file.
      name: name of the task; 'own' for a task of which only the labels in the folder's counts.json are known; empty for
        the task that the folder's meta.json names, or else 'own'.

    Raises:
      UserError: the set cannot be read, its labels or scores do not fit the task, or it is empty.
    """
    if path.is_dir():
        if not (path / "counts.json").is_file():
            raise UserError(f"{path}: is not the folder of a synthetic set; give one that holds counts.json and "
                            "train.jsonl, RUN/synthetic/NAME for instance.")
        counts, samples, known = files.read_counts(path), files.read_set(path), KNOWN
        stated = read_meta(path).task or "own"
        name = name or stated
        custom = name == "own" or (name == stated and name not in known)
        single = bool(samples) and not samples[0].example.sentence1
        task = _unknown_task(path, tuple(counts), single=single) if custom else find_task(name)
    elif name in ("", "own"):
        raise UserError(f"{path}: is not the folder of a synthetic set, and a file does not name its labels: give "
                        "--task NAME, or the folder that holds train.jsonl and counts.json.")
    else:
        task = find_task(name)
        samples = [Sample(example, place) for place, example in enumerate(read_examples(path, task))]
        sizes = Counter(sample.example.label for sample in samples)
        counts = {label: LabelCount(*[sizes[label]] * 4, 0, 0, {}) for label in task.labels}
    for row, sample in enumerate(samples, 1):
        if sample.example.label not in task.labels or len(sample.scores) not in (0, len(task.labels)):
            raise UserError(f"{path}: sample {row} has the label '{sample.example.label}' and {len(sample.scores)} "
                            f"scores, but {task.name} has the labels {', '.join(task.labels)}; give the --task that "
                            "the set was written for.")
    if set(counts) != set(task.labels) or not samples:
        raise UserError(f"{path}: holds {len(samples)} samples and counts of {', '.join(counts) or 'no label'}, but "
                        f"{task.name} has the labels {', '.join(task.labels)}; give the --task that the set was "
                        "written for.")
    return GivenSet(path, task, samples, counts)


def _unknown_task(path: Path, labels: tuple[str, ...], *, single: bool) -> Task:
    template = "{text} <mask>" if single else "{sentence1} {sentence2} <mask>"
    try:
        return Task(path.name, labels, template, labels, (("", ""),) * len(labels), (1.0,) * len(labels))
    except ConfigError as error:
        raise UserError(f"{path / 'counts.json'}: {error}") from None


def findings(given: GivenSet, found: Appraisal, rules: Rules) -> dict:
    """The content of quality.json."""
    return {"set": str(given.path), "task": given.task.name, "n": len(given.samples),
            "rules": dataclasses.asdict(rules), "figures": [figure._asdict() for figure in found.figures],
            "skipped": found.skipped, "versions": versions()}


def _write(arguments: Arguments, given: GivenSet, found: Appraisal, real: Real, test: Sequence[Example]
            ) -> Counter[str]:
    """Write the findings and the remaining set; returns the number of dropped samples by reason."""
    rules = arguments.rules
    if arguments.out.exists():
        raise UserError(f"--out {arguments.out}: exists, and nothing is overwritten; name another folder.")
    left, dropped = refine(given.samples, given.counts, found.flags, rules)
    for label, count in left.counts.items():
        if rules.active and not count.kept:
            reasons = ", ".join(f"{count} {reason}" for reason, count in dropped[label].items()) or "it had none"
            raise UserError(f"The rules leave no sample of label '{label}' ({reasons}); loosen them.")
    inputs = {name: str(path) for name in ("real", "heldout", "test") if (path := getattr(arguments, name))}
    inputs |= {"seed": arguments.seed, "backbone": arguments.backbone, "prompt": arguments.prompt}

    def fill(fresh: Path) -> None:
        write_json(fresh / "quality.json", findings(given, found, rules) | inputs | {"dropped": dropped})
        if test:
            write_file(fresh / "leaks.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in leak_rows(
                given.samples, found.flags, test)))
        if rules.active:
            _write_filtered(fresh / "filtered", given, left, real, test, rules)

    finish(arguments.out, fill)
    return sum(dropped.values(), Counter())


def _write_filtered(folder: Path, given: GivenSet, left: Selection, real: Real, test: Sequence[Example],
                    rules: Rules) -> None:
    """Write the remaining set with the facts of the original, the rules, and its new figures."""
    known = (read_json(given.path / "meta.json", missing_ok=True) if given.path.is_dir() else None) or {}
    meta = {"task": given.task.name, **known, "filtered_from": given.path.name, "rules": dataclasses.asdict(rules)}
    figures = appraise(left.samples, given.task.labels, real, test, rules).figures
    folder.mkdir()
    quality = {figure.name: figure.value for figure in figures if figure.value is not None}
    files.write_set(folder, given.task, left, meta, quality=quality, languages=read_meta(given.path).languages)
    write_json(folder / "meta.json", meta)


def _predictor(path: str, backbone: Backbone, given: GivenSet) -> Callable[[list[Example]], list[str]]:
    """The labels that a stored prompt predicts for pairs."""
    prompt, cell = load_prompt(path, backbone.model.width, backbone.label), load_cell(path, backbone)
    if cell and set(cell.task.labels) != set(given.task.labels):
        raise UserError(f"--prompt {path}: was tuned for the labels {', '.join(cell.task.labels)}, but {given.path} "
                        f"has {', '.join(given.task.labels)}; give a prompt of that task.")
    if not cell and given.task.name not in KNOWN:
        raise UserError(f"--prompt {path}: does not say how it reads the texts of a custom task; give the folder of "
                        "its cell (RUN/cells/NAME).")
    task, config = (cell.task, cell.config) if cell else (given.task, ClassifierConfig())
    encoded = Encoded(task, backbone, config)
    return lambda pairs: [task.labels[place]
                          for place in score_examples(encoded, pairs, prompt, config).argmax(axis=1)]


def judge(arguments: Arguments, console: Console) -> None:
    """Read, measure, print and write."""
    if arguments.prompt and not arguments.backbone:
        raise UserError(f"--prompt {arguments.prompt}: name the backbone that it was tuned with in --backbone.")
    if arguments.rules.active and not arguments.out:
        raise UserError("A rule drops samples, but no folder is named for the remaining set; name a new one with "
                        "--out.")
    if arguments.rules.drop_leaks and not arguments.test:
        raise UserError("--drop-leaks: needs the test pairs; name their file with --test.")
    given = read_given(arguments.synthetic, arguments.task)
    if arguments.rules.min_margin is not None and not all(sample.scores for sample in given.samples):
        raise UserError(f"--min-margin: {given.path} has samples without scores; write it with synthesis.score = True.")
    shots, heldout, test = (labelled_examples(path, given.task, arguments.columns, arguments.label) if path else []
                            for path in (arguments.real, arguments.heldout, arguments.test))
    encode = predict = None
    if arguments.backbone:
        placement = Placement.on()
        backbone = load_backbone(BackboneConfig(arguments.backbone), placement)
        encode = functools.partial(features, backbone=backbone, placement=placement)
    if arguments.prompt:
        predict = _predictor(arguments.prompt, backbone, given)
    real = Real(shots, heldout)
    found = appraise(given.samples, given.task.labels, real, test, arguments.rules, seed=arguments.seed, encode=encode,
                     predict=predict)
    console.print(appraisal_table(
        f"{given.path}: {len(given.samples)} samples against {len(real.reference)} real pairs", found.figures,
        found.skipped))
    leaks = leak_rows(given.samples, found.flags, test)
    if leaks:
        console.print(Table(
            f"Leaks (the first {_SHOWN})" if len(leaks) > _SHOWN else "Leaks",
            ("row", "sample", "test row", "test pair"),
            tuple((str(leak["row"]), f"{leak['sentence1']}\n{leak['sentence2']}", str(leak["test_row"]),
                   f"{leak['test']['sentence1']}\n{leak['test']['sentence2']}") for leak in leaks[:_SHOWN]),
            text_columns=4))
    if arguments.out:
        dropped = _write(arguments, given, found, real, test)
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common()) or "none"
        console.print(plain(f"Written: {printable(arguments.out)}; kept {len(given.samples) - dropped.total()} of "
                            f"{len(given.samples)} samples, dropped: {reasons}."))


def main(argv: Sequence[str]) -> None:
    """Parse the command line and judge."""
    judge(parse(argv, Arguments, __doc__), Console())
