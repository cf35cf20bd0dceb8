"""Pre-training of a small T5 on the text of the mini world: loss, optimiser steps, accuracy on fresh text, the loop.

    loss = mean over target tokens of -log p(target_t | target_<t, source)
    AdamW with learning rate peak * min(step / warmup, 1, (N - step) / (decay N)), a trapezoid over N steps

A block of batches comes from a pool of processes and is run in few dispatches (a model of this size is bound by
dispatch on an accelerator). State is kept on disk every minute; a killed run goes on from there, with the same stream.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from safetensors import safe_open
from safetensors.numpy import save_file

from dawgen_jax.config import ConfigError, UserError, digest
from dawgen_jax.miniworld import corpus, instructions
from dawgen_jax.miniworld.corpus import CorpusConfig
from dawgen_jax.miniworld.vocabulary import (
    ANSWERING,
    ANSWERS,
    CONNECTIVES,
    IDS,
    QUESTION_PAIRS,
    TOKENS,
    save_tokenizer,
)
from dawgen_jax.t5 import convert, model
from dawgen_jax.t5.config import T5Config

__all__ = ["PretrainConfig", "TrainState", "blocks", "draw_probes", "evaluate", "first_word", "init_state", "loss",
           "pretrain", "save_backbone", "train_batches"]


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """A backbone of the mini world: shape, text and optimiser."""

    name: str = "mini-t5"
    """Name on the card."""
    corpus: CorpusConfig = dataclasses.field(default_factory=CorpusConfig)
    """The text."""
    start: str = ""
    """A Hugging Face directory to go on from; empty starts from random weights."""
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
    documents: int = 1_120_000
    """Documents to train on, each drawn once."""
    minutes: float = 0.0
    """If greater than 0, `documents` is set once, after 20 seconds, to what this wall time will hold; the card says
    what came out, and a run with that number of documents gives the same backbone."""
    learning_rate: float = 7e-4
    """Peak of the trapezoid."""
    warmup_steps: int = 500
    """Linear warm-up."""
    decay: float = 0.5
    """Share of all steps in the final linear decay."""
    weight_decay: float = 0.01
    """Decoupled, on matrices."""
    clip_norm: float = 1.0
    """Global norm of the gradient."""
    dispatch: int = 50
    """Batches scanned in one dispatch; a divisor of corpus.block_batches. Small on a CPU, where narrow batches then
    are padded less."""
    eval_examples: int = 200
    """Freshly drawn documents of each kind and level."""
    eval_every: int = 20
    """Blocks between two evaluations."""
    checkpoint_seconds: float = 60.0
    """Wall time between two checkpoints."""

    def __post_init__(self):
        if self.corpus.block_batches % self.dispatch or self.dispatch < 1:
            raise ConfigError(f"PretrainConfig.dispatch = {self.dispatch}: must divide corpus.block_batches "
                              f"({self.corpus.block_batches}).")
        for field in ("documents", "learning_rate", "warmup_steps", "decay", "clip_norm", "eval_examples",
                      "eval_every"):
            if getattr(self, field) <= 0:
                raise ConfigError(f"PretrainConfig.{field} = {getattr(self, field)}: must be greater than 0.")

    @property
    def t5(self) -> T5Config:
        """The backbone's shape: v1.1 (gated gelu, untied head), as many rows as tokens rounded up to 8."""
        shape = {name: getattr(self, name)
                 for name in ("d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads")}
        return T5Config(vocab_size=-(-len(TOKENS) // 8) * 8, **shape)


class TrainState(NamedTuple):
    """theta, the optimiser's moments, and the number of steps taken."""

    theta: dict
    moments: optax.OptState
    step: jax.Array


def _optimiser(config: PretrainConfig) -> optax.GradientTransformation:
    def matrices(theta):
        return jax.tree_util.tree_map_with_path(lambda path, x: path[-1].key not in ("scale", "bias"), theta)

    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.scale_by_adam(b1=0.9, b2=0.98),
                       optax.add_decayed_weights(config.weight_decay, mask=matrices))


def init_state(theta, *, config: PretrainConfig) -> TrainState:
    """The state before the first step."""
    return TrainState(theta, _optimiser(config).init(theta), jnp.zeros((), jnp.int32))


def _next_tokens(theta, source: jax.Array, target: jax.Array, *, config: T5Config) -> jax.Array:
    """Logits [B, U, V] of each target token given those before it."""
    mask = source != config.pad_id
    encoded = model.encode(theta, model.embed(theta, source, config=config), mask, config=config)
    inputs = jnp.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=config.decoder_start_id)
    return model.logits(theta, model.decode(theta, inputs, encoded, mask, config=config), config=config)


def loss(theta, source: jax.Array, target: jax.Array, *, config: T5Config) -> jax.Array:
    """Mean over target tokens of -log p, for ``source`` [B, T] and ``target`` [B, U], both padded with 0."""
    scores = _next_tokens(theta, source, target, config=config)
    nll = optax.softmax_cross_entropy_with_integer_labels(scores, target)
    mask = target != config.pad_id
    return jnp.sum(nll * mask) / jnp.maximum(jnp.sum(mask), 1)


def train_batches(state: TrainState, source: jax.Array, target: jax.Array, num_steps: jax.Array, *,
                  config: PretrainConfig) -> tuple[TrainState, jax.Array]:
    """One AdamW step for each of G batches: ``source`` [G, B, T], ``target`` [G, B, U] -> state, losses [G]."""
    tx, t5_config = _optimiser(config), config.t5

    def one(state, batch):
        value, gradient = jax.value_and_grad(loss)(state.theta, *batch, config=t5_config)
        updates, moments = tx.update(gradient, state.moments, state.theta)
        total = num_steps.astype(jnp.float32)
        left = (total - state.step) / (config.decay * total)
        rate = config.learning_rate * jnp.minimum(jnp.minimum((state.step + 1) / config.warmup_steps, 1.0), left)
        theta = jax.tree.map(lambda x, u: x - rate * u, state.theta, updates)
        return TrainState(theta, moments, state.step + 1), value

    return jax.lax.scan(one, state, (source.astype(jnp.int32), target.astype(jnp.int32)))


# Accuracy on freshly drawn documents -------------------------------------------------------------------------------


_FAMILIES = (*CONNECTIVES.values(), *QUESTION_PAIRS.values(), *ANSWERING.values(), *((word,) for word in ANSWERS))


class Probe(NamedTuple):
    """Documents whose joining word (or answer) is masked: source [N, T], good [N, 2] ids that count as right."""

    source: np.ndarray
    good: np.ndarray


def draw_probes(config: CorpusConfig, size: int) -> dict[str, Probe]:
    """Probes by kind: pairs of statements by level, the long ones behind 8 random words, and the other kinds.

    They are freshly drawn, not disjoint from the training text: there are 99 sentences of level 0 in all.
    """
    end = config.at(config.settle + 2 * config.curriculum)
    mask_only = dataclasses.replace(end, salient=1.0, words=0.0, prefixed=0.0)
    family = {word: words for words in _FAMILIES for word in words}
    rng, wanted = Random("held-out"), {}
    kinds = [f"statements_{level}" for level in range(3)]
    kinds += ["prefixed_2", "questions", "question_first", "polar", "glossed"]
    stream = corpus.documents(mask_only, "held-out")
    while len(wanted) < len(kinds) or min(map(len, wanted.values())) < size:
        doc = next(stream)
        name = f"statements_{doc.level}" if doc.kind == "statements" else doc.kind
        if name not in kinds:
            continue
        start, end = doc.salient
        source, _ = corpus.encode(rng, doc, [], mask_only)
        right = doc.words[start:end]
        good = [IDS[word] for word in family.get(right[0], right[:1])]
        row = (source, [*good, good[0]][:2])
        wanted.setdefault(name, []).append(row)
        if name == "statements_2":
            front = [IDS[corpus.pick(rng, corpus.PREFIX_WORDS)] for _ in range(8)]
            wanted.setdefault("prefixed_2", []).append((front + source, row[1]))
    probes = {}
    for name in kinds:
        rows = wanted[name][:size]
        source = np.zeros((size, config.max_source), np.int32)
        for i, (ids, _) in enumerate(rows):
            source[i, : len(ids)] = ids
        probes[name] = Probe(source, np.array([good for _, good in rows], np.int32))
    return probes


def first_word(theta, source: jax.Array, *, config: T5Config) -> jax.Array:
    """The likeliest token [N] after <extra_id_0>."""
    target = jnp.full((source.shape[0], 2), IDS["<extra_id_0>"], jnp.int32)
    return jnp.argmax(_next_tokens(theta, source, target, config=config)[:, 1], axis=-1)


def evaluate(guess: Callable, theta, probes: dict[str, Probe]) -> dict[str, float]:
    """Share of right words by probe; ``guess`` is :func:`first_word`, compiled: a function of (theta, source)."""
    guessed = np.asarray(guess(theta, np.concatenate([probe.source for probe in probes.values()])))
    parts = np.split(guessed, np.cumsum([len(probe.source) for probe in probes.values()])[:-1])
    return {name: float(np.mean((part[:, None] == probe.good).any(axis=1)))
            for (name, probe), part in zip(probes.items(), parts, strict=True)}


# The loop --------------------------------------------------------------------------------------------------------


def blocks(config: CorpusConfig, first: int, workers: int) -> Iterator[corpus.Block]:
    """Blocks from ``first`` on, made ahead by ``workers`` processes (0: here)."""
    make = instructions.block if config.instructions else corpus.block
    if not workers:
        index = first
        while True:
            yield make(config, index)
            index += 1
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = deque(pool.submit(make, config, first + i) for i in range(2 * workers + 2))
        try:
            while True:
                yield waiting.popleft().result()
                waiting.append(pool.submit(make, config, first + len(waiting) + 1))
                first += 1
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _flat(tree) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _save_state(path: pathlib.Path, state: TrainState, **facts) -> None:
    aside = path.with_suffix(".tmp")
    save_file(_flat(state), aside, metadata={key: json.dumps(value) for key, value in facts.items()})
    os.replace(aside, path)


def _load_state(path: pathlib.Path, like: TrainState, identity: str) -> tuple[TrainState, dict]:
    with safe_open(path, framework="numpy") as file:
        facts = {key: json.loads(value) for key, value in file.metadata().items()}
        if facts["config"] != identity:
            raise UserError(f"{path} was made with another configuration: give another --out, or delete it.")
        leaves, tree = jax.tree_util.tree_flatten_with_path(like)
        values = [jnp.asarray(file.get_tensor(jax.tree_util.keystr(name))) for name, _ in leaves]
    return jax.tree.unflatten(tree, values), facts


def _keep_lines(path: pathlib.Path, step: int) -> None:
    """Drops the evaluations behind ``step``, which the run that goes on from there writes again."""
    if not path.exists():
        return
    kept, aside = [], path.with_suffix(".tmp")
    for line in path.read_text().splitlines(keepends=True):
        # The last line may be cut off, where the process was killed.
        if line.endswith("\n") and json.loads(line)["step"] <= step:
            kept.append(line)
    aside.write_text("".join(kept))
    os.replace(aside, path)


def _trim(array: np.ndarray) -> np.ndarray:
    """Columns behind the longest row are cut, up to a multiple of 8, so that few shapes are compiled."""
    longest = int((array != 0).any(axis=(0, 1)).nonzero()[0].max()) + 1
    return array[..., : -(-longest // 8) * 8]


def pretrain(config: PretrainConfig, out: pathlib.Path, workers: int, log: Callable[[str], None] = print) -> dict:
    """Trains, keeping state in ``out``/checkpoint.safetensors and a line an evaluation in ``out``/metrics.jsonl.

    Returns:
      facts for the card (documents, steps, last loss, accuracies, seconds), and ``theta``.

    Raises:
      UserError: ``out`` holds the checkpoint of another configuration, ``documents`` is changed when the rate's decay
        has begun (under the old number or the new one), or the loss is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    if config.start:
        t5_config, theta = convert.load(config.start)
        if t5_config != config.t5:
            raise UserError(f"{config.start}: its shape is not the one that the configuration states.")
    else:
        theta = jax.jit(functools.partial(model.init, config.t5))(jax.random.key(config.corpus.seed))
    state = init_state(theta, config=config)
    identity = digest(dataclasses.replace(config, minutes=0.0, documents=1, checkpoint_seconds=1.0, dispatch=1))
    checkpoint, metrics_file = out / "checkpoint.safetensors", out / "metrics.jsonl"
    size = config.corpus.batch_size * config.corpus.block_batches
    total = 0 if config.minutes else -(-config.documents // size)
    spent = 0.0
    if checkpoint.exists():
        state, facts = _load_state(checkpoint, state, identity)
        spent, total, planned = facts["seconds"], total or facts["total"], facts["total"] or total
        flat = (1 - config.decay) * min(total, planned) * config.corpus.block_batches
        if total != planned and int(state.step) > flat:
            raise UserError(f"{checkpoint} was planned for {planned * size} documents, which cannot change once the "
                            f"rate decays: give --documents {planned * size}, or another --out.")
        log(f"going on from step {int(state.step)} in {checkpoint}")
    _keep_lines(metrics_file, int(state.step))
    step = jax.jit(functools.partial(train_batches, config=config), donate_argnums=0)
    guess = jax.jit(functools.partial(first_word, config=config.t5))
    probes = draw_probes(config.corpus, config.eval_examples)
    first = done = int(state.step) // config.corpus.block_batches
    scores, losses, saved, timed = {}, [], time.monotonic(), None
    for made in blocks(config.corpus, first, workers):
        if total and done >= total:
            break
        num_steps = jnp.asarray(total * config.corpus.block_batches or 2**30, jnp.int32)
        for i in range(0, config.corpus.block_batches, config.dispatch):
            rows = slice(i, i + config.dispatch)
            source, target = made.source[rows], made.target[rows]
            if config.dispatch < config.corpus.block_batches:
                source, target = _trim(source), _trim(target)
            state, values = step(state, source, target, num_steps)
            losses.append(values)
        done += 1
        now = time.monotonic()
        # The clock starts behind the first evaluation, so that compiling does not count.
        if not total and timed is not None and now - timed[0] > 20:
            jax.block_until_ready(state)
            now = time.monotonic()
            left = 60 * config.minutes - (now - began + spent)
            total = done + max(int(left * 0.97 * (done - timed[1]) / (now - timed[0])), 1)
            log(f"{total * size} documents ({total * config.corpus.block_batches} steps) will fit")
        last = bool(total) and done >= total
        if timed is None or done % config.eval_every == 0 or last:
            value = float(np.mean(np.concatenate([np.asarray(v) for v in losses])))
            if not np.isfinite(value):
                raise UserError(f"the loss is {value} before step {int(state.step)}: lower learning_rate; "
                                f"{checkpoint} holds the last good state.")
            scores, losses = evaluate(guess, state.theta, probes), []
            seconds = spent + time.monotonic() - began
            line = {"step": int(state.step), "documents": done * size, "seconds": round(seconds, 1),
                    "loss": round(value, 4), **{name: round(score, 3) for name, score in scores.items()}}
            with metrics_file.open("a") as file:
                file.write(json.dumps(line) + "\n")
            log(" ".join(f"{key} {value}" for key, value in line.items()))
            timed = timed or (time.monotonic(), done)
        if last or (time.monotonic() - saved > config.checkpoint_seconds and bool(jnp.isfinite(values).all())):
            saved = time.monotonic()
            _save_state(checkpoint, state, config=identity, total=total, seconds=spent + saved - began)
    facts = json.loads(metrics_file.read_text().splitlines()[-1])
    return {**facts, "theta": state.theta}


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

Made by `python -m train.pretrain {command}`.
"""


def save_backbone(folder: pathlib.Path, config: PretrainConfig, facts: dict, command: str) -> None:
    """Writes a Hugging Face directory with float16 weights, tokenizer and card; written aside, then renamed.

    ``command`` is what the card says after `python -m train.pretrain`.
    """
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    convert.save(aside, config.t5, facts["theta"], dtype="float16")
    save_tokenizer(aside)
    skipped = ("theta", "step", "documents", "seconds", "loss")
    scores = ", ".join(f"{name} {value}" for name, value in facts.items() if name not in skipped)
    text = "unlabelled documents of the mini world: masked joints and answers, masked words, prefix language modelling"
    if config.corpus.instructions:
        text = f"verbalised tasks of the mini world, after {config.start.rstrip('/').rsplit('/', 1)[-1]}"
    card = _CARD.format(
        **dataclasses.asdict(config) | {"documents": facts["documents"]}, step=facts["step"], loss=facts["loss"],
        seconds=facts["seconds"], parameters=sum(x.size for x in jax.tree.leaves(facts["theta"])), tokens=len(TOKENS),
        text=text, batch=config.corpus.batch_size, seed=config.corpus.seed, scores=scores, command=command,
        device=jax.devices()[0].device_kind)
    (aside / "README.md").write_text(card)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)
