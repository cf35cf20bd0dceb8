"""Does the meta-gradient of the weight net carry a signal, and do learned weights improve a virtual step?

    python -m benchmarks.meta_signal [--config mini] [--backbone mini-t5] [--task mini-snli] [--generator DawGen]
        [--seeds 13 21 42] [--updates 0 20 80 240] [--rates 0.02 0.1 1.0] [--per-label 2 8 0] [--draws 2]
        [--out FILE.jsonl]

A generator is tuned with the config's settings. At its prompts Q and weight net omega after each of ``--updates``
updates, for every step size of the virtual step and every number of examples per class (0: all shots), on ``--draws``
pairs of disjoint batches of the shots (all shots: one pair, the shots and the dev shots):

  cosine, halves    cosine of the meta-gradients in omega on the two halves of the batch (each half has a separate
                    virtual step and L_disc; halves with one example per class have no pair for L_dist)
  cosine, batches   cosine of the meta-gradients on the batch and on the other batch
  learned, uniform, random
                    L_disc(Q') - L_disc(Q) of a virtual step on the batch: with the weights from omega, with uniform
                    weights, and with omega's weights shuffled over the tokens (mean of 2 shuffles); negative is
                    better. 'same' is L_disc of the batch itself, 'other' of the other batch.

At update 0 the linear weight net gives uniform weights, so the three are equal. Prints a table of means over seeds and
draws, cosines with the standard deviation over seeds, and writes a JSON line per measurement.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import math
import pathlib
import statistics
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dawgen_jax import prng
from dawgen_jax.backbones.base import Backbone, Model
from dawgen_jax.config import Config, GeneratorConfig
from dawgen_jax.config.files import load_config
from dawgen_jax.data.batches import GeneratorBatch, class_balanced, stack
from dawgen_jax.data.encoding import generator_arrays
from dawgen_jax.generator import losses, meta, weight_net
from dawgen_jax.generator.step import disc_and_meta_gradient, generator_step, init_state, score_batch
from dawgen_jax.generator.variants import VARIANTS, fixed_by
from dawgen_jax.pipeline.generators import num_steps_of, start_prompts
from dawgen_jax.pipeline.inputs import TaskData, load_backbone, read_task
from dawgen_jax.results.render import Table, to_markdown
from dawgen_jax.training.placement import Placement

SHUFFLES = 2
CHANGES = [f"{weights}, {batch}" for batch in ("same", "other") for weights in ("learned", "uniform", "random")]


def measure(state, theta, first: GeneratorBatch, second: GeneratorBatch, rate, key, *, config: GeneratorConfig,
            model: Model) -> dict[str, jax.Array]:
    """All figures of a pair of batches at one state.

    Args:
      state: state of generator tuning.
      theta: frozen parameters.
      first: the batch, with an even number of consecutive examples per class.
      second: the other batch.
      rate: rate of the virtual step.
      key: random key for the shuffles.
      config: the generator's settings.
      model: the backbone.
    """
    Q, omega, mask = state.label_prompts, state.weight_net, first.target_mask
    score = functools.partial(score_batch, config=config, model=model)

    def meta_gradient(batch):
        return disc_and_meta_gradient(Q, omega, score(Q, theta, batch), theta, batch, rate=rate, config=config,
                                      model=model)[1]

    def disc(Q):
        return jnp.stack([losses.token_mean(score(Q, theta, batch).values, batch.target_mask)
                          for batch in (first, second)])

    scored, before = score(Q, theta, first), disc(Q)
    inner = functools.partial(losses.objective, config=config,
                              dist_weight=config.dist_weight if config.dist_in_virtual else 0.0)

    def change(weights):
        slopes, _ = jax.grad(inner, argnums=(0, 1), has_aux=True)(*scored.outputs, weights, first.label, mask)
        return disc(meta.virtual_step(Q, scored.transpose(slopes)[0], rate)) - before

    learned = weight_net.token_weights(omega, scored.features, mask, config.weight_norm)
    uniform = weight_net.uniform_weights(mask, config.weight_norm, learned.dtype)
    shuffles = jax.lax.map(lambda key: change(shuffled(learned, mask, key)), jax.random.split(key, SHUFFLES))
    changes = jnp.stack([change(learned), change(uniform), shuffles.mean(axis=0)], axis=1)
    whole, *halves = map(meta_gradient, (first, *(jax.tree.map(lambda leaf, start=start: leaf[start::2], first)
                                                  for start in (0, 1))))
    return {"cosine, halves": cosine(*halves), "cosine, batches": cosine(whole, meta_gradient(second)),
            "meta_grad_norm": optax.tree.norm(whole), "weight_entropy": weight_net.entropy(learned, mask),
            "disc": before[0], **dict(zip(CHANGES, changes.reshape(-1), strict=True))}


def cosine(first, second) -> jax.Array:
    """Cosine of two trees."""
    return optax.tree.vdot(first, second) / (optax.tree.norm(first) * optax.tree.norm(second))


def shuffled(weights: jax.Array, mask: jax.Array, key: jax.Array) -> jax.Array:
    """Weights [B, U] in a random order over the supervised tokens."""
    noise = jnp.where(mask, jax.random.uniform(key, mask.shape), jnp.inf).reshape(-1)
    places = jnp.argsort(~mask.reshape(-1), stable=True)  # supervised tokens first, as in the order of the noise
    drawn = weights.reshape(-1)[jnp.argsort(noise)]
    return jnp.zeros(mask.size, weights.dtype).at[places].set(drawn).reshape(mask.shape)


def pairs(shots: GeneratorBatch, dev: GeneratorBatch, per_label: int, seed: int, draws: int
          ) -> Iterator[tuple[GeneratorBatch, GeneratorBatch]]:
    """Pairs of disjoint batches with ``per_label`` shots per class; if it is 0, all shots and all dev shots."""
    def of(arrays, number, step):
        return GeneratorBatch(*(leaf[class_balanced(arrays.label, number, seed, step)] for leaf in arrays))

    if not per_label:
        number = int(np.bincount(shots.label).min()) // 2 * 2  # even, so that both halves have equally many per class
        yield of(shots, number, 0), of(dev, number, 0)
        return
    for draw in range(draws):  # an even step and the next are in the same epoch, which has an even number of batches
        yield of(shots, per_label, 2 * draw), of(shots, per_label, 2 * draw + 1)


def lines_of_seed(config: Config, given: TaskData, backbone: Backbone, seed: int, arguments: argparse.Namespace
                  ) -> Iterator[dict]:
    """Tune the generator of a seed, and measure at the given updates."""
    generator, task = config.generator, given.task
    start = start_prompts(task, backbone, generator.prompt_length, seed)
    shots, dev = (generator_arrays(backbone.format, task, part, start["infix"].shape[1], generator)
                  for part in given.splits[seed][:2])
    both = stack([shots, dev])  # pads them to equal widths
    shots, dev = (GeneratorBatch(*(leaf[k] for leaf in both)) for k in range(2))
    num_steps = num_steps_of(generator, len(task.labels))
    state = init_state(start, prng.key(seed), config=generator, num_steps=num_steps)
    step, figures = programs(generator, backbone.model, num_steps)
    for update in range(max(arguments.updates) + 1):
        for per_label, rate in itertools.product(arguments.per_label, arguments.rates) if update in arguments.updates \
                else ():
            for draw, (first, second) in enumerate(pairs(shots, dev, per_label, seed, arguments.draws)):
                found = figures(state, backbone.theta, first, second, rate, jax.random.fold_in(prng.key(seed), draw))
                yield {"backbone": backbone.label, "task": task.name, "generator": arguments.generator, "seed": seed,
                       "update": update, "per_label": per_label, "rate": rate, "draw": draw,
                       **{name: float(value) for name, value in jax.device_get(found).items()}}
        index = class_balanced(shots.label, generator.examples_per_label, seed, update)
        state, _ = step(state, backbone.theta, GeneratorBatch(*(leaf[index] for leaf in shots)))


@functools.lru_cache(maxsize=1)
def programs(config: GeneratorConfig, model: Model, num_steps: int):
    """The compiled step, and :func:`measure`."""
    return (jax.jit(functools.partial(generator_step, config=config, model=model, num_steps=num_steps)),
            jax.jit(functools.partial(measure, config=config, model=model)))


def table(lines: list[dict], title: str) -> Table:
    """Means over seeds and draws."""
    cells: dict[tuple, dict[int, list[dict]]] = {}
    for line in lines:
        cell = line["update"], line["per_label"] or math.inf, line["rate"]
        cells.setdefault(cell, {}).setdefault(line["seed"], []).append(line)
    rows = []
    for (update, per_label, rate), seeds in sorted(cells.items()):
        means = {name: [statistics.fmean(line[name] for line in seed) for seed in seeds.values()] for name in
                 ("cosine, halves", "cosine, batches", *CHANGES)}
        spread = [statistics.stdev(means[name]) if len(seeds) > 1 else 0.0 for name in list(means)[:2]]
        rows.append((str(update), "all" if per_label == math.inf else str(per_label), f"{rate:g}",
                     *(f"{statistics.fmean(means[name]):.3f} ± {deviation:.3f}"
                       for name, deviation in zip(list(means)[:2], spread, strict=True)),
                     *(f"{statistics.fmean(means[name]):+.1e}" for name in CHANGES), str(len(seeds))))
    return Table(title, ("update", "per class", "step", "cosine, halves", "cosine, batches", *CHANGES, "seeds"),
                 tuple(rows))


def main() -> None:
    """Tune, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mini", help="a config file, or the name of a shipped one")
    parser.add_argument("--backbone", default="", help="backbone of the generator; empty: the config's")
    parser.add_argument("--task", default="", help="name of the task; empty: the config's first")
    parser.add_argument("--generator", choices=[name for name in VARIANTS if "weighting" not in VARIANTS[name]],
                        default="DawGen")
    parser.add_argument("--seeds", type=int, nargs="+", default=[13, 21, 42])
    parser.add_argument("--updates", type=int, nargs="+", default=[0, 20, 80, 240])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.1, 1.0])
    parser.add_argument("--per-label", type=int, nargs="+", default=[2, 8, 0])
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/meta_signal.jsonl"))
    arguments = parser.parse_args()
    config, placement = load_config(arguments.config), Placement.on(1)
    generator = fixed_by(config.generator, arguments.generator)
    if arguments.backbone:
        generator = dataclasses.replace(generator, backbone=dataclasses.replace(
            generator.backbone, path=arguments.backbone))
    config = dataclasses.replace(config, seeds=tuple(arguments.seeds), generator=generator)
    backbone = load_backbone(generator.backbone, placement)
    given = read_task(arguments.task or config.tasks[0], config, generates=False)
    lines = []
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", encoding="utf-8") as file:
        for seed in arguments.seeds:
            for line in lines_of_seed(config, given, backbone, seed, arguments):
                lines.append(line)
                print(json.dumps(line), file=file, flush=True)
    print(to_markdown(table(lines, f"{arguments.generator} on {given.task.name}, {backbone.label}")))


if __name__ == "__main__":
    main()
