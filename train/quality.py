"""Judge a synthetic set: ``python -m train.quality SYN --real TRAIN [--heldout POOL] [--test TEST] ...``.

SYN is the folder of a set, or a file of labelled pairs. TRAIN, POOL and TEST are files of labelled pairs.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from dawgen_jax import miniworld
from dawgen_jax.config import BackboneConfig
from dawgen_jax.errors import UserError
from dawgen_jax.evaluation.appraisal import Real
from dawgen_jax.evaluation.marks import Rules, leak_rows
from dawgen_jax.io.terminal import plain, printable
from dawgen_jax.pipeline.appraise import appraise, read_given, write_appraisal
from dawgen_jax.pipeline.inputs import labelled_examples, load_backbone
from dawgen_jax.results.measures import appraisal_table
from dawgen_jax.results.render import Table, to_rich
from dawgen_jax.tasks import SEVEN
from dawgen_jax.training.placement import Placement
from train import cli
from train.evaluate import load_cell, load_prompt

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Print figures of a synthetic set with verdicts, and write a set without what the rules forbid."""

    synthetic: Annotated[Path, tyro.conf.Positional]
    """Folder of a set (train.jsonl, counts.json), or a file of labelled pairs."""
    real: Path
    """The real pairs that the generator was tuned on (.jsonl, .csv, .tsv or .parquet)."""
    heldout: Path | None = None
    """Real pairs that it has not seen: what the set is compared with."""
    test: Path | None = None
    """The pairs that classifiers will be scored on: looked for in the set."""
    task: str = ""
    """Name of the task, or 'own' for one of which only the labels are known; by default what the folder says."""
    columns: tuple[str, ...] = ()
    """Fields of the files of real pairs that hold the text, or both sentences in order; by default the usual names."""
    label: str = ""
    """The field that holds their label; by default a usual name."""
    backbone: str = ""
    """Directory or name of a backbone, for features and predictions; empty leaves these out."""
    prompt: str = ""
    """The cell of a prompt that was tuned on the real pairs with that backbone, or its prompt.safetensors."""
    seed: int = 0
    """Of draws and permutations."""
    out: Path | None = None
    """New folder for quality.json, leaks.jsonl and, where a rule drops samples, the set filtered/."""
    rules: Annotated[Rules, tyro.conf.arg(name="")] = Rules()  # noqa: RUF009 (frozen)


def judge(arguments: Arguments, console: Console) -> None:
    """Read, measure, print and write."""
    if arguments.prompt and not arguments.backbone:
        raise UserError(f"--prompt {arguments.prompt}: name the backbone that it was tuned with in --backbone.")
    if arguments.rules.active and not arguments.out:
        raise UserError("A rule drops samples, but no folder is named for what is left; name a new one with --out.")
    if arguments.rules.drop_leaks and not arguments.test:
        raise UserError("--drop-leaks: needs the test pairs; name their file with --test.")
    given = read_given(arguments.synthetic, arguments.task)
    if arguments.rules.min_margin is not None and not all(sample.scores for sample in given.samples):
        raise UserError(f"--min-margin: {given.path} has samples without scores; write it with synthesis.score = True.")
    shots, heldout, test = (labelled_examples(path, given.task, arguments.columns, arguments.label) if path else []
                            for path in (arguments.real, arguments.heldout, arguments.test))
    backbone, placement, prompt, cell = None, None, None, None
    if arguments.backbone:
        placement = Placement.on()
        backbone = load_backbone(BackboneConfig(arguments.backbone), placement)
    if arguments.prompt:
        prompt = load_prompt(arguments.prompt, backbone.model.width, backbone.label)
        cell = load_cell(arguments.prompt, backbone)
        if cell and set(cell.task.labels) != set(given.task.labels):
            raise UserError(f"--prompt {arguments.prompt}: was tuned for the labels {', '.join(cell.task.labels)}, but "
                            f"{given.path} has {', '.join(given.task.labels)}; give a prompt of that task.")
        if not cell and given.task.name not in SEVEN | miniworld.TASKS:
            raise UserError(f"--prompt {arguments.prompt}: does not say how it reads the texts of a task of your own; "
                            "give the folder of its cell (RUN/cells/NAME).")
    real = Real(shots, heldout)
    found = appraise(given, real, test, arguments.rules, seed=arguments.seed, backbone=backbone, placement=placement,
                     prompt=prompt, cell=cell)
    console.print(to_rich(appraisal_table(
        f"{given.path}: {len(given.samples)} samples against {len(real.reference)} real pairs", found.figures,
        found.skipped)))
    leaks = leak_rows(given.samples, found.marks, test)
    if leaks:
        console.print(to_rich(Table(f"Leaks (the first {_SHOWN})" if len(leaks) > _SHOWN else "Leaks",
                                    ("row", "sample", "test row", "test pair"), tuple(
            (str(leak["row"]), f"{leak['sentence1']}\n{leak['sentence2']}", str(leak["test_row"]),
             f"{leak['test']['sentence1']}\n{leak['test']['sentence2']}") for leak in leaks[:_SHOWN]), (), 4)))
    if arguments.out:
        files = {name: str(path) for name in ("real", "heldout", "test") if (path := getattr(arguments, name))}
        dropped = write_appraisal(arguments.out, given, found, real, test, arguments.rules, files | {
            "seed": arguments.seed, "backbone": arguments.backbone, "prompt": arguments.prompt})
        total = sum(dropped.values(), Counter())
        reasons = ", ".join(f"{count} {reason}" for reason, count in total.most_common()) or "none"
        console.print(plain(f"Written: {printable(arguments.out)}; kept {len(given.samples) - total.total()} of "
                            f"{len(given.samples)} samples, dropped: {reasons}."))


def main(argv: list[str]) -> None:
    """Parse the command line and judge."""
    judge(cli.parse_options(argv, Arguments, __doc__), Console())


if __name__ == "__main__":
    cli.guard(main)
