"""Show how a task is read by the backbones, and what is wrong with it, before anything is trained.

    dawgen check CONFIG [--data FILE] [--field.sub value ...]

For each task of a configuration it prints how the examples are divided, the classes and label words with their tokens,
the template and the generator's phrases, lengths in tokens against the limits, an example of each class as the
classifier reads it, the zero-shot accuracy on at most 500 examples, and warnings. The exit status is 2 if something
must be fixed before a run.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from dawgen_jax.backbones import registry
from dawgen_jax.backbones.base import Format
from dawgen_jax.backbones.templates import MASK
from dawgen_jax.cli.options import parse_config
from dawgen_jax.config import Config
from dawgen_jax.errors import UserError
from dawgen_jax.evaluation import metrics
from dawgen_jax.io.terminal import number, printable
from dawgen_jax.methods.arms import RELEASED, arms_of
from dawgen_jax.pipeline.checks import Examined, examine
from dawgen_jax.pipeline.inputs import Encoded, TaskData, backbone_folder, load_backbone, read_task
from dawgen_jax.pipeline.predictions import score_examples
from dawgen_jax.training.placement import Placement

_SCORED = 500


def _line(name: str, text: str) -> None:
    print(f"{name:12}", printable(text))


def show(given: TaskData, found: Examined, config: Config, tokens: Format) -> None:
    """Print a task's classes, words, lengths and examples."""
    task = given.task
    if given.pools.columns:
        _line("columns", given.pools.columns)
    for name, examples in (("pool", given.pools.train), ("test", given.test)):
        counts = Counter(example.label for example in examples)
        _line(name, f"{len(examples)} examples: " + ", ".join(f"{label} {counts[label]}" for label in task.labels))
    _line("few shots", f"{given.k} per class to tune on, {given.k} for dev; seeds {', '.join(map(str, config.seeds))}")
    template, label_words = tokens.wording(task)
    words = [f"{label} = '{word}'" for label, word in zip(task.labels, label_words, strict=True)]
    places = [f" (token {number})" for number in found.word_ids] or [""] * len(words)
    _line("label words", ", ".join(map("".join, zip(words, places, strict=True))))
    _line("template", template)
    _line("phrases", "; ".join(f"{label}: '{front}' ... '{middle}'" for label, (front, middle) in
                               zip(task.labels, task.phrases, strict=True)))
    if found.rows:
        lengths = np.array([len(row) for row in found.rows])
        _line("tokens", f"{int(np.median(lengths))} in the median row, {lengths.max()} in the longest; "
              f"classifier.max_tokens = {config.classifier.max_tokens}; {100 * found.unknown:.1f} % of pieces unknown")
        labels = [example.label for example in given.pools.train]
        for label in task.labels:
            row = found.rows[labels.index(label)]
            _line("example", f"{label}, {len(row)} tokens: {tokens.tokenizer.decode(row)}")
    if given.sentences:
        front = f"the first from '{given.sentences[0]}'" if given.sentences[0] else "from the label alone"
        _line("generator", f"at most {len(given.sentences)} samples per label are tried, {front}")


def zero_shot(given: TaskData, config: Config) -> str:
    """Accuracy of the backbone with the template alone."""
    classifier = config.classifier
    backbone = load_backbone(classifier.backbone, Placement.on(config.devices))
    examples = [*given.test, *given.pools.train][:_SCORED]
    encoded = Encoded(given.task, backbone, classifier)
    labels = [given.task.labels.index(example.label) for example in examples]
    predicted = score_examples(encoded, examples, None, classifier).argmax(axis=1)
    scored = metrics.scores(given.task, predicted, labels)
    counts, chosen = np.bincount(labels), np.bincount(predicted, minlength=len(given.task.labels))
    return (f"accuracy {100 * scored['accuracy']:.1f} %, F1 {100 * scored['f1']:.1f} on {len(examples)} examples (the "
            f"largest class is {100 * counts.max() / len(examples):.1f} %); predicted: "
            + ", ".join(f"{label} {number}" for label, number in zip(given.task.labels, chosen, strict=True)))


def main(argv: Sequence[str]) -> None:
    """Check every task of a config."""
    config = parse_config(argv, __doc__).config
    writes = any(arm.generator not in ("", RELEASED) for arm in arms_of(config))
    problems, warnings = [], 0
    for name in config.tasks:
        print(printable(name))
        given = read_task(name, config, generates=writes)
        found = examine(given, config)
        tokens = registry.read_format(backbone_folder(config.classifier.backbone.path))
        show(given, found, config, tokens)
        if (found.word_ids or found.proposed) and MASK in tokens.wording(given.task)[0]:
            scored = given if found.word_ids else dataclasses.replace(given, task=dataclasses.replace(
                given.task, label_words=found.proposed))
            _line("zero-shot", ("" if found.word_ids else f"with {' '.join(found.proposed)}: ")
                  + zero_shot(scored, config))
        for warning in found.warnings:
            _line("warning", warning)
        problems, warnings = [*problems, *found.problems], warnings + len(found.warnings)
    if problems:
        raise UserError(" ".join(problems))
    print(f"No errors; {number(warnings, 'warning')}." if warnings else "Nothing is wrong.")
