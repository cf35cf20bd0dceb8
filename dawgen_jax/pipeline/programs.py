"""The programs that a job compiles, lowered from shapes alone: for a machine that is not there, or before a long run.

Nothing is read but a config and the shape of a backbone, and no array of a backbone's size is made. Rows and tokens are
taken at their budgets: every example as long as the configuration lets it be, of a task with the most labels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dawgen_jax import prng
from dawgen_jax.backbones.base import Model
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.templates import MASK
from dawgen_jax.backbones.templates import PROMPT as PLACE
from dawgen_jax.config import Config
from dawgen_jax.data.batches import ClassifierBatch, GeneratorBatch
from dawgen_jax.generator.step import init_state as init_generator
from dawgen_jax.methods import tune
from dawgen_jax.methods.base import Method
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.pipeline import generators
from dawgen_jax.pipeline.sets import embed_rows
from dawgen_jax.tasks import Task
from dawgen_jax.training.placement import Placement
from dawgen_jax.training.step import init_state

__all__ = ["DECODING", "FINE_TUNING", "GENERATOR", "PROGRAMS", "PROMPT", "Shapes", "lower", "operations"]

GENERATOR, DECODING, PROMPT, FINE_TUNING = PROGRAMS = ("generator step", "decoding", "prompt step", "fine-tuning step")
_SURGERY, _TUNING = METHODS["(Real, Syn) + GS"], METHODS["PFT + soft prompt"]


class Shapes(NamedTuple):
    """What the programs are compiled for.

    Attributes:
      config: of the job.
      labels: L.
      infix: I, rows between the sentences.
      penalty: whether decoding has a repetition penalty.
      cue: tokens behind a classifier's prompt after the text; 0 if the prompt is in front.
    """

    config: Config
    labels: int
    infix: int
    penalty: bool
    cue: int = 0

    @classmethod
    def of(cls, config: Config, task: Task) -> Shapes:
        """The shapes of a task; without a tokenizer, infix and cue are taken to have two tokens per word."""
        infix = max(2 * len(between.split()) for _, between in task.phrases)
        after = config.classifier.prompt_place == "after"
        cue = 2 * len(task.completion[0].partition(PLACE)[2].removesuffix(MASK).split()) if after else 0
        return cls(config, len(task.labels), infix, any(penalty != 1 for penalty in task.repetition_penalty), cue)

    @property
    def source(self) -> int:
        """Encoder positions of the generator: prompt, sentence 1, infix and end of sequence."""
        generator = self.config.generator
        return generator.prompt_length + generator.max_source_tokens + self.infix + 1

    @property
    def seeds(self) -> int:
        """Seeds of a classifier's program."""
        return len(self.config.seeds) if self.config.classifier.vmap_seeds else 1

    def rows(self, program: str) -> int:
        """Examples of a program's run, of all seeds and sources, without padding."""
        config = self.config
        return {GENERATOR: len(config.seeds) * self.labels * config.generator.examples_per_label,
                DECODING: config.synthesis.batch_size,
                PROMPT: self.seeds * 2 * config.classifier.batch_size,
                FINE_TUNING: config.classifier.fine_tuning.batch_size}[program]


def operations(program: str, model: Model, shapes: Shapes) -> float:
    """Floating-point operations that one run of a program requires for its real rows, without recomputation."""
    config, rows = shapes.config, shapes.rows(program)
    if program == GENERATOR:
        generator, meta = config.generator, config.generator.weighting == "meta"
        reached = shapes.labels if generator.dist_weight > 0 and generator.dist_reading == "B" else 1
        # Scores at Q; two transposes and a derivative along v of the differentiated rows; value and gradient at Q'.
        forward, backward = shapes.labels, reached
        if meta:
            forward, backward = forward + shapes.labels, backward + shapes.labels + 2 * reached
        pair = functools.partial(model.operations, inputs=shapes.source, outputs=generator.max_target_tokens)
        return rows * ((forward - backward) * pair() + backward * pair(trained="prompt"))
    if program == DECODING:
        return rows * model.operations(inputs=0, outputs=1)
    prompt, text = config.classifier.prompt_length, config.classifier.max_tokens
    if program == PROMPT and shapes.cue:
        return rows * model.operations(inputs=prompt + shapes.cue, trained="prompt", context=text)
    return rows * model.operations(inputs=prompt + text, trained="prompt" if program == PROMPT else "all")


def lower(program: str, model: Model, theta: Any, shapes: Shapes, placement: Placement
          ) -> tuple[float, Callable[[], jax.stages.Lowered]]:
    """A program for a mesh.

    Args:
      program: one of :data:`PROGRAMS`.
      model: the backbone.
      theta: shapes of its stored parameters.
      shapes: the rest.
      placement: of devices that need not be there.

    Returns:
      (bytes of state and parameters that stay on each device while it runs, a function that lowers the program).
    """
    build = {GENERATOR: _generator, DECODING: _decoding, PROMPT: _prompt, FINE_TUNING: _fine_tuning}[program]
    state, frozen, lowered = build(model, theta, shapes, placement)
    held = {"state": state, "theta": frozen}
    parts = jax.tree.map(lambda leaf, place: jnp.dtype(leaf.dtype).itemsize * math.prod(place.shard_shape(leaf.shape)),
                         jax.tree.map(_plain, held), placement.shardings(held, model))
    return float(sum(jax.tree.leaves(parts))), lowered


def _plain(leaf: Any) -> jax.ShapeDtypeStruct:
    """A random key as its words of data; other leaves unchanged."""
    key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.ShapeDtypeStruct(leaf.shape, jnp.uint64 if key else leaf.dtype)


def _array(kind: Any, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, kind)


def _label_prompts(model: Model, shapes: Shapes, *front: int) -> dict:
    rows = {"prompt": shapes.config.generator.prompt_length, "infix": shapes.infix}
    return {name: _array(jnp.float32, *front, shapes.labels, count, model.width) for name, count in rows.items()}


def _generator(model: Model, theta: Any, shapes: Shapes, placement: Placement):
    config, seeds = shapes.config.generator, len(shapes.config.seeds)
    steps = generators.num_steps_of(config, shapes.labels)
    rows = placement.rows(config.examples_per_label * shapes.labels)
    source, target = shapes.source - config.prompt_length, config.max_target_tokens
    widths = GeneratorBatch((source,), (source,), (source,), (target,), (target,), ())
    kinds = GeneratorBatch(jnp.int32, jnp.bool_, jnp.int32, jnp.int32, jnp.bool_, jnp.int32)
    batch = GeneratorBatch(*(_array(kind, seeds, rows, *width) for kind, width in zip(kinds, widths, strict=True)))
    init = functools.partial(init_generator, config=config, num_steps=steps)
    keys = jax.eval_shape(jax.vmap(prng.key), _array(jnp.uint32, seeds))
    state = jax.eval_shape(jax.vmap(init), _label_prompts(model, shapes, seeds), keys)
    step = generators.compiled_step(config, model, steps, placement)
    return state, theta, lambda: step.lower(state, theta, batch)


def _decoding(model: Model, theta: Any, shapes: Shapes, placement: Placement):
    config = shapes.config.synthesis
    # Which tokens end a sample or are banned changes no shape.
    decoder = Decoder(model, functools.partial(embed_rows, model=model), eos_id=0, banned=(), slots=config.batch_size,
                      widths=(shapes.source - shapes.config.generator.prompt_length,),
                      max_new_tokens=config.max_new_tokens, draw=config.temperature > 0, mesh=placement.mesh,
                      penalty=shapes.penalty and config.repetition_penalty == "task")
    lowered = functools.partial(decoder.lowered, theta, _label_prompts(model, shapes))
    return {"theta": theta}, theta, lowered  # stacked, and a copy with a list of layers


def _classifier_batch(config: Config, placement: Placement, seeds: int, sources: int, rows: int) -> ClassifierBatch:
    multiple = config.classifier.pad_multiple
    front = seeds, sources, placement.rows(rows)
    tokens = min(-(-config.classifier.max_tokens // multiple) * multiple, config.classifier.max_tokens)
    return ClassifierBatch(_array(jnp.int32, *front, tokens), _array(jnp.bool_, *front, tokens),
                           _array(jnp.int32, *front), _array(jnp.float32, *front))


def _with_context(batch: ClassifierBatch, model: Model, theta: Any, cue: int) -> ClassifierBatch:
    """A batch whose texts are known contexts, with ``cue`` tokens behind them."""
    *front, length = batch.tokens.shape
    text = jax.eval_shape(model.embed, theta, _array(jnp.int32, 1, length))
    context = jax.eval_shape(model.context, theta, text, _array(jnp.bool_, 1, length))
    return batch._replace(tokens=_array(jnp.int32, *front, cue), mask=_array(jnp.bool_, *front, cue),
                          context=jax.tree.map(lambda leaf: _array(leaf.dtype, *front, *leaf.shape[1:]), context))


def _step(method: Method, params: Any, frozen: Any, model: Model, shapes: Shapes, placement: Placement, seeds: int):
    config, trained = shapes.config.classifier, method.trains
    assert trained is not None  # of the two methods above
    (stage,) = method.stages(config, shapes.labels)
    rate = config.fine_tuning.learning_rates[0]
    batch = _classifier_batch(shapes.config, placement, seeds, len(stage.sources), stage.batch_size)
    if trained.fixed and shapes.cue:
        batch = _with_context(batch, model, theta=frozen, cue=shapes.cue)
    init = functools.partial(init_state, tx=tune.transform(trained, stage, config, rate))
    state = jax.eval_shape(jax.vmap(init), params)
    words = tuple(range(2, 2 + shapes.labels))
    step = tune.compiled_step(trained, stage, config, rate, model, words, placement)
    return state, frozen, lambda: step.lower(state, frozen, batch)


def _prompt(model: Model, theta: Any, shapes: Shapes, placement: Placement):
    prompt = _array(jnp.float32, shapes.seeds, shapes.config.classifier.prompt_length, model.width)
    return _step(_SURGERY, prompt, theta, model, shapes, placement, shapes.seeds)


def _fine_tuning(model: Model, theta: Any, shapes: Shapes, placement: Placement):
    params = {"theta": jax.tree.map(lambda leaf: _array(jnp.float32, 1, *leaf.shape), theta),
              "prompt": _array(jnp.float32, 1, shapes.config.classifier.prompt_length, model.width)}
    return _step(_TUNING, params, (), model, shapes, placement, 1)
