"""Pre-training of a small T5 on the text of the mini world.

    loss = mean over target tokens of -log p(target_t | target_<t, source)
    AdamW with learning rate peak * min(step / warmup, 1, (N - step) / (decay N)), a trapezoid over N steps

A pool of processes generates blocks of batches, each of which runs in few dispatches, since dispatch is the bottleneck
for a model of this size on an accelerator. The loop counts blocks; a killed run resumes from its last checkpoint with
the same stream.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from dawgen_jax import prng
from dawgen_jax.backbones.t5 import convert
from dawgen_jax.backbones.t5 import model as t5
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.config import digest
from dawgen_jax.config.validation import validated
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.io.files import aside, read_json, write_file, write_json
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.training.checkpoint import Checkpoints
from dawgen_jax.training.fit import Schedule, fit
from dawgen_jax.training.placement import Placement
from dawgen_jax.training.step import TrainState, init_state, train_step
from tools.pretrain import corpus, instructions
from tools.pretrain.corpus import CorpusConfig
from tools.pretrain.probes import draw_probes, evaluate, first_word, next_tokens
from tools.pretrain.vocabulary import TOKENS, save_tokenizer
from tools.pretrain.workers import ctrl_c_blocked, pool

__all__ = ["PretrainConfig", "blocks", "loss", "planned", "pretrain", "save_backbone", "train_batches"]


@validated
class PretrainConfig:
    """A backbone of the mini world: shape, text and optimiser."""

    name: str = "mini-t5"
    """Name on the card."""
    corpus: CorpusConfig = CorpusConfig()
    """The text."""
    start: str = ""
    """A Hugging Face directory with initial weights; empty starts from random weights."""
    d_model: int = 128
    """Width H."""
    d_kv: int = 32
    """Width of one head."""
    d_ff: int = 320
    """Width of the gated feed-forward layer."""
    num_layers: int = 4
    """Encoder layers."""
    num_decoder_layers: int = 2
    """Decoder layers."""
    num_heads: int = 4
    """Heads."""
    documents: PositiveInt = 1_120_000
    """Number of training documents, each used once."""
    minutes: NonNegativeFloat = 0.0
    """If greater than 0, a trial of 20 seconds sets `documents` to the number that fits into this wall time. The card
    states the number, and a run with this number gives the same backbone."""
    learning_rate: PositiveFloat = 7e-4
    """Peak of the trapezoid."""
    warmup_steps: PositiveInt = 500
    """Linear warm-up."""
    decay: PositiveFloat = 0.5
    """Share of all steps in the final linear decay."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay of matrices."""
    clip_norm: PositiveFloat = 1.0
    """Maximum global norm of the gradient."""
    dispatch: PositiveInt = 50
    """Batches scanned in one dispatch; a divisor of corpus.block_batches. Choose a small value on a CPU, where narrow
    batches then need less padding."""
    eval_examples: PositiveInt = 200
    """Newly generated documents per kind and level."""
    eval_every: PositiveInt = 20
    """Blocks between two evaluations."""
    checkpoint_every: PositiveInt = 5
    """Blocks between two checkpoints."""

    def __post_init__(self):
        if self.corpus.block_batches % self.dispatch:
            raise ConfigError(f"PretrainConfig.dispatch = {self.dispatch}: must divide corpus.block_batches = "
                              f"{self.corpus.block_batches}.")

    @property
    def t5(self) -> T5Config:
        """The backbone's shape: v1.1 (gated gelu, untied head), with as many rows as tokens, rounded up to 8."""
        shape = {name: getattr(self, name)
                 for name in ("d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads")}
        return T5Config(vocab_size=-(-len(TOKENS) // 8) * 8, **shape)

    @property
    def block_documents(self) -> int:
        """Number of documents in a block."""
        return self.corpus.batch_size * self.corpus.block_batches

    @property
    def num_blocks(self) -> int:
        """Number of blocks to train on."""
        return -(-self.documents // self.block_documents)


def _optimiser(config: PretrainConfig) -> optax.GradientTransformation:
    total = config.num_blocks * config.corpus.block_batches

    def matrices(theta):
        return jax.tree_util.tree_map_with_path(lambda path, x: path[-1].key not in ("scale", "bias"), theta)

    def rate(step):
        left = (total - step) / (config.decay * total)
        return config.learning_rate * jnp.minimum(jnp.minimum((step + 1) / config.warmup_steps, 1.0), left)

    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.scale_by_adam(b1=0.9, b2=0.98),
                       optax.add_decayed_weights(config.weight_decay, mask=matrices),
                       optax.scale_by_learning_rate(rate))


def loss(theta, source: jax.Array, target: jax.Array, *, config: T5Config) -> jax.Array:
    """Mean over target tokens of -log p, for ``source`` [B, T] and ``target`` [B, U], both padded with 0."""
    scores = next_tokens(theta, source, target, model=T5(config))
    nll = optax.softmax_cross_entropy_with_integer_labels(scores, target)
    mask = target != config.pad_id
    return jnp.sum(nll * mask) / jnp.maximum(jnp.sum(mask), 1)


def train_batches(state: TrainState, source: jax.Array, target: jax.Array, *, config: PretrainConfig
                  ) -> tuple[TrainState, jax.Array]:
    """One step per batch for G batches: ``source`` [G, B, T], ``target`` [G, B, U] -> state, losses [G]."""
    tx, t5_config = _optimiser(config), config.t5

    def loss_fn(theta, frozen, batch):
        del frozen
        return loss(theta, *batch, config=t5_config)

    def one(state, batch):
        state, metrics = train_step(state, (), jax.tree.map(lambda leaf: leaf[None], batch), loss_fn=loss_fn, tx=tx)
        return state, metrics["loss"][0]

    return jax.lax.scan(one, state, (source.astype(jnp.int32), target.astype(jnp.int32)))


def blocks(config: CorpusConfig, first: int, workers: int) -> Iterator[corpus.Block]:
    """Blocks from ``first`` on, generated in advance by ``workers`` processes (0: by this process)."""
    make = instructions.block if config.instructions else corpus.block
    if not workers:
        index = first
        while True:
            yield make(config, index)
            index += 1
    with pool(workers) as executor:
        with ctrl_c_blocked():
            waiting = deque(executor.submit(make, config, first + i) for i in range(2 * workers + 2))
        try:
            while True:
                yield waiting.popleft().result()
                waiting.append(executor.submit(make, config, first + len(waiting) + 1))
                first += 1
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def _trim(array: np.ndarray) -> np.ndarray:
    """Remove columns after the longest row, down to a multiple of 8, so that few shapes are compiled."""
    longest = int((array != 0).any(axis=(0, 1)).nonzero()[0].max()) + 1
    return array[..., : -(-longest // 8) * 8]


def _block_step(config: PretrainConfig) -> Callable:
    """``(state, frozen, block) -> (state, metrics)``: all batches of a block, ``config.dispatch`` at a time."""
    compiled = jax.jit(functools.partial(train_batches, config=config), donate_argnums=0)

    def step(state, frozen, block: corpus.Block):
        del frozen
        losses = []
        for i in range(0, config.corpus.block_batches, config.dispatch):
            source, target = block.source[i : i + config.dispatch], block.target[i : i + config.dispatch]
            if config.dispatch < config.corpus.block_batches:
                source, target = _trim(source), _trim(target)
            state, values = compiled(state, source, target)
            losses.append(values)
        return state, {"loss": losses}

    return step


def _start(config: PretrainConfig):
    """Initial parameters."""
    if not config.start:
        return jax.jit(functools.partial(t5.init, config.t5))(prng.key(config.corpus.seed))
    found, theta = convert.load(config.start)
    if found != config.t5:
        raise UserError(f"{config.start}: its shape differs from the configuration; give another --start.")
    return theta


@validated
class RunFacts:
    """The contents of run.json: digest of the configuration, and planned number of documents."""

    config: str
    documents: PositiveInt


def _earlier(out: pathlib.Path) -> RunFacts | None:
    """The record of an earlier run in ``out``, if there was one."""
    return read_json(out / "run.json", RunFacts, missing_ok=True, advice="give another --out, or delete the run")


def planned(config: PretrainConfig, out: pathlib.Path, workers: int, trial_seconds: float = 20.0) -> PretrainConfig:
    """Replace ``minutes`` by ``documents``, taken from an earlier run in ``out`` or from a trial."""
    if not config.minutes:
        return config
    if earlier := _earlier(out):
        return dataclasses.replace(config, minutes=0.0, documents=earlier.documents)
    state, step, stream = init_state(_start(config), _optimiser(config)), _block_step(config), None
    stream, done = blocks(config.corpus, 0, workers), 0
    state, _ = step(state, (), next(stream))  # compiles
    jax.block_until_ready(state)
    begin = time.monotonic()
    while time.monotonic() - begin < trial_seconds:
        state, _ = jax.block_until_ready(step(state, (), next(stream)))
        done += 1
    stream.close()
    fitting = 0.97 * 60 * config.minutes * done / (time.monotonic() - begin)
    return dataclasses.replace(config, minutes=0.0, documents=max(math.floor(fitting), 1) * config.block_documents)


def _check_resumes(config: PretrainConfig, out: pathlib.Path) -> None:
    """Record the configuration in ``out``, or check that an earlier run there had the same one."""
    identity = digest(dataclasses.replace(config, minutes=0.0, documents=1, checkpoint_every=1, dispatch=1))
    if earlier := _earlier(out):
        if earlier.config != identity:
            raise UserError(f"{out} holds a run of another configuration: give another --out, or delete it.")
        with Checkpoints(out / "checkpoint") as checkpoints:
            done = checkpoints.latest_step or 0
        before = dataclasses.replace(config, documents=earlier.documents).num_blocks
        if config.num_blocks != before and done > (1 - config.decay) * min(config.num_blocks, before):
            raise UserError(f"{out} was planned for {before * config.block_documents} documents, which cannot change "
                            f"once the rate decays: give --documents {before * config.block_documents}, or another "
                            "--out.")
    write_json(out / "run.json", dataclasses.asdict(RunFacts(identity, config.documents)))


def pretrain(config: PretrainConfig, out: pathlib.Path, workers: int) -> dict:
    """Train, writing checkpoints to ``out``/checkpoint and one line per evaluation to ``out``/metrics.jsonl.

    Args:
      config: shape, text and optimiser; ``minutes`` must already be replaced by :func:`planned`.
      out: directory of the run.
      workers: number of processes that write text.

    Returns:
      facts for the card (documents, steps, last loss, accuracies, seconds), and ``theta``.

    Raises:
      UserError: ``out`` holds a run of another configuration, ``documents`` changes after the decay of the rate has
        begun (for the old or the new number), or the loss is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    theta = _start(config)
    _check_resumes(config, out)
    log, begin, earlier = MetricsLog(out / "metrics.jsonl"), time.monotonic(), []
    guess = jax.jit(functools.partial(first_word, model=T5(config.t5)))
    probes, streams = draw_probes(config.corpus, config.eval_examples), {}

    def batch_of(number: int) -> corpus.Block:
        if not streams:
            streams["text"] = blocks(config.corpus, number, workers)
        return next(streams["text"])

    def scored(theta) -> tuple[None, dict]:
        earlier[:] = earlier or [next((line["seconds"] for line in reversed(log.lines())), 0.0)]
        found = {name: round(score, 3) for name, score in evaluate(guess, theta, probes).items()}
        return None, {"seconds": round(earlier[0] + time.monotonic() - begin, 1), **found}

    try:
        fitted = fit(
            _block_step(config), init_state(theta, _optimiser(config)), (), batch_of, placement=Placement.on(1),
            schedule=Schedule(config.num_blocks, config.eval_every, config.eval_every, config.checkpoint_every,
                              updates=config.corpus.block_batches),
            folder=out / "checkpoint", log=log, title=config.name, advice="lower learning_rate.", evaluate=scored,
            keep=False, figures=lambda metrics: {"loss": np.mean(np.concatenate(metrics["loss"]))},
            show=("loss", "statements_0", "statements_2"))
    finally:
        for stream in streams.values():
            stream.close()
    line = log.lines()[-1]
    return {"documents": config.num_blocks * config.block_documents,
            "updates": config.num_blocks * config.corpus.block_batches, **line, "loss": round(line["loss"], 4),
            "theta": fitted.state.params}


_CARD = """---
language: en
license: apache-2.0
library_name: transformers
tags: [t5, synthetic, mini-world]
---
# {name}

A T5 of v1.1 shape with {parameters:,} parameters (float16), made for the controlled mini world of dawgen-jax. It knows
a vocabulary of {tokens} tokens and nothing else.

| | |
|---|---|
| shape | width {d_model}, feed-forward {d_ff}, {num_heads} heads of {d_kv} |
| layers | {num_layers} encoder, {num_decoder_layers} decoder |
| text | {text} |
| documents | {documents:,} (each drawn once), {step:,} steps of {batch} |
| seed | {seed} |
| loss (last blocks) | {loss} |
| wall time | {seconds:.0f} s on {device} |
| licence | Apache-2.0 |

Share of right words at the masked joint of freshly drawn documents: {scores}.

Made by `python -m tools.pretrain {command}`.
"""


def save_backbone(folder: pathlib.Path, config: PretrainConfig, facts: dict, command: str) -> None:
    """Write a Hugging Face directory with float16 weights, tokenizer and card, atomically.

    The card shows ``command`` after `python -m tools.pretrain`.
    """
    fresh = aside(folder)
    convert.save(fresh, config.t5, facts["theta"], dtype="float16")
    save_tokenizer(fresh)
    skipped = ("theta", "step", "updates", "documents", "seconds", "loss")
    scores = ", ".join(f"{name} {value}" for name, value in facts.items() if name not in skipped)
    text = "unlabelled documents of the mini world: masked joints and answers, masked words, prefix language modelling"
    if config.corpus.instructions:
        text = f"verbalised tasks of the mini world, after {config.start.rstrip('/').rsplit('/', 1)[-1]}"
    card = _CARD.format(
        **dataclasses.asdict(config) | {"documents": facts["documents"]}, step=facts["updates"], loss=facts["loss"],
        seconds=facts["seconds"], parameters=sum(x.size for x in jax.tree.leaves(facts["theta"])), tokens=len(TOKENS),
        text=text, batch=config.corpus.batch_size, seed=config.corpus.seed, scores=scores, command=command,
        device=jax.devices()[0].device_kind)
    write_file(fresh / "README.md", card)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
