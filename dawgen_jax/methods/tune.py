"""Running a method's stages: K seeds in one program, the best dev parameters kept, resumable.

Everything random is a function of (seed, step), so that a run that was interrupted ends with the same numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dawgen_jax.backbones.base import Backbone, Model
from dawgen_jax.config import ClassifierConfig
from dawgen_jax.data import batches
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.methods.base import Stage, Trained
from dawgen_jax.methods.contexts import Contexts
from dawgen_jax.methods.verbalizer import cross_entropy, weighted_mean
from dawgen_jax.surgery import aggregator
from dawgen_jax.training.fit import Best, Schedule, fit
from dawgen_jax.training.placement import Placement
from dawgen_jax.training.step import init_state, train_step

__all__ = ["Data", "Pool", "Tuned", "begin", "compiled_scores", "compiled_step", "draw", "pool", "transform", "tune"]

log = logging.getLogger(__name__)
_SOURCE_STRIDE = 1_000_003  # the shuffles of the sources have different seeds

Data = dict[str, Sequence[ClassifierBatch]]
"""Data by name ('real', 'synthetic'), one set [N_k, ...] a seed."""


class Tuned(NamedTuple):
    """What tuning K seeds gives: the best parameters, leaves [K, ...], on their devices; their dev accuracy [K]; the
    step they are from [K]; the learning rate that was kept where several were tried, else 0; and the parameters after
    the last update, [K, ...], unless they are a whole backbone."""

    params: Any
    accuracy: np.ndarray
    step: np.ndarray
    rate: float = 0.0
    last: Any = None


@functools.lru_cache(maxsize=64)
def compiled_scores(trained: Trained, config: ClassifierConfig, model: Model, label_ids: tuple[int, ...],
                    placement: Placement, *, shared: bool, tail: int | None = None) -> Callable:
    """Compile class scores for K sets of parameters: ``(params [K, ...], theta, batch) -> [K, B, L]``.

    Args:
      trained: what the parameters are.
      config: of the classifier.
      model: the backbone.
      label_ids: label words.
      placement: devices.
      shared: one batch [B, ...] for all, or one for each, [K, B, ...].
      tail: number of tokens of a row after the prompt; None puts the prompt in front.
    """
    score = functools.partial(trained.scores, model=model, label_ids=label_ids, config=config, tail=tail)
    many = jax.vmap(score, in_axes=(0, None, None if shared else 0))
    return placement.compile_score(many, batch_axis=0 if shared else 1, model=model)


def _loss(params, theta, batch: ClassifierBatch, *, scores: Callable, smoothing: float):
    return weighted_mean(cross_entropy(scores(params, theta, batch), batch.label, smoothing), batch.weight)


def transform(trained: Trained, stage: Stage, config: ClassifierConfig, rate: float) -> optax.GradientTransformation:
    """The aggregator of a stage, unless it has one source, and then the optimiser.

    Args:
      trained: whose optimiser it is.
      stage: names the aggregator and its sources.
      config: epsilon and scope of the aggregator, settings of the optimiser.
      rate: learning rate, if the method tries several.
    """
    optimiser = trained.optimiser(config, stage.num_steps, rate)
    if len(stage.sources) == 1:
        return optimiser
    return optax.chain(aggregator(stage.aggregator, epsilon=config.epsilon, scope=config.surgery_scope), optimiser)


def compiled_step(trained: Trained, stage: Stage, config: ClassifierConfig, rate: float, model: Model,
                  label_ids: tuple[int, ...], placement: Placement, tail: int | None = None) -> Callable:
    """The step of K seeds; stages that differ in what is drawn for them share one program."""
    alike = dataclasses.replace(stage, sources=((),) * len(stage.sources), in_turn=False, batch_size=0, eval_every=0)
    return _compiled_step(trained, alike, config, rate, model, label_ids, placement, tail)


@functools.lru_cache(maxsize=64)
def _compiled_step(trained: Trained, stage: Stage, config: ClassifierConfig, rate: float, model: Model,
                   label_ids: tuple[int, ...], placement: Placement, tail: int | None) -> Callable:
    scores = functools.partial(trained.scores, model=model, label_ids=label_ids, config=config, tail=tail)
    step = functools.partial(train_step, loss_fn=functools.partial(_loss, scores=scores, smoothing=stage.smoothing),
                             tx=transform(trained, stage, config, rate))
    return placement.compile_step(jax.vmap(step, in_axes=(0, None, 0)), batch_axis=2, model=model)


Pool = list[list[list[ClassifierBatch]]]
"""[S][K]: the sets of a source and seed: one set, or several that are taken in turn."""


def pool(data: Data, stage: Stage, count: int) -> Pool:
    """What each source draws from, for each of ``count`` seeds: its data pooled, or one set after the other."""
    pools = []
    for names in stage.sources:
        parts = [[data[name][k] for name in names] for k in range(count)]
        pools.append(parts if stage.in_turn else [[batches.concatenate(part)] for part in parts])
    return pools


def draw(pools: Pool, stage: Stage, seeds: Sequence[int], step: int, rows: int, multiple: int) -> ClassifierBatch:
    """The batch [K, S, rows, T] of a step.

    Pooled data are drawn in proportion to their sizes; data taken in turn for one pass each, one after the other: an
    epoch is a pass over each.

    Args:
      pools: of :func:`pool`.
      stage: its sources and batch size.
      seeds: K seeds; with a step they determine every batch.
      step: from 0.
      rows: examples of the rectangle; those above the batch size are padding of weight 0.
      multiple: of the token axis.
    """
    weight = (np.arange(rows) < stage.batch_size).astype(np.float32)
    stacked = []
    for k, seed in enumerate(seeds):
        per_source, shift = [], 0
        for source in pools:
            part, index = _place(source[k], stage.batch_size, seed + _SOURCE_STRIDE * shift, step)
            index = np.concatenate([index, np.repeat(index[:1], rows - stage.batch_size)])
            drawn = batches.take(part, index)
            per_source.append(drawn._replace(weight=drawn.weight * weight))
            shift += len(source[k])
        stacked.append(batches.stack(per_source))
    return batches.trim(batches.stack(stacked), multiple)


def _place(parts: Sequence[ClassifierBatch], size: int, seed: int, step: int) -> tuple[ClassifierBatch, np.ndarray]:
    """The set that a source's batch of this step is from, and the examples in it."""
    sizes = [len(part.label) for part in parts]
    passes = [-(-count // size) for count in sizes]
    epoch, place = divmod(step, sum(passes))
    turn = int(np.searchsorted(np.cumsum(passes), place, side="right"))
    number = step if len(parts) == 1 else epoch * passes[turn] + place - sum(passes[:turn])
    return parts[turn], batches.epoch_batches(sizes[turn], size, seed + _SOURCE_STRIDE * turn, number)


def tune(trained: Trained, prompts: np.ndarray, backbone: Backbone, data: Data, dev: Sequence[ClassifierBatch],
         plan: Sequence[Stage], *, config: ClassifierConfig, label_ids: tuple[int, ...], placement: Placement,
         seeds: Sequence[int], folder: pathlib.Path, title: str, metrics_log: MetricsLog, tail: int | None = None,
         contexts: Contexts | None = None) -> Tuned:
    """Train for each of K seeds through the stages of a method.

    Parameters are kept as best where their dev accuracy is strictly above all before; the start is a candidate. A
    second stage starts from the best of the first with a fresh optimiser. Where the method tries several learning
    rates, all stages run for each, and the best of all is kept.

    Args:
      trained: what is trained.
      prompts: the starting prompts [K, P, H].
      backbone: the frozen model, placed.
      data: sets of the sources.
      dev: dev set of each seed, all of one size.
      plan: stages of the method.
      config: rates, sizes, scopes.
      label_ids: label words.
      placement: devices.
      seeds: K seeds.
      folder: where unfinished progress is kept.
      title: for the progress bar and for errors.
      metrics_log: takes a line an update.
      tail: number of tokens of a row after the prompt; None puts the prompt in front.
      contexts: of texts in front of a prompt; None computes them in every batch that needs them.

    Raises:
      UserError: a loss or gradient is not finite.
    """
    contexts = contexts if trained.fixed else None
    if contexts:  # a set of more examples than are drawn is not worth computing beforehand
        drawn = sum(stage.num_steps * stage.batch_size for stage in plan)
        contexts.keep([*dev, *(one for sets in data.values() for one in sets if len(one.label) <= drawn)], title)
    attach = contexts.attach if contexts else lambda batch: batch
    start = [trained.init(backbone, config, len(label_ids), prompt, seed)
             for prompt, seed in zip(prompts, seeds, strict=True)]
    frozen = () if trained.weights else backbone.theta
    dev_batch = batches.stack([batches.pad_rows(one, placement.rows(len(one.label))) for one in dev])
    scores = compiled_scores(trained, config, backbone.model, label_ids, placement, shared=False, tail=tail)

    def run(rate: float, offset: int) -> tuple[Best, Any]:
        """All stages at one learning rate: the best parameters, and the last ones."""
        best, exact = None, str(float(rate)).removesuffix(".0")  # all digits: two rates share no folder
        for number, stage in enumerate(plan):
            here = start if best is None else [jax.tree.map(lambda leaf, k=k: leaf[k], best.params)
                                               for k in range(len(seeds))]
            tx = transform(trained, stage, config, rate)
            pools = pool(data, stage, len(seeds))
            evaluate = functools.partial(_evaluate, scores=scores, frozen=frozen, dev=dev_batch, attach=attach,
                                         start=None if trained.weights else
                                         jax.tree.map(lambda *leaves: np.stack(leaves), *here))
            fitted = fit(
                compiled_step(trained, stage, config, rate, backbone.model, label_ids, placement, tail),
                placement.create(functools.partial(begin, tx=tx), here, backbone.model), frozen,
                lambda step, stage=stage, pools=pools: attach(draw(
                    pools, stage, seeds, step, placement.rows(stage.batch_size), config.pad_multiple)),
                schedule=Schedule(stage.num_steps, stage.eval_every, 1, config.checkpoint_every), placement=placement,
                # Each stage has a folder: their optimiser states differ in kind.
                folder=folder / f"rate{exact}-phase{number}", log=metrics_log, title=title,
                advice=f"lower {trained.rate}, or set classifier.backbone.dtype to float32.",
                figures=functools.partial(_figures, names=["+".join(names) for names in stage.sources]),
                evaluate=evaluate, best=best, offset=offset, seeds=seeds,
                show=("dev_accuracy", "conflict", "param_norm", "distance"), model=backbone.model)
            best, offset = fitted.best, offset + stage.num_steps
        return best, fitted.state.params

    tuned, offset = None, 0
    for rate in config.fine_tuning.learning_rates if trained.weights else (0.0,):
        best, last = run(rate, offset)
        offset += sum(stage.num_steps for stage in plan) + 1  # the start of the next rate has its own line
        if tuned is None or best.score[0] > tuned.accuracy[0]:  # several rates are tried for one seed at a time
            tuned = Tuned(best.params, best.score, best.step, rate, None if trained.weights else last)
    predicted = {line["step"]: line["histogram"] for line in metrics_log.lines() if "histogram" in line}
    for k, (seed, step) in enumerate(zip(seeds, tuned.step, strict=True)):
        counts = predicted[int(step)][k] if int(step) in predicted else ()  # another process may write it late
        if counts and max(counts) == sum(counts):
            log.warning("%s, seed %s: one class is predicted for every dev example.", title, seed)
    return tuned


def begin(starts: Sequence, *, tx: optax.GradientTransformation):
    """The state of K seeds from K starts of a :class:`~dawgen_jax.methods.base.Trained`.

    Parameters are float32, whatever the backbone's are kept in: in bfloat16, .05 is not moved by 1e-4.
    """
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves).astype(jnp.float32), *starts)
    return jax.vmap(functools.partial(init_state, tx=tx))(params)


def _evaluate(params, *, scores: Callable, frozen, dev: ClassifierBatch, start, attach: Callable
              ) -> tuple[np.ndarray, dict]:
    """Dev accuracy [K], and the figures of an evaluation: predicted classes, and how far the parameters have moved."""
    scored = np.asarray(scores(params, frozen, attach(dev)))  # not attached for good: memory for all of dev at once
    predicted, valid = scored.argmax(axis=-1), dev.weight > 0
    accuracy = ((predicted == dev.label) & valid).sum(axis=1) / valid.sum(axis=1)
    histogram = [np.bincount(row[ok], minlength=scored.shape[-1]).tolist()
                 for row, ok in zip(predicted, valid, strict=True)]
    figures = {"dev_accuracy": accuracy.tolist(), "histogram": histogram}
    if start is not None:  # not of whole backbones: they would be copied to the host for it
        squares = jax.tree.map(lambda new, old: ((np.asarray(new) - old) ** 2).reshape(len(old), -1).sum(axis=1),
                               params, start)
        figures["distance"] = np.sqrt(sum(jax.tree.leaves(squares))).tolist()
    return accuracy, figures


def _figures(metrics: dict, *, names: Sequence[str]) -> dict:
    """What is logged of an update."""
    figures = {}
    for s, name in enumerate(names):
        figures |= {f"loss_{name}": metrics["loss"][:, s], f"grad_norm_{name}": metrics["grad_norm"][:, s]}
    both = ("cosine", "conflict", "projected_share") if len(names) > 1 else ()
    return figures | {name: metrics[name] for name in ("update_norm", "param_norm", *both)}
