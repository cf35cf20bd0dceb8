"""Stage 2: write a labelled synthetic set with a tuned generator.

An artefact ``synthetic/TASK-GENERATOR-SEED-HASH/`` holds train.jsonl, train.parquet, counts.json, README.md, meta.json
and quality.jsonl (the measures of ``evaluation.quality``; label consistency where the mini world's semantics tells it).
The set belongs to the generator's backbone alone: any number of classifier backbones learn from it.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax import miniworld, prng, prompts
from dawgen_jax.backbones.base import Backbone, Model, Work
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.config import Config, GeneratorConfig, SynthesisConfig, digest, fields_of
from dawgen_jax.data.encoding import source_arrays
from dawgen_jax.data.pools import Example, read_examples
from dawgen_jax.errors import UserError
from dawgen_jax.evaluation import quality
from dawgen_jax.generator.variants import fixed_by, variant_settings
from dawgen_jax.io import world
from dawgen_jax.io.files import STAGE_AGAIN, write_json
from dawgen_jax.io.metadata import read_meta
from dawgen_jax.io.store import Fill, artefact, build, exists
from dawgen_jax.io.terminal import progress
from dawgen_jax.methods.arms import RELEASED
from dawgen_jax.miniworld import consistency
from dawgen_jax.pipeline import generators
from dawgen_jax.pipeline.inputs import RELEASED_FILES, SPLIT_FILES, TaskData, content_digest, is_own
from dawgen_jax.pipeline.job import Job
from dawgen_jax.results.rows import SyntheticRow, versions, write_rows
from dawgen_jax.synthesis import files
from dawgen_jax.synthesis.filtering import Sample, Selection, Selector
from dawgen_jax.tasks import Task
from dawgen_jax.training.placement import Placement, Team

__all__ = ["REVISION", "SyntheticSet", "generate_set", "read_released", "set_settings", "synthesize"]

log = logging.getLogger(__name__)
REVISION = 1
"""Raised by hand when the same inputs give another set; see :data:`dawgen_jax.pipeline.generators.REVISION`."""
_WIDTH = 32  # source widths that are compiled are multiples of this
_HOPELESS = 512  # first sentences after which a label without an accepted sample is given up


_READ = ("samples_per_label", "max_new_tokens", "min_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty",
         "unfinished", "balance", "score", "seed")


class SyntheticSet(NamedTuple):
    """A finished synthetic set.

    Attributes:
      folder: of its artefact; None for a released set.
      examples: the labelled pairs.
      digest: of its content.
      generator_backbone: name of the model that wrote it.
      variants: what rows that use it are marked with: 'cut' and 'pool'.
    """

    folder: pathlib.Path | None
    examples: list[Example]
    digest: str
    generator_backbone: str
    variants: tuple[str, ...]


def set_settings(config: Config, generator: str) -> dict[str, Any]:
    """The fields that a synthetic set depends on, dotted, with their values; for paths the digests of what is there."""
    if generator == RELEASED:
        return {"synthesis.samples_per_label": config.synthesis.samples_per_label,
                "data.released": content_digest(config.data.released, RELEASED_FILES)}
    idle = {"score"} | (set() if config.synthesis.temperature else {"seed"})  # greedy decoding draws nothing
    read = {f"synthesis.{name}": getattr(config.synthesis, name) for name in _READ if name not in idle}
    corpus = config.data.corpus
    inputs = {"generator.backbone.dtype": config.generator.backbone.dtype, "data.corpus_seed": config.data.corpus_seed,
              "data.corpus": corpus if corpus == "pool" else content_digest(corpus, RELEASED_FILES),
              "data.kshot": content_digest(config.data.kshot, SPLIT_FILES)}
    revisions = {"generator.revision": generators.REVISION, "synthesis.revision": REVISION}
    return variant_settings(config.generator, generator) | read | inputs | revisions


def read_released(config: Config, given: TaskData) -> list[SyntheticSet]:
    """The released sets of every seed: TASK/K-SEED/gen-train.jsonl[.gz] below ``data.released``.

    The first ``synthesis.samples_per_label`` of each label are taken.

    Raises:
      UserError: a set is not there, or its labels are not the task's.
    """
    task, wanted, sets = given.task, config.synthesis.samples_per_label, []
    for seed in config.seeds:
        folder = pathlib.Path(config.data.released) / task.name / f"{given.k}-{seed}"
        found = [path for suffix in ("", ".gz") if (path := folder / f"gen-train.jsonl{suffix}").is_file()]
        if not config.data.released or not found:
            raise UserError(f"data.released = '{config.data.released}': no {task.name}/{given.k}-{seed}/"
                            "gen-train.jsonl[.gz]; give the folder of released sets, or drop the arms of "
                            f"'{RELEASED}' for this task.")
        examples = read_examples(found[0], task)
        of_label = [[example for example in examples if example.label == label][:wanted] for label in task.labels]
        if [] in of_label:
            raise UserError(f"{found[0]}: no sample of label '{task.labels[of_label.index([])]}'; the set must have "
                            f"every class of {task.name}.")
        kept = [example for own in of_label for example in own]
        sets.append(SyntheticSet(None, kept, digest(kept), "released", ()))
    return sets


def synthesize(job: Job, given: TaskData, generator: str, tuned: Sequence[pathlib.Path]) -> list[SyntheticSet]:
    """Write, or find, the synthetic set of every seed of the job.

    Args:
      job: configuration, directory, devices.
      given: the task's data.
      generator: one of ``generator.variants``.
      tuned: the generator's artefact folder of each seed.

    Raises:
      UserError: a label has no accepted sample.
    """
    config, task = job.config.synthesis, given.task
    read = tuple(getattr(config, name) for name in _READ)
    pool = job.config.data.corpus == "pool" and any(given.sentences)
    variants = tuple(variant for variant, here in (("cut", config.unfinished == "cut"), ("pool", pool)) if here)
    sets = []
    for seed, generator_folder in zip(job.config.seeds, tuned, strict=True):
        key = digest("synthetic", REVISION, given.digest, read, job.config.generator.max_source_tokens,
                     task.repetition_penalty, task.reject, given.digests["sentences"], given.repeats,
                     generator_folder.name, job.config.generator.backbone.label, _languages(job.config, task))
        folder = artefact(job.root, "synthetic", f"{task.name}-{generator}-{seed}", key)
        build([folder], functools.partial(_write, job, given, generator, seed, generator_folder))
        samples, writer = files.read_set(folder), read_meta(folder).generator_backbone
        if not writer:
            raise UserError(f"{folder / 'meta.json'}: Meta.generator_backbone: is missing; {STAGE_AGAIN}.")
        sets.append(SyntheticSet(folder, [sample.example for sample in samples], files.content_digest(samples), writer,
                                 variants))
    return sets


def embed_rows(theta, label_prompts: dict, rows, *, model: Model):
    """Encoder inputs of rows of any labels: each with its own label's prompt and infix."""
    return prompts.insert(theta, rows.source, rows.mask, label_prompts["prompt"][rows.label], model=model,
                          head=model.head, infix=label_prompts["infix"][rows.label], slots=rows.slots)


@functools.lru_cache(maxsize=4)
def _decoder(model: Model, team: Team, slots: int, widths: tuple[int, ...], max_new_tokens: int,
             eos_id: int, banned: tuple[int, ...], penalty: bool, draw: bool) -> Decoder:
    """One compiled decoder for all sets with the same shapes."""
    return Decoder(model, functools.partial(embed_rows, model=model), eos_id=eos_id, banned=banned, slots=slots,
                   widths=widths, max_new_tokens=max_new_tokens, penalty=penalty, draw=draw, mesh=team.placement.mesh,
                   teams=team.count)


def generate_set(task: Task, corpus: Sequence[str], backbone: Backbone, label_prompts: dict, *,
                 generator: GeneratorConfig, config: SynthesisConfig, placement: Placement, folder: pathlib.Path,
                 title: str, repeats: bool = False) -> tuple[Selection, int]:
    """Write pairs with a tuned generator until every label has enough, or the first sentences are used up.

    Args:
      task: its labels, penalties and rules of rejection.
      corpus: first sentences, in the order in which they are used.
      backbone: the generator's, placed.
      label_prompts: Q, {'prompt': [L, P, H], 'infix': [L, I, H]}.
      generator: its ``max_source_tokens``.
      config: how much, and how tokens are drawn.
      placement: devices.
      folder: where finished shards are kept, which a restart reads.
      title: for the progress bar.
      repeats: first sentences come again, each time for another sample.

    Returns:
      (what is kept, with counts; the number of first sentences that were cut to their budget).

    Raises:
      UserError: a label has no accepted sample.
    """
    label_prompts, selector = jax.tree.map(jnp.asarray, label_prompts), Selector(task, config, repeats=repeats)
    infix, number, start, team = label_prompts["infix"].shape[1], 0, 0, placement.team()
    backbone = backbone._replace(theta=team.placement.narrowed(backbone.theta))
    with progress(config.samples_per_label * len(task.labels), f"{title}, accepted", unit="samples") as bar:
        while start < len(corpus) and not selector.enough():
            if start >= _HOPELESS and not all(selector.accepted().values()):
                break  # and selection ends with the reason
            labels = [label for label in task.labels if not selector.enough(label)]
            missing = max(config.samples_per_label - selector.accepted()[label] for label in labels)
            stop = start + min(config.shard_size, max(missing, config.batch_size))
            sentences = corpus[start:stop]
            if world.stopping():
                raise world.Stopped
            if not exists(files.shard_path(folder, number)):
                rows = source_arrays(backbone.format, sentences, infix, generator)
                make = functools.partial(_samples, task, backbone, label_prompts, labels, sentences, rows, start,
                                         generator, config, team)
                world.gathered(functools.partial(_write_shard, folder, number, team, make))
                if team.count > 1:
                    world.led(functools.partial(files.join_parts, folder, number, team.count, task))
            made = files.read_samples(files.shard_path(folder, number))
            if not made:
                raise UserError(f"{files.shard_path(folder, number)}: is empty; remove the file, and it is made again.")
            selector.add(made)
            # A shard says itself where it ends: one from before a restart may have had another size.
            start, number = made[-1].index + 1, number + 1
            bar.update(sum(selector.accepted().values()) - bar.n)
            bar.set_postfix_str(", ".join(f"{label} {count}" for label, count in selector.accepted().items()))
    selection = selector.select()
    for warning in selection.warnings:
        log.warning("%s", warning)
    too_long = int(source_arrays(backbone.format, corpus[:start], infix, generator).cut.sum())
    if too_long:
        log.warning("%s: %d of %d first sentences were cut to generator.max_source_tokens = %d.", task.name, too_long,
                    start, generator.max_source_tokens)
    return selection, too_long


def _write(job: Job, given: TaskData, generator: str, seed: int, generator_folder: pathlib.Path, _: list[int],
           work: pathlib.Path) -> list[Fill]:
    config, begin, task = job.config.synthesis, time.monotonic(), given.task
    backbone = job.backbone(job.config.generator.backbone)
    with job.stage("synthesize"):
        selection, too_long = generate_set(
            task, given.sentences, backbone, prompts.load(generator_folder / "prompts.safetensors"),
            generator=job.config.generator, config=config, placement=job.placement, folder=work,
            title=f"{task.name} {generator} {seed}", repeats=given.repeats)
        row = _quality(job.config, given, generator, seed, backbone, selection)
    selected = read_meta(generator_folder).selected_step
    meta = {"task": task.name, "generator": generator, "generator_backbone": backbone.label, "seed": seed,
            "generator_artefact": generator_folder.name, "selected_step": selected, "first_sentences_cut": too_long,
            "seconds": round(time.monotonic() - begin, 2), "versions": versions()}
    row.extras["selected_step"] = selected
    return [functools.partial(_fill, task=task, selection=selection, row=row,
                              meta=meta | _origins(job.config, given, generator, backbone))]


def _languages(config: Config, task: Task) -> list[str]:
    """Language codes of a task's texts, if they are stated; all tasks but custom ones are English."""
    stated = config.own.language if is_own(task.name, config) else "en"
    return [stated] if stated else []


def _origins(config: Config, given: TaskData, generator: str, backbone: Backbone) -> dict[str, Any]:
    """Where a set is from: language, model, where first sentences are from, and every setting of both stages."""
    tuned = fields_of(fixed_by(config.generator, generator), "generator.")
    tuned = {name: value for name, value in tuned.items() if not name.startswith("generator.backbone.")}  # a local path
    corpus = pathlib.Path(config.data.corpus).name or "the mini world's corpus"
    return {"languages": _languages(config, given.task), "generator_backbone_digest": backbone.digest,
            "first_sentences": corpus if len(given.task.fields) > 1 else "none: single texts",
            "corpus_seed": config.data.corpus_seed, "k": given.k,
            "settings": tuned | fields_of(config.synthesis, "synthesis.")}


def _quality(config: Config, given: TaskData, generator: str, seed: int, backbone: Backbone,
             selection: Selection) -> SyntheticRow:
    """The measures of a set against the task's training pool and the shots its generator was tuned on."""
    name = given.task.name
    measured = quality.measure(
        [sample.example for sample in selection.samples], given.pools.train, given.splits[seed].train,
        consistency=functools.partial(consistency, name) if name in miniworld.TASKS else None)
    settings = set_settings(config, generator) | {"generator.backbone.digest": backbone.digest}
    return SyntheticRow(task=name, backbone=backbone.label, generator=generator, seed=seed, settings=settings,
                        data=given.digest, **measured)


def _fill(folder: pathlib.Path, *, task: Task, selection: Selection, meta: dict[str, Any], row: SyntheticRow) -> None:
    files.write_set(folder, task, selection, meta, quality=_figures(row), languages=meta["languages"])
    write_rows(folder / "quality.jsonl", [row])
    write_json(folder / "meta.json", meta)


def _figures(row: SyntheticRow) -> dict[str, object]:
    """The measures of a set, flat, those that could not be taken left out."""
    measured = dataclasses.asdict(row)
    flat = {name: measured[name] for name in ("n", "consistency", "diversity", "distance", "copies")}
    for name, value in measured["extras"].items():
        flat |= {f"{name} {key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return {name: value for name, value in flat.items() if value is not None}


def _write_shard(folder: pathlib.Path, number: int, team: Team, make: Callable[[], list[Sample]]) -> None:
    """Make a shard, or this team's part of it; one process of the team writes it."""
    made = make()
    if team.placement.writes:
        path = files.shard_path(folder, number) if team.count == 1 else files.part_path(folder, number, team.number)
        files.write_samples(path, made)


def _samples(task: Task, backbone: Backbone, label_prompts: dict, labels: Sequence[str], sentences: Sequence[str], rows,
             start: int, generator: GeneratorConfig, config: SynthesisConfig, team: Team) -> list[Sample]:
    """The team's share of the samples of a range of first sentences, in the order of (index, label)."""
    penalties = task.repetition_penalty if config.repetition_penalty == "task" else (1.0,) * len(task.labels)
    (ends,) = backbone.format.source_rows([""], label_prompts["infix"].shape[1], 0).rows  # around a sentence
    width = -(-(generator.max_source_tokens + len(ends)) // _WIDTH) * _WIDTH
    decoder = _decoder(backbone.model, team, config.batch_size, tuple(range(_WIDTH, width + 1, _WIDTH)),
                       config.max_new_tokens, backbone.format.eos_id, tuple(backbone.format.banned_ids().tolist()),
                       any(penalty != 1.0 for penalty in penalties), config.temperature > 0)
    positions = [task.labels.index(label) for label in labels]
    lengths = rows.source_mask.sum(axis=1)

    def work() -> Iterator[Work]:
        for offset in range(len(sentences)):
            for label in (label for label in positions if team.shares(label, start + offset)):
                sampling = Sampling(config.temperature, config.top_k, config.top_p, penalties[label],
                                    config.min_new_tokens, config.max_new_tokens)
                row = slice(0, lengths[offset])
                yield Work(label, start + offset, rows.source[offset, row], rows.slots[offset, row], sampling)

    key = prng.key(config.seed)
    made = sorted(decoder.generate(backbone.theta, label_prompts, work(), key), key=lambda one: (one.index, one.label))
    scores: list[tuple[float, ...]] = [()] * len(made)
    if config.score:
        by_id = {(item.label, item.index): item for item in work()}
        pairs = [(by_id[one.label, one.index], one) for one in made]
        scored = decoder.score(backbone.theta, label_prompts, pairs, len(task.labels))
        scores = [tuple(np.asarray(values).sum(axis=1).tolist()) for values in scored]
    texts = backbone.format.texts([one.tokens for one in made])
    return [Sample(Example(sentences[one.index - start], text, task.labels[one.label]), one.index, not one.finished,
                   score)
            for one, text, score in zip(made, texts, scores, strict=True)]
