"""Prompts that are trained on something else before the few shots: PPT, SPoT and OPTIMA.

A :class:`SourceKind` says what its prompt is trained on, for how long and with which settings;
:func:`train_source_prompt` trains it. PPT and SPoT are prompt tuning on another labelled set: sentence pairs of plain
documents, and the whole training set of a source task. OPTIMA also sees unlabelled pairs of the target task
(:func:`optima_loss`). Each keeps the prompt that is best on a slice of the source's labelled set that is held out from
training; the target's labels are never seen.

``Departure:`` PPT keeps its last prompt, SPoT and OPTIMA the one that is best on the source's own validation set, and
they stop early after 30 % of the updates without gain.

References:
  Gu, Han, Liu, Huang: PPT: Pre-trained Prompt Tuning for Few-shot Learning, https://arxiv.org/abs/2109.04332, 2022.
  Vu, Lester, Constant, Al-Rfou, Cer: SPoT: Better Frozen Model Adaptation through Soft Prompt Transfer,
  https://arxiv.org/abs/2110.07904, 2022.
  Guo, Li, Yu: Improving the Sample Efficiency of Prompt Tuning with Domain Adaptation,
  https://arxiv.org/abs/2210.02952, 2022 (OPTIMA).
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dawgen_jax import prng, prompts
from dawgen_jax.backbones.base import Backbone, Model
from dawgen_jax.config import Config, TransferConfig
from dawgen_jax.data import batches
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.errors import UserError
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.methods.base import Reading, Stage, Trained, settings_of
from dawgen_jax.methods.rows import full
from dawgen_jax.methods.trained import PROMPT
from dawgen_jax.methods.tune import compiled_scores, tune
from dawgen_jax.methods.verbalizer import cross_entropy, weighted_mean
from dawgen_jax.tasks import Task
from dawgen_jax.training.fit import Schedule, fit
from dawgen_jax.training.optimisers import prompt_optimiser
from dawgen_jax.training.placement import Placement
from dawgen_jax.training.step import init_state, train_step

__all__ = ["SOURCES", "AlignmentBatch", "SourceData", "SourceKind", "SourceTuned", "hold_out", "optima_loss",
           "optima_optimiser", "ppt_optimiser", "train_source_prompt"]

_TARGET_STRIDE = 1_000_003  # the shuffles of target and source have different seeds
_START = ("classifier.prompt_length", "classifier.prompt_init", "classifier.prompt_place", "classifier.max_tokens",
          "transfer.held_out")
_TUNING = (*_START, *(f"classifier.{field}" for field in PROMPT.fields))


@dataclasses.dataclass(frozen=True)
class SourceKind:
    """What a prompt is trained on before the few shots.

    Attributes:
      name: as published; ``Method.source`` holds it.
      labelled: the labelled set: sentence pairs of documents, or the source task's training set.
      unlabelled: whether the target task's training pool is seen too, without its labels.
      budget: config -> updates, examples an update, and updates between two evaluations.
      fields: of ``Config``, that its training also reads, dotted.
    """

    name: str
    labelled: Literal["documents", "task"]
    budget: Callable[[Config], tuple[int, int, int]]
    fields: tuple[str, ...]
    unlabelled: bool = False

    def stage(self, config: Config) -> Stage:
        """Its training under a configuration."""
        return Stage((("source",),), "sum", *self.budget(config))

    def settings(self, config: Config) -> dict[str, Any]:
        """The fields that its training reads, dotted, with their values (without the data's digests)."""
        reading = Reading(config)
        self.budget(reading)
        return settings_of(config, {*self.fields, *reading.fields})

    def source_task(self, task: Task) -> str:
        """The name of the labelled task for a target task; empty for documents.

        Raises:
          UserError: the target has no source task.
        """
        if self.labelled == "task" and not task.source:
            raise UserError(f"{self.name} has no source task for {task.name}; set Task.source to the name of a task "
                            "with a large labelled set, or leave this method out for it.")
        return task.source if self.labelled == "task" else ""


SOURCES: dict[str, SourceKind] = {kind.name: kind for kind in (
    SourceKind("PPT", "documents",
               lambda config: (config.transfer.ppt_steps, config.transfer.ppt_batch_size,
                               config.classifier.full_eval_every),
               (*_START, "transfer.documents", "transfer.ppt_pairs", "transfer.ppt_learning_rate",
                "transfer.ppt_clip_norm", "transfer.ppt_weight_decay")),
    SourceKind("SPoT", "task", lambda config: full(config.classifier, 0), _TUNING),
    SourceKind("OPTIMA", "task",
               lambda config: (config.transfer.optima_steps, config.transfer.optima_batch_size,
                               config.classifier.eval_every),
               (*_TUNING, "transfer.optima_radius", "transfer.optima_domain_weight", "transfer.optima_domain_rate"),
               unlabelled=True),
)}
"""The kinds of source prompts by name."""


class SourceData(NamedTuple):
    """What a source prompt is trained on.

    Attributes:
      train: labelled examples [N, ...].
      dev: labelled examples that select the prompt.
      target: examples of the target task [M, ...], whose labels are not read; None if none are used.
    """

    train: ClassifierBatch
    dev: ClassifierBatch
    target: ClassifierBatch | None = None


class SourceTuned(NamedTuple):
    """The prompt [P, H] to start from, its accuracy on the held-out slice, and the update that it is from."""

    prompt: np.ndarray
    accuracy: float
    step: int


def hold_out(data: ClassifierBatch, most: int, seed: int) -> tuple[ClassifierBatch, ClassifierBatch]:
    """Divide a labelled set at random: (training set, slice that selects the prompt).

    Args:
      data: N examples, two or more.
      most: size of the slice, or N / 10 if that is less, but at least one.
      seed: of the division.

    Raises:
      UserError: the set has fewer than two examples.
    """
    count = len(data.label)
    if count < 2:
        raise UserError(f"A source prompt cannot be trained on {count} example(s): give its task a larger training "
                        "set.")
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, min(most, count // 10))
    return batches.take(data, order[held:]), batches.take(data, order[:held])


def ppt_optimiser(config: TransferConfig) -> optax.GradientTransformation:
    """Adam as PPT pre-trains with it: rate ``eta / sqrt(t)`` at update t = 1, 2, ..., clipped gradient, decay.

    Args:
      config: ppt_learning_rate (eta), ppt_clip_norm and ppt_weight_decay (times the rate) are read.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.ppt_clip_norm),
        optax.adamw(lambda count: config.ppt_learning_rate / jnp.sqrt(count + 1.0),
                    weight_decay=config.ppt_weight_decay),
    )


@functools.cache
def _pretrained(config: TransferConfig) -> Trained:
    """A prompt with PPT's optimiser; one value a configuration, by which compiled programs are cached."""
    return dataclasses.replace(PROMPT, name="a prompt on sentence pairs", rate="transfer.ppt_learning_rate",
                               optimiser=lambda classifier, num_steps, rate: ppt_optimiser(config))


class AlignmentBatch(NamedTuple):
    """One batch of OPTIMA.

    Attributes:
      source: labelled examples of the source task [B, ...].
      target: examples of the target task [B, ...]; label is not read.
      seed: uint32 [B] seed of each source example's random perturbation.
    """

    source: ClassifierBatch
    target: ClassifierBatch
    seed: np.ndarray


def optima_loss(params: dict, theta, batch: AlignmentBatch, *, model: Model, label_ids: tuple[int, ...],
                config: TransferConfig, tail: int | None = None):
    """OPTIMA's loss of a batch.

    With class scores s(x), answer states h(x), embeddings x of the source's tokens, x* = x + delta and D the
    cross-entropy of the discriminator on states that send no gradient to the prompt (source is class 1, target 0)::

        CE(s(x), y) + KL(softmax s(x) || softmax s(x*)) + H(softmax s(x*)) + D(h(x)) + D(h(x_target)) + w D(h(x*))

    So the prompt descends the first three and the discriminator the last three. s(x) sends no gradient through the
    KL. For each example delta starts at ``u / sqrt(n H)``, u uniform in [-1, 1) at its n tokens, and takes one step of
    length r along the gradient of ``KL - w D(h(x*))``: the domain loss is reversed, so that the ascent makes the
    perturbed example harder to classify and easier to recognise as a source example.

    Args:
      params: {'prompt': [P, H], 'discriminator': {'kernel': [H, 2], 'bias': [2]}}.
      theta: parameters of the backbone.
      batch: leaves [B, ...].
      model: the backbone.
      label_ids: label words, the same for source and target.
      config: optima_radius (r) and optima_domain_weight (w) are read.
      tail: number of tokens of a row after the prompt; None puts the prompt in front.

    Returns:
      A scalar.

    References:
      Guo, Li, Yu: Improving the Sample Efficiency of Prompt Tuning with Domain Adaptation,
      https://arxiv.org/abs/2210.02952, 2022, and its code.
      Ganin et al.: Domain-Adversarial Training of Neural Networks, https://arxiv.org/abs/1505.07818, 2016.
    """
    source, target = batch.source, batch.target
    forward = functools.partial(_forward, theta=theta, model=model, label_ids=label_ids, tail=tail)
    scores, states = forward(params["prompt"], source)
    _, target_states = forward(params["prompt"], target)
    clean = jax.lax.stop_gradient(jax.nn.log_softmax(scores, axis=-1))
    fixed = jax.lax.stop_gradient(params)

    def ascended(delta):
        perturbed_scores, perturbed_states = forward(fixed["prompt"], source, delta=delta)
        domain = weighted_mean(_domain_loss(fixed["discriminator"], perturbed_states, 1), source.weight)
        return _divergence(clean, perturbed_scores, source.weight) - config.optima_domain_weight * domain

    def recognised(states, domain):
        return _domain_loss(params["discriminator"], jax.lax.stop_gradient(states), domain)

    delta = _random_start(batch, model.width, params["prompt"].dtype)
    gradient = jax.grad(ascended)(delta)
    length = jnp.sqrt(jnp.sum(gradient**2, axis=(1, 2), keepdims=True))
    delta = jax.lax.stop_gradient(delta + config.optima_radius * gradient / jnp.maximum(length, 1e-8))
    perturbed_scores, perturbed_states = forward(params["prompt"], source, delta=delta)
    perturbed = jax.nn.log_softmax(perturbed_scores, axis=-1)
    entropy = -jnp.sum(jnp.exp(perturbed) * perturbed, axis=-1)
    terms = cross_entropy(scores, source.label) + entropy
    terms += recognised(states, 1) + config.optima_domain_weight * recognised(perturbed_states, 1)
    return (weighted_mean(terms, source.weight) + _divergence(clean, perturbed_scores, source.weight)
            + weighted_mean(recognised(target_states, 0), target.weight))


def _forward(prompt, batch: ClassifierBatch, *, theta, model: Model, label_ids, tail, delta=None):
    """Class scores [B, L] and answer states [B, H], the tokens' embeddings moved by ``delta`` [B, T, H]."""
    embeddings, mask = prompts.insert(theta, batch.tokens, batch.mask, prompt, model=model, tail=tail, delta=delta)
    states = model.answer_states(theta, embeddings, mask)
    return model.logits(theta, states, jnp.array(label_ids)), states


def _domain_loss(discriminator: dict, states, domain: int):
    """Cross-entropy [B] of the discriminator on states [B, H] of one domain."""
    logits = states.astype(discriminator["kernel"].dtype) @ discriminator["kernel"] + discriminator["bias"][None]
    return cross_entropy(logits, jnp.full(len(states), domain))


def _divergence(clean, scores, weight):
    """Mean KL(clean || softmax scores) over a batch, for log-probabilities and scores [B, L]."""
    each = jnp.sum(jnp.exp(clean) * (clean - jax.nn.log_softmax(scores, axis=-1)), axis=-1)
    return weighted_mean(each, weight)


def _random_start(batch: AlignmentBatch, width: int, dtype):
    """Where the perturbation [B, T, H] starts: about as long as 1 / sqrt(3), whatever the length of the example."""
    mask = batch.source.mask

    def uniform(seed):
        return jax.random.uniform(prng.key(seed), (mask.shape[1], width), dtype, -1, 1)

    sizes = jnp.maximum(jnp.sum(mask, axis=1), 1) * width
    return jax.vmap(uniform)(batch.seed) * mask[..., None] / jnp.sqrt(sizes.astype(dtype))[:, None, None]


def _all_but_bias(params):
    return jax.tree.map_with_path(lambda path, leaf: "bias" not in jax.tree_util.keystr(path), params)


def optima_optimiser(config: Config) -> optax.GradientTransformation:
    """OPTIMA's two optimisers: that of prompt tuning for the prompt, and AdamW for the discriminator.

    Each clips its own gradient; both rates decay along a cosine over ``transfer.optima_steps``; the discriminator's
    bias is not decayed.

    Args:
      config: ``classifier``'s optimiser fields, optima_steps and optima_domain_rate are read.
    """
    steps = config.transfer.optima_steps
    discriminator = optax.chain(
        optax.clip_by_global_norm(config.classifier.clip_norm),
        optax.adamw(optax.cosine_decay_schedule(config.transfer.optima_domain_rate, steps),
                    weight_decay=config.classifier.weight_decay, mask=_all_but_bias),
    )
    return optax.partition({"prompt": prompt_optimiser(config.classifier, steps), "discriminator": discriminator},
                           {"prompt": "prompt", "discriminator": "discriminator"})


def train_source_prompt(kind: SourceKind, prompt: np.ndarray, backbone: Backbone, data: SourceData, *, config: Config,
                        label_ids: tuple[int, ...], placement: Placement, seed: int, folder: pathlib.Path, title: str,
                        metrics_log: MetricsLog, tail: int | None = None) -> SourceTuned:
    """Train a source prompt to the end, from the newest checkpoint in ``folder`` if there is one.

    Args:
      kind: of :data:`SOURCES`.
      prompt: the start [P, H].
      backbone: the frozen model, placed.
      data: encoded sets; ``target`` is needed where ``kind.unlabelled``.
      config: ``classifier`` and ``transfer`` are read.
      label_ids: label words of the labelled set.
      placement: devices.
      seed: with the update it determines every batch.
      folder: where unfinished progress is kept.
      title: for the progress bar and for errors.
      metrics_log: takes a line an update.
      tail: number of tokens of a row after the prompt; None puts the prompt in front.

    Returns:
      The prompt that is best on ``data.dev``; the start is a candidate.

    Raises:
      UserError: a loss or gradient is not finite, or the target's examples are missing.
    """
    stage = kind.stage(config)
    if kind.unlabelled:
        return _align(stage, prompt, backbone, data, config=config, label_ids=label_ids, placement=placement,
                      seed=seed, folder=folder, title=title, metrics_log=metrics_log, tail=tail)
    trained = _pretrained(config.transfer) if kind.labelled == "documents" else PROMPT
    tuned = tune(trained, prompt[None], backbone, {"source": [data.train]}, [data.dev], [stage],
                 config=config.classifier, label_ids=label_ids, placement=placement, seeds=(seed,), folder=folder,
                 title=title, metrics_log=metrics_log, tail=tail)
    return SourceTuned(np.asarray(tuned.params)[0], float(tuned.accuracy[0]), int(tuned.step[0]))


def _align(stage: Stage, prompt: np.ndarray, backbone: Backbone, data: SourceData, *, config: Config,
           label_ids: tuple[int, ...], placement: Placement, seed: int, folder: pathlib.Path, title: str,
           metrics_log: MetricsLog, tail: int | None) -> SourceTuned:
    """OPTIMA's training."""
    if data.target is None or not len(data.target.label):
        raise UserError(f"{title}: OPTIMA needs examples of the target task; give it a training set.")
    classifier, width = config.classifier, backbone.model.width
    bound, random = width**-0.5, np.random.default_rng(seed)
    params = {"prompt": np.asarray(prompt, np.float32),
              "discriminator": {"kernel": random.uniform(-bound, bound, (width, 2)).astype(np.float32),
                                "bias": random.uniform(-bound, bound, 2).astype(np.float32)}}
    loss = functools.partial(optima_loss, model=backbone.model, label_ids=label_ids, config=config.transfer,
                             tail=tail)
    tx = optima_optimiser(config)  # one source: nothing to aggregate
    dev = batches.pad_rows(data.dev, placement.rows(len(data.dev.label)))
    scores = compiled_scores(PROMPT, classifier, backbone.model, label_ids, placement, shared=True, tail=tail)

    def evaluate(params) -> tuple[np.ndarray, dict]:
        scored = np.asarray(scores(params["prompt"][None], backbone.theta, dev))[0]
        accuracy = np.sum((scored.argmax(axis=1) == dev.label) * dev.weight) / dev.weight.sum()
        return accuracy, {"dev_accuracy": float(accuracy)}

    fitted = fit(
        placement.compile_step(functools.partial(train_step, loss_fn=loss, tx=tx), batch_axis=1, model=backbone.model),
        init_state(params, tx), backbone.theta,
        functools.partial(_draw, data, stage.batch_size, seed, rows=placement.rows(stage.batch_size),
                          multiple=classifier.pad_multiple),
        schedule=Schedule(stage.num_steps, stage.eval_every, 1, classifier.checkpoint_every), placement=placement,
        folder=folder / "alignment", log=metrics_log, title=title,
        advice="lower classifier.learning_rate or transfer.optima_radius, or set classifier.backbone.dtype to float32.",
        figures=lambda metrics: {"loss": metrics["loss"][0], "grad_norm": metrics["grad_norm"][0],
                                 "update_norm": metrics["update_norm"], "param_norm": metrics["param_norm"]},
        evaluate=evaluate, seeds=(seed,), show=("dev_accuracy", "loss"))
    return SourceTuned(np.asarray(fitted.best.params["prompt"]), float(fitted.best.score), int(fitted.best.step))


def _draw(data: SourceData, size: int, seed: int, step: int, *, rows: int, multiple: int) -> AlignmentBatch:
    """The batch of one step, leaves [1, rows, ...]; examples above ``size`` are padding of weight 0."""
    def of(part: ClassifierBatch, shift: int) -> ClassifierBatch:
        index = batches.epoch_batches(len(part.label), size, seed + shift, step)
        drawn = batches.pad_rows(batches.take(part, index), rows)
        return jax.tree.map(lambda leaf: leaf[None], batches.trim(drawn, multiple))

    seeds = np.random.default_rng((seed, step)).integers(0, 2**32, (1, rows), np.uint32)
    return AlignmentBatch(of(data.train, 0), of(data.target, _TARGET_STRIDE), seeds)
