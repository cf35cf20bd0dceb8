"""How fast is decoding of synthetic text, compared with PyTorch ``transformers`` and CTranslate2 on the same weights?

    python -m benchmarks.generation [--runs 3] [--samples 256] [--only speed flat top_k load accelerator]

speed: greedy decoding in float32 with the T5-v1.1-small shape and an untied head, on real first sentences of mixed
length (needs the shared data folder, DAWGEN_SHARED); every row has a fixed length out of 10, 18, ..., 50 tokens. Peers
run one call per length, sorted by length (PyTorch also in arrival order, with all rows of a batch decoded to its
largest length). Only useful tokens count. Outputs may first differ only at a near tie, a gap between the two best
scores below 1e-4; a row that differs elsewhere ends the run with an error after all results are printed. Needs torch
and ctranslate2 (pip install ctranslate2). flat: seconds and peak memory for 10 times the samples. top_k: keeping the
best k of 32,128 scores. load: peak memory of reading a T5-large-shaped checkpoint. accelerator: tokens per second of
T5-large in bfloat16 at batch 256 for two widths of the source, as a share of the bound given by the measured copy
bandwidth, and the gain of cross-attention with keys and values in int8. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gzip
import itertools
import json
import multiprocessing
import os
import pathlib
import resource
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import peers
from dawgen_jax.backbones import engine, sampling
from dawgen_jax.backbones.base import Work
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.backbones.t5 import convert, model
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.seam import T5

BUDGETS = (10, 18, 26, 34, 42, 50)
WIDTHS = (16, 24, 32, 40, 48, 64, 96)
NAMES = ("<pad>", "</s>", "<unk>")
"""The rows of T5's vocabulary to which CTranslate2 refers by name."""
DIFFERING = "rows that differ, and not at near ties"
SHARED = pathlib.Path(os.environ.get("DAWGEN_SHARED", pathlib.Path(__file__).parents[2] / "shared"))


def first_sentences(count: int) -> list[list[int]]:
    """Token ids of released first sentences of four tasks in turn, without repeats (most of RTE's are MRPC's)."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHARED / "tokenizer")
    tasks = []
    for task in ("QQP", "MRPC", "MNLI", "RTE"):
        sentences: dict[str, None] = {}
        for file in sorted((SHARED / "data" / "synthetic_fewgen" / task).glob("*/gen-train.jsonl.gz")):
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                sentences |= dict.fromkeys(json.loads(line)["sentence1"] for line in lines)
        tasks.append(sentences)
    mixed = dict.fromkeys(sentence for group in zip(*tasks, strict=False) for sentence in group)
    return tokenizer(list(itertools.islice(itertools.cycle(mixed), count)))["input_ids"]


def make_decoder(config, **options) -> Decoder:
    def embed_fn(theta, prompts, rows):
        return model.embed(theta, rows.source, config=config), rows.mask

    return Decoder(T5(config), embed_fn, eos_id=config.eos_id, banned=(config.pad_id,), max_new_tokens=max(BUDGETS),
                   penalty=False, draw=False, **options)  # fmt: skip


def make_work(sources, budgets) -> list[Work]:
    return [
        Work(0, i, source, None, Sampling(min_new_tokens=budget, max_new_tokens=budget))
        for i, (source, budget) in enumerate(zip(sources, budgets, strict=True))
    ]


def run_ours(decoder: Decoder, theta, work) -> dict[int, np.ndarray]:
    return {sample.index: sample.tokens for sample in decoder.generate(theta, None, work, jax.random.key(0))}


def run_torch(peer, sources, budgets, batches) -> dict[int, np.ndarray]:
    """One call of ``generate`` per batch of row numbers, each to the batch's largest budget."""
    import torch

    out = {}
    for batch in batches:
        length, budget = max(len(sources[i]) for i in batch), max(budgets[i] for i in batch)
        tokens = np.zeros((len(batch), length), np.int64)
        for row, i in enumerate(batch):
            tokens[row, : len(sources[i])] = sources[i]
        with torch.no_grad():
            made = peer.generate(
                torch.tensor(tokens), attention_mask=torch.tensor(tokens != 0).long(), do_sample=False, num_beams=1,
                max_new_tokens=budget, min_new_tokens=budget)  # fmt: skip
        out |= {i: row[1 : 1 + budgets[i]].numpy() for i, row in zip(batch, made, strict=True)}
    return out


def ctranslate2_peer(config, theta, threads: tuple[int, int]):
    """The same weights in CTranslate2 float32; ``threads`` are (between batches, within a batch)."""
    import ctranslate2

    with tempfile.TemporaryDirectory() as folder:
        convert.save(f"{folder}/hf", config, theta, tokenizer_from=SHARED / "tokenizer")
        ctranslate2.converters.TransformersConverter(f"{folder}/hf").convert(f"{folder}/ct2")
        # The converter names rows after the tokenizer's last token like sentinels, whose names are already used.
        vocabulary = pathlib.Path(folder, "ct2", "shared_vocabulary.json")
        assert tuple(json.loads(vocabulary.read_text())[:3]) == NAMES
        vocabulary.write_text(json.dumps(ctranslate2_names(range(config.vocab_size))))
        return ctranslate2.Translator(
            f"{folder}/ct2", device="cpu", compute_type="float32", inter_threads=threads[0], intra_threads=threads[1]
        )


def ctranslate2_names(ids) -> list[str]:
    """Distinct names of token ids."""
    return [NAMES[i] if i < len(NAMES) else str(i) for i in ids]


def run_ctranslate2(translator, sources: list[list[str]], budgets, batches) -> dict[int, np.ndarray]:
    """One call per batch of row numbers with equal budgets; ``sources`` are names."""
    out = {}
    for batch in batches:
        budget = budgets[batch[0]]
        made = translator.translate_batch(
            [sources[i] for i in batch], beam_size=1, max_decoding_length=budget, min_decoding_length=budget,
            max_batch_size=-(-len(batch) // translator.num_translators))  # fmt: skip
        out |= {
            i: np.asarray([NAMES.index(name) if name in NAMES else int(name) for name in row.hypotheses[0]])
            for i, row in zip(batch, made, strict=True)
        }
    return out


@functools.partial(jax.jit, static_argnames="config")
def gap_at(theta, source, mask, tokens, position, one, other, *, config):
    """Difference between the best score at ``position`` and the worse of two tokens, excluding padding and the end."""
    encoded = model.encode(theta, model.embed(theta, source, config=config), mask, config=config)
    hidden = model.decode(theta, tokens, encoded, mask, config=config)
    scores = model.logits(theta, hidden[:, position], config=config)[0]
    best = jnp.max(scores.at[jnp.array([config.pad_id, config.eos_id])].set(-jnp.inf))
    return best - jnp.minimum(scores[one], scores[other])


def unlike(config, theta, sources, first, second) -> tuple[int, int]:
    """(number of rows that differ, number of those whose first difference is not a near tie)."""
    differing = wrong = 0
    for i, tokens in first.items():
        if np.array_equal(tokens, second[i]):
            continue
        differing += 1
        positions = np.flatnonzero(tokens[: len(second[i])] != second[i][: len(tokens)])
        if not len(positions):
            wrong += 1
            continue
        position = positions[0]
        source = np.pad(sources[i], (0, max(WIDTHS) - len(sources[i])))[None]
        mask = np.arange(max(WIDTHS))[None] < len(sources[i])
        inputs = np.zeros((1, max(BUDGETS)), np.int32)
        inputs[0, 1 : position + 1] = tokens[:position]
        gap = gap_at(theta, source, mask, inputs, position, tokens[position], second[i][position], config=config)
        wrong += not gap < 1e-4
    return differing, wrong


def speed(samples: int, runs: int) -> dict:
    import torch

    config, cores = peers.SMALL, os.cpu_count()
    theta = peers.random_theta(config)
    theta["head"] = theta["head"].at[config.pad_id].set(0)  # padding never wins in the peers, which do not ban it
    sources = first_sentences(samples)
    budgets = [BUDGETS[i % len(BUDGETS)] for i in range(samples)]
    by_budget = [[i for i in range(samples) if budgets[i] == budget] for budget in BUDGETS]
    by_budget = [sorted(batch, key=lambda i: len(sources[i])) for batch in by_budget]
    halves = [half for batch in by_budget for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]) if half]
    arrival = [list(range(start, min(start + 43, samples))) for start in range(0, samples, 43)]
    torch.set_num_threads(cores)
    peer = peers.torch_peer(config, theta)
    named = [ctranslate2_names(source) for source in sources]
    decoders = {slots: make_decoder(config, slots=slots, widths=WIDTHS) for slots in (64, 128)}
    work = make_work(sources, budgets)
    threads = dict.fromkeys([(1, cores), (cores, 1)])
    translators = {pair: ctranslate2_peer(config, theta, pair) for pair in threads}
    calls = {
        **{f"ours, {slots} slots": lambda d=d: run_ours(d, theta, work) for slots, d in decoders.items()},
        "torch, a call per budget": lambda: run_torch(peer, sources, budgets, by_budget),
        "torch, half a budget": lambda: run_torch(peer, sources, budgets, halves),
        "torch, unsorted": lambda: run_torch(peer, sources, budgets, arrival),
        **{
            f"ctranslate2, {pair[0]} x {pair[1]} threads": lambda t=t: run_ctranslate2(
                t, named, budgets, by_budget
            )
            for pair, t in translators.items()
        },
    }
    outputs = {name: call() for name, call in calls.items()}
    assert not any(decoder.cut for decoder in decoders.values()), "a source was cut: the peers read more text"
    traces = {slots: dict(decoder.traces) for slots, decoder in decoders.items()}
    seconds = peers.alternate(calls, runs)
    assert traces == {slots: dict(decoder.traces) for slots, decoder in decoders.items()}, "recompiled after warm-up"
    useful = sum(budgets)
    figures = {f"{name}: tokens/s": useful / value for name, value in seconds.items()}
    best = {
        kind: max(figures[f"{name}: tokens/s"] for name in calls if name.startswith(kind) and "unsorted" not in name)
        for kind in ("ours", "torch", "ctranslate2")
    }
    first = outputs["ours, 64 slots"]
    differing = {name: unlike(config, theta, sources, first, other) for name, other in outputs.items()}
    lengths = np.asarray([len(source) for source in sources])
    return {
        "ratio_to_torch": best["ours"] / best["torch"],
        "ratio_to_ctranslate2": best["ours"] / best["ctranslate2"],
        "useful_tokens": useful,
        "source_tokens": int(lengths.sum()),
        "longest_source": int(lengths.max()),
        **figures,
        DIFFERING: differing,
    }


class PeakMemory:
    """Increase of the process's largest anonymous resident memory while the context is open, in bytes."""

    def __enter__(self):
        self.before = self.now()
        self.peak, self._stop = self.before, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self.growth = self.peak - self.before

    def _watch(self):
        while not self._stop.wait(0.002):
            self.peak = max(self.peak, self.now())

    @staticmethod
    def now() -> int:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def flat(samples: int, runs: int) -> dict:
    """Seconds and peak memory of a stream and of a stream ten times as long."""
    config = peers.MINI
    theta = peers.random_theta(config)
    decoder = make_decoder(config, slots=64, widths=(32, 64))

    draw = np.random.default_rng(0)
    sources = [draw.integers(3, config.vocab_size, draw.integers(8, 60)) for _ in range(samples)]

    def stream(count):  # repeats the same samples, so that ten times as many are ten times the work
        for i in range(count):
            budget = BUDGETS[i % samples % len(BUDGETS)]
            yield Work(0, i, sources[i % samples], None, Sampling(min_new_tokens=budget, max_new_tokens=budget))

    def consume(count):
        return sum(len(sample.tokens) for sample in decoder.generate(theta, None, stream(count), jax.random.key(0)))

    seconds = peers.alternate({"one": lambda: consume(samples), "ten": lambda: consume(10 * samples)}, runs)
    growth = {}
    for name, count in (("one", samples), ("ten", 10 * samples)):
        with PeakMemory() as memory:
            consume(count)
        growth[name] = memory.growth / 2**20
    return {"ten_times_the_samples_cost": seconds["ten"] / seconds["one"], "flat_seconds": seconds,
            "flat_peak_mib": growth}  # fmt: skip


def top_k(runs: int, rows: int = 64, k: int = 50) -> dict:
    """Seconds of keeping the best k of a large vocabulary, by bisection as in sampling, and by ``lax.top_k``."""
    scores = jax.random.normal(jax.random.key(0), (rows, peers.SMALL.vocab_size))
    ours = functools.partial(jax.jit(sampling.truncate), scores, jnp.full(rows, k), jnp.ones(rows))
    by_sort = jax.jit(lambda scores: jnp.where(scores >= jax.lax.top_k(scores, k)[0][:, -1:], scores, -jnp.inf))
    np.testing.assert_array_equal(ours(), by_sort(scores))
    seconds = peers.alternate({"ours": ours, "lax.top_k": lambda: by_sort(scores)}, 5 * runs)
    return {"top_k_time_ratio": seconds["ours"] / seconds["lax.top_k"], "top_k_seconds": seconds}


def write_large(folder: str) -> None:
    """A T5-large-shaped checkpoint in float16."""
    theta = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float16), model.abstract(peers.LARGE))
    convert.save(folder, peers.LARGE, theta)


def read_large(folder: str) -> dict:
    """The report of :func:`load`, measured in this process."""
    jax.config.update("jax_platforms", "cpu")  # theta then counts as the host's memory
    shapes = jax.tree.leaves(model.abstract(peers.LARGE))
    largest, total = max(leaf.size * 4 for leaf in shapes), sum(leaf.size * 4 for leaf in shapes)
    jax.block_until_ready(jax.device_put(np.zeros(8)))
    start = time.perf_counter()
    with PeakMemory() as memory:
        loaded = convert.load(folder)
    seconds = time.perf_counter() - start
    del loaded
    return {"load_seconds": seconds, "load_theta_gib": total / 2**30,
            "load_growth_over_theta_in_largest_leaves": (memory.growth - total) / largest}  # fmt: skip


def load() -> dict:
    """Growth of peak memory while reading a T5-large-shaped checkpoint, beyond theta, in units of the largest leaf."""
    with tempfile.TemporaryDirectory() as folder:
        for function in (write_large, read_large):
            # Separate processes, since the load could reuse memory that was freed before without being measured.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                found = pool.submit(function, folder).result()  # raises if the process failed or was killed
    return found


def copy_rate(runs: int) -> float:
    """Bytes per second of reading and writing a large array."""
    block = jnp.zeros(2**29 if jax.devices()[0].platform != "cpu" else 2**24, jnp.bfloat16)
    copies = 50  # in one program, so that the launch does not count
    copy = jax.jit(lambda block: jax.lax.fori_loop(0, copies, lambda _, block: block + 1, block))
    return copies * 2 * block.nbytes / peers.alternate({"copy": lambda: copy(block)}, runs)["copy"]


def token_rate(runs: int, config: T5Config, source: int, rate: float, slots: int = 256, steps: int = 64) -> dict:
    """Tokens per second in bfloat16, and their share of the bound for ``rate`` bytes per second."""
    config = dataclasses.replace(config, dtype="bfloat16")
    theta = jax.jit(lambda key: jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), model.init(config, key)))(
        jax.random.key(0)
    )
    layers = jax.jit(lambda theta: model.unstack(theta, config=config))(theta)
    state = engine.empty(source, model=T5(config), slots=slots, new_tokens=steps, penalty=False)
    full = jnp.full(slots, steps)
    settings = state.sampling._replace(min_new_tokens=full, max_new_tokens=full)
    inputs = state.cache.inputs._replace(mask=jnp.ones_like(state.cache.inputs.mask))
    state = state.replace(sampling=settings, cache=state.cache._replace(inputs=inputs))
    none = np.zeros(config.vocab_size, bool)

    @jax.jit
    def run(state, layers):
        state = state.replace(active=~state.active)
        return engine.advance(state, layers, np.int32(slots), model=T5(config), banned=none, eos_id=config.eos_id,
                              draw=False).tokens  # fmt: skip

    seconds = peers.alternate({"decode": lambda: run(state, layers)}, runs)["decode"]
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves((layers["decoder"], layers["head"])))
    caches = sum(leaf.nbytes for leaf in jax.tree.leaves((state.cache.own, state.cache.inputs.layers)))
    return {"tokens_per_second": slots * steps / seconds, "ms_a_token": 1e3 * seconds / steps,
            "share_of_bandwidth_bound": (weights + caches) / rate * steps / seconds}  # fmt: skip


def int8(runs: int, config: T5Config, source: int = 128, rows: int = 256) -> dict:
    """Cross-attention of one token in all layers, with keys and values in bfloat16, and in int8 with a scale per key.

    This measures the gain from int8 caches, which the decoder does not use.
    """
    shape, repeats = (config.num_decoder_layers, rows, config.num_heads, source, config.d_kv), 20
    held = tuple(jax.random.normal(jax.random.key(i), shape, jnp.bfloat16) for i in range(2))
    scales = tuple(jnp.max(jnp.abs(part), -1, keepdims=True) / 127 for part in held)
    small = tuple(jnp.round(part / scale).astype(jnp.int8) for part, scale in zip(held, scales, strict=True))

    def attend(query, layer):
        keys, values = layer
        scores = jnp.matmul(query, keys.swapaxes(-1, -2), preferred_element_type=jnp.float32)
        return jnp.matmul(jax.nn.softmax(scores, -1).astype(query.dtype), values), None

    def widened(query, layer):
        return attend(query, tuple(part.astype(query.dtype) * scale for part, scale in layer))

    def token(step, held):  # a layer's query is the output of the previous layer
        once = lambda _, query: jax.lax.scan(step, query, held)[0]  # noqa: E731
        return jax.lax.fori_loop(0, repeats, once, jnp.ones((*shape[1:3], 1, shape[-1]), jnp.bfloat16))

    plain, quantised = jax.jit(lambda held: token(attend, held)), jax.jit(lambda held: token(widened, held))
    pairs = tuple(zip(small, scales, strict=True))
    seconds = peers.alternate({"bfloat16": lambda: plain(held), "int8": lambda: quantised(pairs)}, runs)
    return {"ms_a_token": {name: 1e3 * value / repeats for name, value in seconds.items()},
            "int8_gain": seconds["bfloat16"] / seconds["int8"]}


def accelerator(runs: int, config: T5Config = peers.LARGE) -> dict:
    """Decoding in bfloat16 at batch 256 for two widths of the source, and cross-attention in int8."""
    rate = copy_rate(runs)
    return {"copy_gb_per_second": rate / 1e9, "int8": int8(runs, config),
            **{f"source {width}": token_rate(runs, config, width, rate) for width in (64, 128)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=256)
    questions = ["speed", "flat", "top_k", "load", "accelerator"]
    parser.add_argument("--only", nargs="+", choices=questions, default=questions)
    options = parser.parse_args()
    figures: dict = {}
    for name in options.only:
        if name == "accelerator" and jax.devices()[0].platform == "cpu":
            figures["accelerator"] = "none here"
            continue
        if name == "speed" and not SHARED.is_dir():
            figures["speed"] = f"needs the shared data folder (no {SHARED}); set DAWGEN_SHARED"
            continue
        found = {"speed": lambda: speed(options.samples, options.runs), "flat": lambda: flat(256, options.runs),
                 "top_k": lambda: top_k(options.runs), "load": load,
                 "accelerator": lambda: accelerator(options.runs)}[name]()  # fmt: skip
        for key, value in found.items():
            print(f"{key:60}", value, flush=True)
        figures |= found
    figures["peak_rss_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    peers.report(figures)
    for name, (_, wrong) in figures.get(DIFFERING, {}).items():
        assert not wrong, f"{name}: {wrong} rows differ at a gap of 1e-4 or more"


if __name__ == "__main__":
    main()
