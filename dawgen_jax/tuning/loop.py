"""The host loop of prompt tuning: K seeds in one program, best dev prompt kept, resumable at any evaluation.

Everything random is a function of (seed, step), so that a run that was interrupted ends with the same numbers.
"""

from __future__ import annotations

import functools
import logging
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from tqdm import tqdm

from dawgen_jax import optim, sharding
from dawgen_jax.checkpoint import Checkpoints
from dawgen_jax.config import ClassifierConfig, UserError
from dawgen_jax.data import batches
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.evaluation import trim
from dawgen_jax.surgery.aggregator import aggregator
from dawgen_jax.t5.config import T5Config
from dawgen_jax.tuning import losses
from dawgen_jax.tuning.step import init_state, prompt_step
from dawgen_jax.tuning.strategies import Phase

__all__ = ["Tuned", "compiled_scores", "tune"]

log = logging.getLogger(__name__)
SECONDS_BETWEEN_CHECKPOINTS = 10.0
_SOURCE_STRIDE = 1_000_003  # sets seeds of the sources' shuffles apart


class Tuned(NamedTuple):
    """What tuning K seeds gives: the best prompts [K, P, H], their dev accuracy [K] and the step they are from [K]."""

    prompts: np.ndarray
    accuracy: np.ndarray
    step: np.ndarray


class _Progress(NamedTuple):
    """All that a restart needs, saved after an evaluation."""

    state: object
    start: np.ndarray
    best: Tuned


@functools.lru_cache(maxsize=32)
def compiled_scores(t5: T5Config, verbalizer: losses.Verbalizer, mesh: Mesh, *, shared: bool) -> Callable:
    """Compile class scores for K prompts: ``(prompts [K, P, H], theta, batch) -> [K, B, L]``.

    Args:
      t5: the backbone's configuration.
      verbalizer: label words and mask.
      mesh: the data mesh.
      shared: one batch [B, ...] for all prompts, or one for each, [K, B, ...].
    """
    score = functools.partial(losses.class_scores, t5=t5, verbalizer=verbalizer)
    many = jax.vmap(score, in_axes=(0, None, None if shared else 0))
    return sharding.compile_score(many, mesh, batch_axis=0 if shared else 1)


def _transform(phase: Phase, config: ClassifierConfig) -> optax.GradientTransformation:
    combine = aggregator(phase.aggregator, epsilon=config.epsilon, scope=config.surgery_scope)
    return optax.chain(combine, optim.adafactor(config, phase.num_steps))


@functools.lru_cache(maxsize=32)
def _compiled_step(phase: Phase, config: ClassifierConfig, t5: T5Config, verbalizer: losses.Verbalizer,
                   mesh: Mesh) -> Callable:
    """The step of K seeds; arms with equal phases share one program."""
    step = functools.partial(prompt_step, t5=t5, verbalizer=verbalizer, tx=_transform(phase, config))
    return sharding.compile_step(jax.vmap(step, in_axes=(0, None, 0)), mesh, batch_axis=2)


def _draw(sources: Sequence[Sequence[ClassifierBatch]], seeds: Sequence[int], step: int, size: int, rows: int,
          multiple: int) -> ClassifierBatch:
    """The batch [K, S, rows, T] of a step: ``size`` examples of each source, the rest padding of weight 0."""
    weight = (np.arange(rows) < size).astype(np.float32)
    stacked = []
    for k, seed in enumerate(seeds):
        per_source = []
        for s, source in enumerate(sources):
            index = batches.epoch_batches(len(source[k].label), size, seed + _SOURCE_STRIDE * s, step)
            index = np.concatenate([index, np.repeat(index[:1], rows - size)])
            drawn = ClassifierBatch(*(leaf[index] for leaf in source[k]))
            per_source.append(drawn._replace(weight=drawn.weight * weight))
        stacked.append(_stack(per_source))
    return trim(_stack(stacked), multiple)


def _stack(parts: Sequence[ClassifierBatch]) -> ClassifierBatch:
    """Stack batches on a new leading axis, padding their token axes to the widest."""
    width = max(part.mask.shape[-1] for part in parts)

    def widen(leaf: np.ndarray) -> np.ndarray:
        return np.pad(leaf, [(0, 0)] * (leaf.ndim - 1) + [(0, width - leaf.shape[-1])])

    same = [part._replace(tokens=widen(part.tokens), mask=widen(part.mask)) for part in parts]
    return ClassifierBatch(*(np.stack(leaves) for leaves in zip(*same, strict=True)))


def _pad_examples(data: ClassifierBatch, rows: int) -> ClassifierBatch:
    extra = rows - data.label.shape[1]
    return ClassifierBatch(*(np.pad(leaf, [(0, 0), (0, extra)] + [(0, 0)] * (leaf.ndim - 2)) for leaf in data))


def tune(prompt: np.ndarray, theta, sources: dict[str, Sequence[ClassifierBatch]], dev: Sequence[ClassifierBatch],
         plan: Sequence[Phase], *, config: ClassifierConfig, t5: T5Config, verbalizer: losses.Verbalizer, mesh: Mesh,
         seeds: Sequence[int], folder: pathlib.Path, title: str,
         record: Callable[[list[dict]], None], forget: Callable[[int], None]) -> Tuned:
    """Tune a prompt for each of K seeds through the phases of an arm.

    A prompt is kept as best where its dev accuracy is strictly above all before it; the starting prompt is a
    candidate. A second phase starts from the best prompt of the first with a fresh optimiser.

    Args:
      prompt: the starting prompts [K, P, H], or one [P, H] for every seed.
      theta: frozen parameters, already placed on the mesh.
      sources: data of each source name, one set [N_k, ...] a seed.
      dev: dev set of each seed, all of one size.
      plan: phases of the arm.
      config: rates, sizes, scopes.
      t5: the backbone's configuration.
      verbalizer: label words and mask.
      mesh: the data mesh.
      seeds: K seeds; with a step they determine every batch.
      folder: where unfinished progress is kept.
      title: for the progress bar and for errors.
      record: takes the metric lines (values [K]) of the updates since the last call.
      forget: drops the lines recorded after a step, when progress is restored to it.

    Raises:
      UserError: a loss or gradient is not finite.
    """
    count = len(seeds)
    start = np.broadcast_to(prompt, (count, *prompt.shape[-2:]))
    best = Tuned(start, np.full(count, -1.0), np.zeros(count, np.int64))
    dev_rows = sharding.rows_for(mesh, dev[0].label.shape[0])
    dev_batch = _pad_examples(_stack(dev), dev_rows)
    scores = compiled_scores(t5, verbalizer, mesh, shared=False)
    done = 0
    for number, phase in enumerate(plan):
        step = _compiled_step(phase, config, t5, verbalizer, mesh)
        start = best.prompts
        state = jax.vmap(functools.partial(init_state, tx=_transform(phase, config)))(jnp.array(start))
        # Each phase has a folder: their optimiser states differ in kind.
        with Checkpoints(folder / f"phase{number}") as checkpoints:
            progress = _Progress(state, start, best)
            restored = checkpoints.restore(progress)
            if restored:
                progress = restored[1]
            # Placed as the step gives it back, or the step would be compiled once for each placement.
            progress = progress._replace(state=jax.device_put(progress.state, sharding.replicated(mesh)))
            first = int(progress.state.step[0])
            best = progress.best
            if first == phase.num_steps and number + 1 < len(plan):
                done += first
                continue  # and the lines of the phases after it are kept
            forget(done + first)
            data = [sources[name] for name in phase.sources]
            best = _run_phase(step, scores, theta, data, dev_batch, phase, progress, done, config=config,
                              rows=sharding.rows_for(mesh, phase.batch_size), seeds=seeds, checkpoints=checkpoints,
                              title=title, record=record)
        done += phase.num_steps
    return best


def _run_phase(update: Callable, scores: Callable, theta, data, dev: ClassifierBatch, phase: Phase,
               progress: _Progress, done: int, *, config: ClassifierConfig, rows: int, seeds, checkpoints: Checkpoints,
               title: str, record) -> Tuned:
    state, start, best = progress
    first = int(np.asarray(state.step)[0])
    if first == done == 0:  # a later phase starts from a prompt that is scored already
        best, line = _evaluate(scores, state, start, theta, dev, best, done)
        record([line])
    pending, saved = [], time.monotonic()
    with tqdm(total=phase.num_steps, initial=first, desc=title, unit="step", leave=False) as bar:
        for step in range(first, phase.num_steps):
            batch = _draw(data, seeds, step, phase.batch_size, rows, config.pad_multiple)
            state, metrics = update(state, theta, batch)
            pending.append(metrics)
            if (step + 1) % phase.eval_every and step + 1 != phase.num_steps:
                continue
            _stop_if_not_finite(state, seeds, phase, title)
            lines = _lines(pending, phase.sources, done + step + 1)
            best, line = _evaluate(scores, state, start, theta, dev, best, done + step + 1)
            record([*lines[:-1], lines[-1] | line])
            bar.update(step + 1 - bar.n)
            bar.set_postfix_str(_postfix(lines[-1] | line))
            pending = []
            if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS or step + 1 == phase.num_steps:
                checkpoints.save(step + 1, _Progress(state, start, best))
                saved = time.monotonic()
    for seed, counts in zip(seeds, line["histogram"] if first < phase.num_steps else (), strict=False):
        if max(counts) == sum(counts):
            log.warning("%s, seed %s: the tuned prompt predicts one class for every dev example.", title, seed)
    return best


def _evaluate(scores: Callable, state, start, theta, dev: ClassifierBatch, best: Tuned, step: int):
    scored = np.asarray(scores(state.params, theta, dev))
    predicted = scored.argmax(axis=-1)
    valid = dev.weight > 0
    accuracy = ((predicted == dev.label) & valid).sum(axis=1) / valid.sum(axis=1)
    histogram = [np.bincount(row[ok], minlength=scored.shape[-1]).tolist()
                 for row, ok in zip(predicted, valid, strict=True)]
    better = accuracy > best.accuracy
    params = np.asarray(state.params)
    distance = np.sqrt(((params - start) ** 2).sum(axis=(1, 2)))
    best = Tuned(np.where(better[:, None, None], params, best.prompts), np.where(better, accuracy, best.accuracy),
                 np.where(better, step, best.step))
    return best, {"step": step, "dev_accuracy": accuracy.tolist(), "prompt_distance": distance.tolist(),
                  "histogram": histogram}


def _lines(pending: list[dict], sources: Sequence[str], last: int) -> list[dict]:
    """One line an update, with a list over seeds for each figure."""
    lines = []
    for offset, metrics in enumerate(jax.device_get(pending)):
        line = {"step": last - len(pending) + 1 + offset}
        for s, name in enumerate(sources):
            line[f"loss_{name}"] = metrics["loss"][:, s].tolist()
            line[f"grad_norm_{name}"] = metrics["grad_norm"][:, s].tolist()
        names = ["update_norm", "prompt_norm"] + (["cosine", "conflict", "projected_share"] if len(sources) > 1 else [])
        lines.append(line | {name: metrics[name].tolist() for name in names})
    return lines


def _postfix(line: dict) -> str:
    mean = {key: float(np.mean(value)) for key, value in line.items() if key not in ("step", "histogram")}
    shown = [f"{short} {mean[key]:.3g}" for key, short in (
        ("loss_real", "loss real"), ("loss_synthetic", "syn"), ("grad_norm_real", "|g|"), ("conflict", "conflict"),
        ("prompt_norm", "|P|"), ("prompt_distance", "moved"), ("dev_accuracy", "dev")) if key in mean]
    return ", ".join([*shown, f"classes {line['histogram'][0]}"])


def _stop_if_not_finite(state, seeds, phase: Phase, title: str) -> None:
    ok = np.asarray(state.ok)
    if not ok.all():
        failed = int(np.flatnonzero(~ok)[0])
        raise UserError(
            f"{title}: the loss or its gradient is not finite at update {int(np.asarray(state.step)[failed]) + 1} of "
            f"{phase.num_steps} (seed {seeds[failed]}); the prompt was left as it was before that update: lower "
            "classifier.learning_rate, or set classifier.backbone.dtype to float32.")
