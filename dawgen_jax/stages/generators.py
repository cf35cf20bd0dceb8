"""Stage 1: tune the label prompts of a generator on few-shot pairs, all seeds in one program.

An artefact ``generators/TASK-GENERATOR-SEED-HASH/`` holds prompts.safetensors, metrics.jsonl, token_weights.json and
meta.json.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from dawgen_jax import prompts, sharding
from dawgen_jax.checkpoint import Checkpoints
from dawgen_jax.config import GeneratorConfig, UserError, digest
from dawgen_jax.data import batches
from dawgen_jax.data.batches import GeneratorBatch
from dawgen_jax.data.features import generator_arrays
from dawgen_jax.data.tokenizer import batch_ids, to_texts, word_start_ids
from dawgen_jax.generator.step import GeneratorState, generator_step, init_state
from dawgen_jax.stages import inputs
from dawgen_jax.stages.inputs import Backbone, Split
from dawgen_jax.stages.job import Job
from dawgen_jax.stages.store import MetricsLog, artefact, discard, finish, partial, write_json
from dawgen_jax.t5.config import T5Config
from dawgen_jax.tasks import Task

__all__ = ["generator_config", "tune_generators"]

_NAMES = {"loss": "loss", "gen": "loss_wgen", "nll": "nll", "disc": "loss_disc", "dist": "loss_dist",
          "dist_active": "dist_active", "grad_norm": "grad_norm", "meta_grad_norm": "meta_grad_norm",
          "prompt_norm": "prompt_norm"}
"""Metrics of the step and what metrics.jsonl calls them."""


def generator_config(config: GeneratorConfig, generator: str) -> GeneratorConfig:
    """The settings of 'DawGen' (as configured) or 'FewGen' (lambda = 0)."""
    return config if generator == "DawGen" else dataclasses.replace(config, dist_weight=0.0)


def _key(config: GeneratorConfig, task: Task, split: Split, backbone: Backbone, seed: int) -> str:
    read = dataclasses.asdict(config)
    for field in ("backbone", "log_every", "checkpoint_every"):
        del read[field]
    return digest("generator", read, task.labels, task.phrases, split.train, backbone.digest, seed)


def tune_generators(job: Job, name: str, generator: str) -> list[pathlib.Path]:
    """Tune, or find, the generator of a task for every seed of the job.

    Args:
      job: configuration, directory, mesh.
      name: of the task.
      generator: 'FewGen' or 'DawGen'.

    Returns:
      The artefact folder of each seed.

    Raises:
      UserError: a loss is not finite, or the data is not usable.
    """
    config = generator_config(job.config.generator, generator)
    task = inputs.find_task(name)
    backbone = inputs.load_backbone(config.backbone, job.mesh)
    seeds = job.config.seeds
    splits = [inputs.load_split(name, job.config.data, seed) for seed in seeds]
    keys = [_key(config, task, split, backbone, seed) for split, seed in zip(splits, seeds, strict=True)]
    folders = [artefact(job.root, "generators", f"{name}-{generator}-{seed}", key)
               for seed, key in zip(seeds, keys, strict=True)]
    group = artefact(job.root, "generators", f"{name}-{generator}", digest(keys))
    if not all(folder.exists() for folder in folders):
        with job.stage("tune generators"):
            _tune(job, config, task, backbone, splits, folders, partial(group), f"{name} {generator}")
    discard(group)
    return folders


def start_prompts(task: Task, backbone: Backbone, length: int, seed: int) -> dict:
    """The label prompts before tuning, from the task's phrases."""
    prefixes, infixes = (batch_ids(backbone.tokenizer, column) for column in zip(*task.phrases, strict=True))
    return prompts.label_prompts(backbone.theta, prefixes, infixes, word_start_ids(backbone.tokenizer), length,
                                 seed=seed)


@functools.lru_cache(maxsize=8)
def _compiled_step(config: GeneratorConfig, t5: T5Config, num_steps: int, mesh: Mesh) -> Callable:
    """The step of K seeds; tasks with the same number of labels share one program."""
    step = functools.partial(generator_step, config=config, t5=t5, num_steps=num_steps)
    return sharding.compile_step(jax.vmap(step, in_axes=(0, None, 0)), mesh, batch_axis=1)


def _tune(job: Job, config: GeneratorConfig, task: Task, backbone: Backbone, splits: Sequence[Split],
          folders: Sequence[pathlib.Path], group: pathlib.Path, title: str) -> None:
    seeds, num_steps = job.config.seeds, config.num_steps or 160 * len(task.labels)
    start = [start_prompts(task, backbone, config.prompt_length, seed) for seed in seeds]
    width = start[0]["infix"].shape[1]
    data = [generator_arrays(backbone.tokenizer, task, split.train, width, config) for split in splits]
    init = functools.partial(init_state, config=config, num_steps=num_steps)
    start = jax.tree.map(lambda *leaves: np.stack(leaves), *start)
    state = jax.vmap(init)(jax.tree.map(jnp.array, start), jax.vmap(jax.random.key)(jnp.array(seeds)))
    update = _compiled_step(config, backbone.t5, num_steps, job.mesh)
    log, begin = MetricsLog(group / "metrics.jsonl"), time.monotonic()
    with Checkpoints(group / "checkpoint") as checkpoints:
        restored = checkpoints.restore(state)
        if restored:
            state = restored[1]
        # Placed as the step gives it back, or the step would be compiled once for each placement.
        state = jax.device_put(state, sharding.replicated(job.mesh))
        first = int(np.asarray(state.step)[0])
        log.forget(first)
        pending: list[dict] = []
        with tqdm(total=num_steps, initial=first, desc=title, unit="step", leave=False) as bar:
            for number in range(first, num_steps):
                batch = _draw(data, seeds, number, config, sharding.rows_for(
                    job.mesh, config.examples_per_label * len(task.labels)))
                state, metrics = update(state, backbone.theta, batch)
                pending.append({name: metrics[name] for name in (*_NAMES, "finite")})
                last = number + 1 == num_steps
                # Not after the last update: a restart repeats some, and so has the token weights that are published.
                save = not last and (number + 1) % config.checkpoint_every == 0
                if last or save or (number + 1) % config.log_every == 0:
                    line = _line(pending, number + 1, start, state)
                    _stop_if_not_finite(pending, number + 1, num_steps, seeds, title)
                    log.record([line])
                    pending = []
                    bar.update(number + 1 - bar.n)
                    bar.set_postfix_str(_postfix(line))
                if save:
                    checkpoints.save(number + 1, state)
    seconds = (time.monotonic() - begin) / len(seeds)
    weights = jax.device_get(metrics["token_weights"])
    for k, folder in enumerate(folders):
        chosen = GeneratorBatch(*(leaf[k] for leaf in batch))
        tuned = jax.tree.map(lambda leaf, k=k: leaf[k], state.label_prompts)
        finish(folder, functools.partial(_fill, prompts_=tuned, lines=log.of_seed(k), meta={
            "seconds": seconds, "num_steps": num_steps, "generator_backbone": backbone.label, "seed": seeds[k],
        }, examples=_shades(backbone, task, chosen, weights[k])))


def _draw(data: Sequence[GeneratorBatch], seeds: Sequence[int], step: int, config: GeneratorConfig,
          rows: int) -> GeneratorBatch:
    """The batch [K, rows, ...] of a step: the same number of each class, then rows without supervised tokens."""
    drawn = []
    for arrays, seed in zip(data, seeds, strict=True):
        index = batches.class_balanced(arrays.label, config.examples_per_label, seed, step)
        padded = np.concatenate([index, np.repeat(index[:1], rows - len(index))])
        chosen = GeneratorBatch(*(leaf[padded] for leaf in arrays))
        real = np.arange(rows) < len(index)
        drawn.append(chosen._replace(target_mask=chosen.target_mask & real[:, None]))
    widths = {field: max(getattr(part, field).shape[-1] for part in drawn) for field in ("source", "target")}

    def widen(field: str, leaf: np.ndarray) -> np.ndarray:
        if leaf.ndim == 1:
            return leaf
        width = widths["target" if field.startswith("target") else "source"]
        return np.pad(leaf, [(0, 0), (0, width - leaf.shape[-1])], constant_values=-1 if field == "slots" else 0)

    return GeneratorBatch(*(np.stack([widen(field, getattr(part, field)) for part in drawn])
                            for field in GeneratorBatch._fields))


def _line(pending: list[dict], step: int, start: dict, state: GeneratorState) -> dict:
    """Means over the updates since the last line, a list over seeds for each figure."""
    fetched = jax.device_get(pending)
    line = {name: np.mean([metrics[key] for metrics in fetched], axis=0).tolist() for key, name in _NAMES.items()}
    squares = jax.tree.map(lambda new, old: np.sum((np.asarray(new) - np.asarray(old)) ** 2, axis=(1, 2, 3)),
                           state.label_prompts, start)
    return {"step": step} | line | {"prompt_distance": np.sqrt(sum(jax.tree.leaves(squares))).tolist()}


def _postfix(line: dict) -> str:
    names = ("loss", "loss_disc", "loss_dist", "grad_norm", "meta_grad_norm", "prompt_norm", "prompt_distance")
    return ", ".join(f"{name} {np.mean(line[name]):.3g}" for name in names if name in line)


def _stop_if_not_finite(pending: list[dict], step: int, num_steps: int, seeds: Sequence[int], title: str) -> None:
    finite = np.asarray(jax.device_get([metrics["finite"] for metrics in pending]))
    if not finite.all():
        update, seed = np.argwhere(~finite)[0]
        raise UserError(f"{title}: the loss or its gradient is not finite at update {step - len(pending) + update + 1} "
                        f"of {num_steps} (seed {seeds[seed]}); the prompts were left as they were before that update: "
                        "lower generator.learning_rate, or set generator.backbone.dtype to float32.")


def _shades(backbone: Backbone, task: Task, batch: GeneratorBatch, weights: np.ndarray) -> list[dict]:
    """Token weights of a batch, for the report."""
    examples = []
    for row in range(len(batch.label)):
        length = int(batch.target_mask[row].sum())
        if not length:
            continue
        source = batch.source[row][(batch.source_mask[row]) & (batch.slots[row] < 0)]
        examples.append({
            "sentence1": to_texts(backbone.tokenizer, [source])[0],
            "label": task.labels[int(batch.label[row])],
            "tokens": backbone.tokenizer.convert_ids_to_tokens(batch.target[row, :length].tolist()),
            "weights": weights[row, :length].tolist(),
        })
    return examples


def _fill(folder: pathlib.Path, *, prompts_: dict, lines: list[dict], meta: dict, examples: list[dict]) -> None:
    prompts.save(folder / "prompts.safetensors", prompts_)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    write_json(folder / "token_weights.json", examples)
    write_json(folder / "meta.json", meta)
