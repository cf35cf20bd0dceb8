"""The method from Python, step by step, as the paper tells it.

A backbone is loaded; a generator's label prompts are tuned on a few labelled pairs (L_wGen, L_disc, L_dist); it writes
a synthetic set, which is judged; a classifier's prompt is tuned on real and synthetic pairs with gradient surgery; it
predicts.

>>> import tempfile
>>> from dawgen_jax import Classifier, Generator, appraise, find_task, load_backbone
>>> from dawgen_jax.config import ClassifierConfig, GeneratorConfig, SynthesisConfig
>>> task, backbone = find_task("mini-snli"), load_backbone("mini-t5", devices=1)
>>> real = [("a boy runs .", "a boy moves .", "entailment"), ("a girl sings .", "a girl makes noise .", "entailment"),
...         ("a boy runs .", "a tall boy runs .", "neutral"), ("a girl sings .", "a girl sings alone .", "neutral"),
...         ("a boy runs .", "no boy runs .", "contradiction"), ("a girl sings .", "no girl sings .", "contradiction")]
>>> generator = Generator.tune(backbone, task, real, config=GeneratorConfig(prompt_length=4, num_steps=2))
>>> settings = SynthesisConfig(samples_per_label=2, max_new_tokens=8, unfinished="cut")
>>> synthetic = generator.synthesize(["a man sleeps .", "a woman walks ."], config=settings)
>>> [pair.label for pair in synthetic]
['entailment', 'neutral', 'contradiction', 'entailment', 'neutral', 'contradiction']
>>> [figure.name for figure in appraise(task, synthetic, real)][:4]  # each with a value, that of real pairs, a verdict
['distinct-1', 'distinct-2', 'self-BLEU', 'Vendi score']
>>> settings = ClassifierConfig(prompt_length=4, num_steps=2, batch_size=2, eval_every=2)
>>> classifier = Classifier.tune(backbone, task, real, dev=real, synthetic=synthetic, config=settings)
>>> predicted = classifier.predict([("a man sleeps .", "no man sleeps ."), ("a woman walks .", "a woman moves .")])
>>> predicted.probabilities.shape, set(predicted.labels) <= set(task.labels)
((2, 3), True)
>>> with tempfile.TemporaryDirectory() as folder:
...     classifier.save(folder)
...     again = Classifier.load(folder, backbone)
>>> again.score(real) == classifier.score(real)
True

Numbers as small as these teach nothing: ``configs/mini.py`` has settings for the mini world, and the defaults are the
paper's. Every call is the one that the programs make per seed, so that the same data, settings and seed give what
they give; unfinished work is kept in a temporary folder. Nothing goes to standard output; progress and warnings
(unknown tokens, too few samples, ...) go to standard error. ``logging.getLogger("dawgen_jax").setLevel(...)`` with
``logging.WARNING`` hides progress, with ``logging.ERROR`` warnings too. Import warns (RuntimeWarning) if jaxlib is one
that adds up wrongly on CPU (``dawgen_jax.compiler``).
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import pathlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dawgen_jax.backbones.base import Backbone
from dawgen_jax.config import BackboneConfig, ClassifierConfig, GeneratorConfig, SynthesisConfig, digest
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.data.fewshot import Split
from dawgen_jax.data.pools import Example
from dawgen_jax.errors import UserError
from dawgen_jax.evaluation import metrics, quality
from dawgen_jax.generator.variants import VARIANTS, fixed_by
from dawgen_jax.io import terminal
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.methods.base import Method
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.methods.stored import Stored, can_be_stored, read_classifier, write_classifier
from dawgen_jax.methods.trained import PROMPT
from dawgen_jax.methods.tune import tune
from dawgen_jax.pipeline import inputs
from dawgen_jax.pipeline.cells import start_prompt
from dawgen_jax.pipeline.generators import tune_label_prompts
from dawgen_jax.pipeline.inputs import Encoded, resolved
from dawgen_jax.pipeline.predictions import score_examples
from dawgen_jax.pipeline.sets import generate_set
from dawgen_jax.synthesis.filtering import Sample
from dawgen_jax.tasks import Task
from dawgen_jax.training.placement import Placement

__all__ = ["Classifier", "Generator", "Predictions", "appraise", "load_backbone"]

Text = str | Sequence[str]
"""A text, or the two sentences of a pair."""
ZERO_SHOT, WITH_REAL, WITH_BOTH = "Prompting (zero-shot)", "Prompt Tuning", "(Real, Syn) + GS"


def load_backbone(backbone: str | BackboneConfig, *, devices: int = 0) -> Backbone:
    """Load a frozen backbone and its tokenizer.

    Args:
      backbone: a Hugging Face directory or the name of an embedded backbone ('mini-t5', 'mini-flan'); or a
        configuration, which also says the compute dtype.
      devices: that it is placed on, and that everything done with it runs on: the first so many, 0 for all.

    Raises:
      UserError: the folder does not exist, or its checkpoint or tokenizer cannot be used.
    """
    config = BackboneConfig(backbone) if isinstance(backbone, str) else backbone
    return inputs.load_backbone(config, Placement.on(devices))


@dataclasses.dataclass(frozen=True, eq=False)
class Generator:
    """A tuned generator.

    Attributes:
      backbone: the frozen model that writes.
      task: what it writes pairs of.
      label_prompts: Q, {'prompt': [L, P, H], 'infix': [L, I, H]}.
      config: how it was tuned.
    """

    backbone: Backbone
    task: Task
    label_prompts: dict[str, np.ndarray]
    config: GeneratorConfig

    def __repr__(self) -> str:
        """Task, backbone and the shape of the label prompts."""
        labels, length, _ = self.label_prompts["prompt"].shape
        return f"Generator({self.task.name}, {self.backbone.label}, {labels} prompts of {length} virtual tokens)"

    @classmethod
    def tune(cls, backbone: Backbone, task: Task, real: Sequence[Sequence[str]], *,
             dev: Sequence[Sequence[str]] = (), variant: str = "DawGen", config: GeneratorConfig = GeneratorConfig(),
             seed: int = 0) -> Generator:
        """Tune the label prompts on labelled pairs: L_wGen with meta-learned token weights, L_disc and L_dist.

        Args:
          backbone: of :func:`load_backbone`.
          task: labels and phrases.
          real: (sentence 1, sentence 2, label) of every class.
          dev: other real pairs, which select the label prompts with ``config.select = 'dev_nll'``.
          variant: 'DawGen', 'FewGen', or another of ``generator.variants``.
          config: rates, sizes and losses; its backbone is not read.
          seed: of the starting prompts and the batches.

        Raises:
          UserError: an example does not fit the task, or a loss is not finite.
        """
        config = dataclasses.replace(config, backbone=backbone.config)
        config = fixed_by(config, _known(variant, VARIANTS, "variant"))
        heldout = _examples(task, dev, "dev", every=False) if config.select == "dev_nll" else []
        split = Split(_examples(task, real, "real"), heldout, "given")
        with tempfile.TemporaryDirectory() as folder:
            tuned = tune_label_prompts(
                task, [split], backbone, config=config, seeds=[seed], placement=Placement.of(backbone.theta),
                folder=pathlib.Path(folder, "checkpoint"), title=f"{task.name} {variant}",
                metrics_log=MetricsLog(pathlib.Path(folder, "metrics.jsonl")))
        return cls(backbone, task, {name: leaf[0] for name, leaf in tuned.prompts.items()}, config)

    def synthesize(self, sentences: Sequence[str] = (), *, config: SynthesisConfig = SynthesisConfig()
                   ) -> list[Example]:
        """Write labelled pairs: for each first sentence, a second one under every label's prompt; or single texts.

        Args:
          sentences: first sentences, used in this order until every label has ``config.samples_per_label``; none for
            single texts.
          config: how many, and how tokens are drawn.

        Returns:
          The accepted pairs, the same number of each label unless ``config.balance`` is off.

        Raises:
          UserError: there are no first sentences where there must be some, or a label has no accepted sample.
        """
        single = len(self.task.fields) == 1
        if bool(sentences) is single:
            raise UserError(f"sentences: {self.task.name} is a task of "
                            f"{'single texts, which have none; leave them out' if single else 'pairs; give some'}.")
        with tempfile.TemporaryDirectory() as folder:
            selection, _ = generate_set(
                self.task, inputs.no_sentences(self.task, config) if single else list(sentences), self.backbone,
                self.label_prompts, generator=self.config, config=config, repeats=single,
                placement=Placement.of(self.backbone.theta), folder=pathlib.Path(folder), title=self.task.name)
        return [sample.example for sample in selection.samples]


def appraise(task: Task, synthetic: Sequence[Sequence[str]], real: Sequence[Sequence[str]], *,
             heldout: Sequence[Sequence[str]] = (), test: Sequence[Sequence[str]] = (), seed: int = 0
             ) -> list[quality.Figure]:
    """Judge a synthetic set: diversity, lengths, balance, copies, memorised shots, near duplicates, leaks.

    ``dawgen quality`` also judges label margins and a backbone's features, for a set in files.

    Args:
      task: whose labels the examples have.
      synthetic: labelled pairs of :meth:`Generator.synthesize`, or single texts.
      real: the examples that the generator was tuned on.
      heldout: real examples that it has not seen; if given, the set is compared with them.
      test: examples that classifiers will be scored on, to look for leaks.
      seed: seed for draws from larger sets.

    Returns:
      Figures with a name, a value, the same of real pairs, a unit, a verdict (a sentence) and a warning flag.

    Raises:
      UserError: an example does not fit the task, or the list is empty.
    """
    made, shots = _examples(task, synthetic, "synthetic", every=False), _examples(task, real, "real", every=False)
    unseen, tested = (_examples(task, rows, name, every=False) if rows else []
                      for rows, name in ((heldout, "heldout"), (test, "test")))
    samples = [Sample(example, place) for place, example in enumerate(made)]
    return quality.appraise(samples, task.labels, quality.Real(shots, unseen), tested, seed=seed).figures


class Predictions(NamedTuple):
    """Predicted class names [N], and the probabilities of all classes, float [N, L] in the order of ``Task.labels``."""

    labels: list[str]
    probabilities: np.ndarray

    def __repr__(self) -> str:
        """How many texts have each label."""
        counts = ", ".join(f"{label} {count}" for label, count in Counter(self.labels).most_common())
        return f"Predictions({terminal.number(len(self.labels), 'text')}{': ' * bool(counts)}{counts})"


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A backbone in a task's template, with the tuned parameters; without any it is zero-shot prompting.

    Attributes:
      backbone: the frozen model.
      task: template, labels and label words.
      config: how it was tuned.
      method: name of the method that tuned it (``methods.rows``).
      params: the prompt P [P, H], or the low-rank factors; None for neither.
    """

    backbone: Backbone
    task: Task
    config: ClassifierConfig = ClassifierConfig()
    method: str = ZERO_SHOT
    params: Any = None

    def __repr__(self) -> str:
        """Task, backbone, method and the number of tuned parameters."""
        tuned = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        return f"Classifier({self.task.name}, {self.backbone.label}, {self.method}, {tuned:,} tuned parameters)"

    @classmethod
    def tune(cls, backbone: Backbone, task: Task, real: Sequence[Sequence[str]], *, dev: Sequence[Sequence[str]],
             synthetic: Sequence[Sequence[str]] = (), method: str = "", config: ClassifierConfig = ClassifierConfig(),
             seed: int = 0) -> Classifier:
        """Tune a prompt on real pairs, and on synthetic ones with gradient surgery (Algorithm 2).

        Args:
          backbone: of :func:`load_backbone`.
          task: template, labels and label words.
          real: labelled pairs (sentence 1, sentence 2, label).
          dev: other real pairs, whose accuracy selects the prompt.
          synthetic: labelled pairs of a generator, if any.
          method: as config files write it; by default '(Real, Syn) + GS' with synthetic pairs, else 'Prompt Tuning'.
          config: rates, sizes, epsilon; its backbone is not read, and fields left at None suit this one.
          seed: of the starting prompt and the batches.

        Raises:
          UserError: an example does not fit the task, the method does not fit the data, or a loss is not finite.
        """
        method = method or (WITH_BOTH if synthetic else WITH_REAL)
        known = _trainable(method, bool(synthetic))
        config = resolved(dataclasses.replace(config, backbone=backbone.config))
        placement = Placement.of(backbone.theta)
        encoded = Encoded(task, backbone, config)
        given = {name: _examples(task, rows, name) for name, rows in (("real", real), ("synthetic", synthetic),
                                                                      ("dev", dev)) if rows}
        if missing := ({"dev", *known.data}) - given.keys():
            raise UserError(f"{method}: needs {' and '.join(sorted(missing))} examples; give some.")
        trained = known.trains or PROMPT
        data: dict[str, Sequence[ClassifierBatch]] = {
            name: [encoded.arrays(rows, digest(rows), bare=trained.bare)] for name, rows in given.items()}
        with tempfile.TemporaryDirectory() as folder:
            tuned = tune(
                trained, start_prompt(backbone, config, trained, seed)[None], backbone, data, data["dev"],
                known.stages(config, len(task.labels)), config=config, label_ids=encoded.label_ids,
                tail=encoded.tail, contexts=encoded.contexts, placement=placement, seeds=[seed],
                folder=pathlib.Path(folder), title=f"{task.name} {method}",
                metrics_log=MetricsLog(pathlib.Path(folder, "metrics.jsonl")))
        return cls(backbone, task, config, method, jax.tree.map(lambda leaf: np.asarray(leaf[0]), tuned.params))

    def predict(self, texts: Sequence[Text]) -> Predictions:
        """Classify texts.

        Args:
          texts: N pairs (sentence 1, sentence 2), or N single texts where the task is of those.

        Raises:
          UserError: a text does not fit the task.
        """
        task, config = self.task, self.config
        examples = [_example(task, text, task.labels[0], f"text {number}") for number, text in enumerate(texts, 1)]
        if not examples:
            return Predictions([], np.zeros((0, len(task.labels))))
        encoded = Encoded(task, self.backbone, config)
        scores = score_examples(encoded, examples, self.params, config, method=METHODS[self.method]).astype(np.float64)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return Predictions([task.labels[place] for place in scores.argmax(axis=1)],
                           odds / odds.sum(axis=1, keepdims=True))

    def score(self, examples: Sequence[Sequence[str]]) -> dict[str, float]:
        """Accuracy and F1 on labelled examples: {'accuracy': ..., 'f1': ...}.

        Raises:
          UserError: the list is empty, or an example does not fit the task.
        """
        rows = _examples(self.task, examples, "examples", every=False)
        place = {label: i for i, label in enumerate(self.task.labels)}
        predicted = self.predict([row[2 - len(self.task.fields):2] for row in rows]).labels
        return metrics.scores(self.task, [place[label] for label in predicted], [place[row.label] for row in rows])

    def save(self, folder: str | os.PathLike) -> None:
        """Write the classifier into a folder, which :meth:`load` and ``dawgen predict`` read.

        The backbone itself is not copied: its path and digest are.
        """
        config = dataclasses.replace(self.config, backbone=self.backbone.config)
        write_classifier(folder, Stored(self.task, METHODS[self.method], config, self.backbone.digest, self.params))

    @classmethod
    def load(cls, folder: str | os.PathLike, backbone: Backbone | str | None = None) -> Classifier:
        """Read a classifier: what :meth:`save` wrote, or a cell of a run directory.

        Args:
          folder: of the classifier, or RUN/cells/CELL.
          backbone: the backbone of the tuning, or its present path; by default it is loaded from its former path.

        Raises:
          UserError: the classifier does not exist or is broken, or the backbone is another one.
        """
        stored = read_classifier(folder)
        if not isinstance(backbone, Backbone):
            named = dataclasses.replace(stored.config.backbone, path=backbone) if backbone else stored.config.backbone
            backbone = load_backbone(named)
        if backbone.digest != stored.backbone_digest:
            raise UserError(f"{folder}: was tuned on another backbone than {backbone.config.path} in "
                            f"{backbone.config.dtype} (its weights, tokenizer or compute dtype differ); name the one "
                            "that it was tuned on.")
        if stored.params is not None:
            length = resolved(dataclasses.replace(stored.config, backbone=backbone.config)).prompt_length or 0
            start = np.zeros((length, backbone.model.width), np.float32)
            like = (stored.method.trains or PROMPT).init(backbone, stored.config, len(stored.task.labels), start, 0)
            if jax.tree.map(np.shape, stored.params) != jax.tree.map(np.shape, like):
                raise UserError(f"{folder}: what was tuned has other shapes than classifier.json says; save it again.")
        return cls(backbone, stored.task, stored.config, str(stored.method), stored.params)


def _known(name: str, there: dict, what: str) -> str:
    if name not in there:
        near = difflib.get_close_matches(name, there, 1, 0.0)[0]
        raise UserError(f"{what} = '{name}': unknown; the nearest is '{near}'; choose from {'; '.join(there)}.")
    return name


def _trainable(name: str, synthetic: bool) -> Method:
    method = METHODS[_known(name, METHODS, "method")]
    if method.trains is None or method.source or not can_be_stored(method):
        fitting = "; ".join(name for name, one in METHODS.items() if one.trains and not one.source
                            and can_be_stored(one))
        raise UserError(f"method = '{name}': tunes no prompt by itself; choose one of {fitting}.")
    if synthetic and "synthetic" not in method.data:
        raise UserError(f"method = '{name}': learns from no synthetic data; leave synthetic out, or choose "
                        f"'{WITH_BOTH}'.")
    return method


def _example(task: Task, text: Text, label: str, place: str) -> Example:
    """The example of a text or pair; a single text takes the place of sentence 2."""
    texts, count = (text,) if isinstance(text, str) else tuple(text), len(task.fields)
    if len(texts) != count or not all(isinstance(one, str) for one in texts):
        raise UserError(f"{place}: {text!r} is not what {task.name} classifies; give "
                        f"{'a pair (sentence 1, sentence 2)' if count == 2 else 'one text'}.")
    return Example(texts[0] if count == 2 else "", texts[-1], label)


def _examples(task: Task, rows: Sequence[Sequence[str]], name: str, *, every: bool = True) -> list[Example]:
    """Checked examples; ``every`` class must be among them."""
    examples = []
    for number, row in enumerate(rows, 1):
        place = f"{name}, example {number}"
        if not isinstance(row, Sequence) or isinstance(row, str) or len(row) < 2 or row[-1] not in task.labels:
            raise UserError(f"{place}: {row!r} does not end with a label of {task.name}; the labels are "
                            f"{', '.join(task.labels)}.")
        texts = row[-1 - len(task.fields):-1] if isinstance(row, Example) else row[:-1]
        examples.append(_example(task, texts, row[-1], place))
    missing = sorted(set(task.labels) - {example.label for example in examples})
    if not examples or (missing and every):
        raise UserError(f"{name}: no example of {', '.join(missing) if every else 'any class'}; give some.")
    return examples
