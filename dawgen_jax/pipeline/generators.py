"""Stage 1: tune the label prompts of a generator on few-shot pairs, all seeds in one program.

``Departure:`` FewGen keeps the prompts of the last update; ``generator.select = 'dev_nll'`` keeps those with the lowest
negative log-likelihood on the dev shots.

An artefact ``generators/TASK-GENERATOR-SEED-HASH/`` holds prompts.safetensors, each label's prompt as a PEFT adapter in
peft/, metrics.jsonl, token_weights.json and meta.json.
"""

from __future__ import annotations

import functools
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dawgen_jax import prng, prompts
from dawgen_jax.backbones.base import Adapter, Backbone, Model
from dawgen_jax.config import GeneratorConfig, digest, fields_of
from dawgen_jax.data import batches
from dawgen_jax.data.batches import GeneratorBatch
from dawgen_jax.data.encoding import generator_arrays
from dawgen_jax.data.fewshot import Split
from dawgen_jax.generator import scores
from dawgen_jax.generator.step import GeneratorState, generator_step, init_state
from dawgen_jax.generator.variants import fields_read, fixed_by
from dawgen_jax.io import metrics_log
from dawgen_jax.io.files import write_file, write_json
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.io.store import Fill, artefact, build
from dawgen_jax.pipeline import adapters
from dawgen_jax.pipeline.inputs import TaskData, warn_of_unknown
from dawgen_jax.pipeline.job import Job
from dawgen_jax.tasks import Task
from dawgen_jax.training.fit import Schedule, fit
from dawgen_jax.training.placement import Placement

__all__ = ["REVISION", "TunedPrompts", "num_steps_of", "start_prompts", "tune_generators", "tune_label_prompts"]

REVISION = 1
"""Raised by hand when the same inputs give other label prompts (tests/pipeline/test_revisions.py): artefacts of an
earlier revision are then not reused."""

_NAMES = {"loss": "loss", "gen": "loss_wgen", "nll": "nll", "disc": "loss_disc", "dist": "loss_dist",
          "dist_active": "dist_active", "weight_entropy": "weight_entropy", "grad_norm": "grad_norm",
          "meta_grad_norm": "meta_grad_norm", "prompt_norm": "prompt_norm"}
"""Metrics of the step and what metrics.jsonl calls them."""


def _key(config: GeneratorConfig, generator: str, task: Task, split: str, backbone: Backbone, seed: int) -> str:
    return digest("generator", REVISION, generator, fields_read(config, generator), task.labels, task.phrases, split,
                  backbone.digest, seed)


def tune_generators(job: Job, given: TaskData, generator: str) -> list[pathlib.Path]:
    """Tune, or find, the generator of a task for every seed of the job.

    Args:
      job: configuration, directory, devices.
      given: the task's data.
      generator: one of ``generator.variants``.

    Returns:
      The artefact folder of each seed.

    Raises:
      UserError: a loss is not finite, or the data is not usable.
    """
    config = fixed_by(job.config.generator, generator)
    backbone, name = job.backbone(config.backbone), f"{given.task.name}-{generator}"
    folders = [artefact(job.root, "generators", f"{name}-{seed}", _key(
        job.config.generator, generator, given.task, given.digests["split", seed], backbone, seed))
        for seed in job.config.seeds]

    def make(missing: list[int], work: pathlib.Path) -> Iterator[Fill]:
        with job.stage("tune generators"):
            yield from _tune(job, config, given, backbone, [job.config.seeds[place] for place in missing], work,
                             f"{given.task.name} {generator}")

    build(folders, make, group=artefact(job.root, "generators", name, "all"))
    return folders


def start_prompts(task: Task, backbone: Backbone, length: int, seed: int) -> dict:
    """The label prompts before tuning, from the task's phrases."""
    prefixes, infixes = (backbone.format.ids(column) for column in zip(*task.phrases, strict=True))
    return prompts.label_prompts(backbone.theta, prefixes, infixes, backbone.format.word_start_ids(), length,
                                 model=backbone.model, seed=seed)


def num_steps_of(config: GeneratorConfig, num_labels: int) -> int:
    """Updates of a task's generator: 160 a label where ``config`` does not say."""
    return config.num_steps or 160 * num_labels


@functools.lru_cache(maxsize=8)
def compiled_step(config: GeneratorConfig, model: Model, num_steps: int, placement: Placement) -> Callable:
    """The step of K seeds; tasks with the same number of labels share one program."""
    step = functools.partial(generator_step, config=config, model=model, num_steps=num_steps)
    return placement.compile_step(jax.vmap(step, in_axes=(0, None, 0)), batch_axis=1, model=model)


@functools.lru_cache(maxsize=8)
def compiled_nll(model: Model, placement: Placement) -> Callable:
    """Compile ``(params of K seeds, theta, batch [K, B, ...]) -> [K]``: the NLL of all tokens under their own label's
    prompt, summed."""
    def total(params, theta, batch):
        return jnp.sum(scores.gold_nll(params["label_prompts"], theta, batch, model=model))

    return placement.compile_score(jax.vmap(total, in_axes=(0, None, 0)), batch_axis=1, model=model)


class TunedPrompts(NamedTuple):
    """Label prompts of K seeds, leaves [K, ...], before tuning (``start``) and those that are kept (``prompts``), with
    the update that they are from (``step`` [K]); the last ``batch`` [K, B, ...] and the ``token_weights`` W [K, B, U]
    that the tuned generator gives it."""

    start: dict
    prompts: dict
    step: np.ndarray
    batch: GeneratorBatch
    token_weights: np.ndarray


def tune_label_prompts(task: Task, splits: Sequence[Split], backbone: Backbone, *, config: GeneratorConfig,
                       seeds: Sequence[int], placement: Placement, folder: pathlib.Path, title: str,
                       metrics_log: MetricsLog) -> TunedPrompts:
    """Tune the label prompts Q of K seeds in one program.

    Args:
      task: its labels and phrases.
      splits: the pairs that each seed learns from; its dev pairs are read if ``config.select`` is 'dev_nll'.
      backbone: the frozen model, placed.
      config: rates, sizes, losses.
      seeds: K seeds.
      placement: devices.
      folder: where unfinished progress is kept.
      title: for the progress bar and for errors.
      metrics_log: takes a line every ``config.log_every`` updates.

    Raises:
      UserError: a loss is not finite, or a class has no example.
    """
    num_steps = num_steps_of(config, len(task.labels))
    start = [start_prompts(task, backbone, config.prompt_length, seed) for seed in seeds]
    width = start[0]["infix"].shape[1]

    def encode(examples):
        return generator_arrays(backbone.format, task, examples, width, config)

    data = [encode(split.train) for split in splits]
    warn_of_unknown(task, backbone, data[0].source, data[0].source_mask & (data[0].slots < 0))
    start = jax.tree.map(lambda *leaves: np.stack(leaves), *start)
    init = functools.partial(init_state, config=config, num_steps=num_steps)
    state = jax.vmap(init)(jax.tree.map(jnp.array, start), jax.vmap(prng.key)(jnp.array(seeds)))
    step = compiled_step(config, backbone.model, num_steps, placement)
    rows = placement.rows(config.examples_per_label * len(task.labels))
    evaluate = None
    if config.select == "dev_nll":
        evaluate = functools.partial(
            _dev_nll, total=compiled_nll(backbone.model, placement), theta=backbone.theta,
            parts=_parts([encode(split.dev) for split in splits], rows))
    fitted = fit(
        step, state, backbone.theta, lambda number: _draw(data, seeds, number, config, rows),
        schedule=Schedule(num_steps, config.select_every, config.log_every, config.checkpoint_every),
        placement=placement, folder=folder, log=metrics_log, title=title, seeds=seeds, evaluate=evaluate,
        show=("loss", "loss_disc", "loss_dist", "dev_nll"),
        advice="lower generator.learning_rate, or set generator.backbone.dtype to float32.",
        figures=lambda metrics: {name: metrics[key] for key, name in _NAMES.items()})
    state, kept = fitted.state, np.full(len(seeds), num_steps)
    if fitted.best:
        state, kept = state.replace(**fitted.best.params), fitted.best.step
    tuned = jax.device_get(state.label_prompts)
    batch, weights = _weights(step, state, backbone, _draw(data, seeds, num_steps - 1, config, rows))
    return TunedPrompts(start, tuned, kept, batch, weights)


def _tune(job: Job, config: GeneratorConfig, given: TaskData, backbone: Backbone, seeds: Sequence[int],
          work: pathlib.Path, title: str) -> Iterator[Fill]:
    task, begin, log = given.task, time.monotonic(), job.metrics_log(work, fields_of(config, "generator."), seeds)
    tuned = tune_label_prompts(task, [given.splits[seed] for seed in seeds], backbone, config=config, seeds=seeds,
                               placement=job.placement, folder=work / "checkpoint", title=title, metrics_log=log)
    log.close()
    seconds = (time.monotonic() - begin) / len(seeds)
    for k, seed in enumerate(seeds):
        moved = jax.tree.map(lambda new, old, k=k: float(np.sum((new[k] - old[k]) ** 2)), tuned.prompts, tuned.start)
        meta = {"task": task.name, "labels": task.labels, "seconds": seconds,
                "num_steps": num_steps_of(config, len(task.labels)), "selected_step": int(tuned.step[k]),
                "generator_backbone": backbone.label, "seed": seed,
                "prompt_distance": float(np.sqrt(sum(jax.tree.leaves(moved))))}
        examples = _shades(backbone, task, GeneratorBatch(*(leaf[k] for leaf in tuned.batch)), tuned.token_weights[k])
        yield functools.partial(_fill, lines=log.of_seed(k), meta=meta, examples=examples, base=config.backbone.path,
                                adapter=backbone.format.adapter,
                                prompts_=jax.tree.map(lambda leaf, k=k: leaf[k], tuned.prompts))


def _weights(step: Callable, state: GeneratorState, backbone: Backbone, batch: GeneratorBatch):
    """A batch and the token weights that the tuned generator gives it."""
    _, metrics = step(state, backbone.theta, batch)  # whose update is not kept
    return batch, jax.device_get(metrics["token_weights"])


def _dev_nll(params: dict, *, total: Callable, theta, parts: Sequence[GeneratorBatch]) -> tuple[np.ndarray, dict]:
    """Minus the NLL per token of the dev shots [K], and the figure for the log."""
    tokens = sum(part.target_mask.sum(axis=(1, 2)) for part in parts)
    nll = sum(np.asarray(total(params, theta, part)) for part in parts) / tokens
    return -nll, {"dev_nll": nll.tolist()}


def _parts(data: Sequence[GeneratorBatch], rows: int) -> list[GeneratorBatch]:
    """All examples of K sets in batches [K, rows, ...], so that an evaluation needs no more memory than an update."""
    return [batches.stack([_take(arrays, np.arange(len(arrays.label))[start:start + rows], rows)
                                     for arrays in data])
            for start in range(0, max(len(arrays.label) for arrays in data), rows)]


def _take(arrays: GeneratorBatch, index: np.ndarray, rows: int) -> GeneratorBatch:
    """The examples ``index`` of a set, then rows without supervised tokens."""
    chosen = batches.take(arrays, np.concatenate([index, np.zeros(rows - len(index), int)]))
    return chosen._replace(target_mask=chosen.target_mask & (np.arange(rows) < len(index))[:, None])


def _draw(data: Sequence[GeneratorBatch], seeds: Sequence[int], step: int, config: GeneratorConfig,
          rows: int) -> GeneratorBatch:
    """The batch [K, rows, ...] of one update: the same number of each class, then rows without supervised tokens."""
    return batches.stack([
        _take(arrays, batches.class_balanced(arrays.label, config.examples_per_label, seed, step), rows)
        for arrays, seed in zip(data, seeds, strict=True)])


def _shades(backbone: Backbone, task: Task, batch: GeneratorBatch, weights: np.ndarray) -> list[dict]:
    """Token weights of a batch, for the report."""
    examples = []
    for row in range(len(batch.label)):
        length = int(batch.target_mask[row].sum())
        if not length:
            continue
        source = batch.source[row][(batch.source_mask[row]) & (batch.slots[row] < 0)]
        examples.append({
            "sentence1": backbone.format.texts([source])[0],
            "label": task.labels[int(batch.label[row])],
            "tokens": backbone.format.pieces(batch.target[row, :length]),
            "weights": weights[row, :length].tolist(),
        })
    return examples


def _fill(folder: pathlib.Path, *, prompts_: dict, lines: list[dict], meta: dict, examples: list[dict],
          base: str, adapter: Adapter) -> None:
    prompts.save(folder / "prompts.safetensors", prompts_)
    adapters.write_label_prompts(folder / "peft", prompts_, base, adapter, meta["labels"], meta)
    write_file(folder / "metrics.jsonl", metrics_log.text(lines))
    write_json(folder / "token_weights.json", examples)
    write_json(folder / "meta.json", meta)
