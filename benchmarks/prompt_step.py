"""How long does a prompt-tuning step with surgery take, compared with PyTorch's two backward passes on equal weights?

    python -m benchmarks.prompt_step [--runs 7] [--only speed limit sources padding seeds compile]

speed: T5-v1.1-small shape, 8 real + 8 synthetic rows, 100 prompt rows + 100 tokens, float32; the PyTorch step is
``transformers``' T5 with inputs_embeds, one backward pass per source, Algorithm 2, clipping and ``transformers``'
Adafactor. limit: the step's rate of floating-point operations compared with the rate of its feed-forward product alone.
sources: two sources under one vmap against one source with both batches, which is all that a step without surgery
needs. padding: the same step at the lengths of batches of real SICK and MRPC (multiples of 16), instead of 100
(needs the shared data folder, DAWGEN_SHARED). seeds: five seeds under one vmap at mini size. compile: lowering and
compiling a T5-large-shaped step from shapes alone. The last line is JSON.
"""

from __future__ import annotations

import collections
import functools
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import peers
from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.config import PAPER, ClassifierConfig
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.surgery import aggregator
from dawgen_jax.training import optimisers
from dawgen_jax.training.step import init_state, train_step
from tests.oracles import prompt_loss

CONFIG = ClassifierConfig(**PAPER)
LABEL_IDS, MASK_ID = (4273, 7163, 150), 32099
NUM_STEPS = 100


def make_batch(t5, rows: int, tokens: int, leading=(2,), seed: int = 0) -> ClassifierBatch:
    random = np.random.default_rng(seed)
    lengths = random.integers(tokens // 2, tokens + 1, (*leading, rows))
    lengths[..., 0] = tokens
    mask = np.arange(tokens) < lengths[..., None]
    ids = np.where(mask, random.integers(3, min(t5.vocab_size, 32000), mask.shape), 0).astype(np.int32)
    return ClassifierBatch(ids, mask, random.integers(0, 3, lengths.shape).astype(np.int32),
                           np.ones(lengths.shape, np.float32))


def make_step(t5, label_ids=LABEL_IDS, mask_id=MASK_ID):
    tx = optax.chain(aggregator("surgery", epsilon=CONFIG.epsilon), optimisers.adafactor(CONFIG, NUM_STEPS))
    loss_fn = functools.partial(prompt_loss, model=T5(t5, mask_id), label_ids=label_ids)
    return functools.partial(train_step, loss_fn=loss_fn, tx=tx), tx


def torch_step(t5, theta, start, batch: ClassifierBatch):
    """A closure that does one PyTorch step and returns its losses and prompt."""
    import torch
    from transformers.optimization import Adafactor
    peer = peers.torch_peer(t5, theta)
    prompt = torch.nn.Parameter(torch.tensor(np.array(start)))
    optimiser = Adafactor([prompt], lr=CONFIG.learning_rate, relative_step=False, scale_parameter=False,
                          warmup_init=False, weight_decay=CONFIG.weight_decay)
    tokens, mask = (torch.tensor(leaf) for leaf in (batch.tokens.astype(np.int64), batch.mask.astype(np.int64)))
    labels = torch.tensor(batch.label.astype(np.int64))
    words, sources, rows = list(LABEL_IDS), *batch.label.shape
    inputs = torch.tensor([[t5.decoder_start_id, MASK_ID]]).expand(rows, -1)
    front = torch.ones(rows, start.shape[0], dtype=torch.int64)

    def run():
        losses, gradients = [], []
        for source in range(sources):
            embedded = torch.cat([prompt[None].expand(rows, -1, -1), peer.shared(tokens[source])], 1)
            scores = peer(inputs_embeds=embedded, attention_mask=torch.cat([front, mask[source]], 1),
                          decoder_input_ids=inputs, use_cache=False).logits[:, 1, words]
            loss = torch.nn.functional.cross_entropy(scores, labels[source])
            prompt.grad = None
            loss.backward()
            losses.append(loss.item())
            gradients.append(prompt.grad)
        real, synthetic = gradients
        inner = (real * synthetic).sum()
        if inner < 0:
            synthetic = synthetic - inner / (real * real).sum() * real
        prompt.grad = real + CONFIG.epsilon * synthetic
        torch.nn.utils.clip_grad_norm_([prompt], CONFIG.clip_norm)
        optimiser.step()
        return losses

    return run


def speed(runs: int) -> dict:
    t5 = peers.SMALL
    theta = peers.random_theta(t5)
    start = 10 * np.random.default_rng(1).normal(size=(100, t5.d_model)).astype(np.float32)
    batch = make_batch(t5, 8, 100)
    step, tx = make_step(t5)
    compiled = jax.jit(step).lower(init_state(start, tx), theta, batch).compile()
    states = [init_state(start, tx)]
    reference = torch_step(t5, theta, start, batch)
    _, metrics = compiled(states[0], theta, batch)
    np.testing.assert_allclose(metrics["loss"], reference(), rtol=1e-3)

    def ours():
        states[0], metrics = compiled(states[0], theta, batch)
        return metrics

    seconds = peers.alternate({"jax": ours, "torch": reference}, runs)
    return {"seconds": seconds, "ratio": seconds["jax"] / seconds["torch"],
            "temporary_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20}


def small_step(sources: int, rows: int):
    """A compiled step at T5-v1.1-small's shape, closed over its inputs, and its operations."""
    t5 = peers.SMALL
    step, tx = make_step(t5)
    state = init_state(10 * np.random.default_rng(1).normal(size=(100, t5.d_model)).astype(np.float32), tx)
    theta, batch = peers.random_theta(t5), make_batch(t5, rows, 100, (sources,))
    compiled = jax.jit(step).lower(state, theta, batch).compile()
    return functools.partial(compiled, state, theta, batch), compiled.cost_analysis()["flops"]


def limit(runs: int) -> dict:
    step, flops = small_step(2, 8)
    x = jnp.ones((2 * 8 * 200, peers.SMALL.d_model))
    product = jax.jit(lambda x, w: x @ w)
    w = jnp.ones((peers.SMALL.d_model, peers.SMALL.d_ff))
    repeats = 50

    def products():
        for _ in range(repeats):
            y = product(x, w)
        return y

    seconds = peers.alternate({"step": step, "products": products}, runs)
    rate = repeats * 2 * x.size * w.shape[1] / seconds["products"]
    return {"gflop": flops / 1e9, "gflop_per_s": flops / seconds["step"] / 1e9, "product_gflop_per_s": rate / 1e9,
            "share_of_product_rate": flops / seconds["step"] / rate}


def sources(runs: int) -> dict:
    seconds = peers.alternate({"two": small_step(2, 8)[0], "one": small_step(1, 16)[0]}, runs)
    return {"seconds": seconds, "ratio": seconds["two"] / seconds["one"]}


def padding(runs: int) -> dict:
    """Seconds at each padded width, weighted by how often 8 + 8 random rows of a real training pool need it."""
    from dawgen_jax.backbones.t5.format import T5Format
    from dawgen_jax.backbones.tokens import read_tokenizer
    from dawgen_jax.data import encoding, pools
    from dawgen_jax.tasks import SEVEN
    shared = pathlib.Path(os.environ.get("DAWGEN_SHARED", pathlib.Path(__file__).parents[2] / "shared"))
    if not (shared / "data").is_dir():
        return {"skipped": "no shared data; set DAWGEN_SHARED"}
    words = T5Format(read_tokenizer(shared / "tokenizer"), peers.SMALL.vocab_size)
    t5 = peers.SMALL
    theta = peers.random_theta(t5)
    start = np.asarray(theta["embedding"][3:103])
    step, tx = make_step(t5)
    counts, random = {}, np.random.default_rng(0)
    for name in ("SICK", "MRPC"):
        task = SEVEN[name]
        train = pools.load_pools(task, str(shared / "data")).train
        lengths = np.array([len(row) for row in encoding.template_rows(words, task, train, 100)])
        widths = [min(-(-int(random.choice(lengths, 16, replace=False).max()) // 16) * 16, 100) for _ in range(500)]
        counts[name] = collections.Counter(widths)
    every = sorted({100, *(width for found in counts.values() for width in found)})
    steps = {}
    for width in every:
        batch = make_batch(t5, 8, width)
        state = init_state(start, tx)
        compiled = jax.jit(step).lower(state, theta, batch).compile()
        steps[str(width)] = functools.partial(compiled, state, theta, batch)
    seconds = peers.alternate(steps, runs)
    gains = {name: sum(seconds[str(w)] * n for w, n in found.items()) / sum(found.values()) / seconds["100"]
             for name, found in counts.items()}
    return {"seconds": seconds, "relative_time": gains,
            "widths": {name: dict(sorted(found.items())) for name, found in counts.items()}}


def seeds(runs: int, number: int = 5) -> dict:
    t5 = peers.MINI
    theta = peers.random_theta(t5)
    step, tx = make_step(t5, (5, 6, 7), 8)
    timed = {}
    for count in (1, number):
        starts = jnp.asarray(np.random.default_rng(0).normal(size=(count, 20, t5.d_model)), jnp.float32)
        state = jax.vmap(functools.partial(init_state, tx=tx))(starts)
        batch = make_batch(t5, 16, 48, (count, 2))
        compiled = jax.jit(jax.vmap(step, in_axes=(0, None, 0))).lower(state, theta, batch).compile()
        timed[str(count)] = functools.partial(compiled, state, theta, batch)
    seconds = peers.alternate(timed, 3 * runs)
    return {"seconds": seconds, "ratio": seconds[str(number)] / seconds["1"]}


def compile_large(_: int) -> dict:
    t5 = peers.LARGE
    step, tx = make_step(t5)
    state = jax.eval_shape(functools.partial(init_state, tx=tx), jax.ShapeDtypeStruct((100, t5.d_model), jnp.float32))
    return peers.compile_cost(step, state, model.abstract(t5), make_batch(t5, 16, 96))


if __name__ == "__main__":
    peers.main(__doc__, {"speed": speed, "limit": limit, "sources": sources, "padding": padding, "seeds": seeds,
                         "compile": compile_large}, runs=7)
