"""How fast are a prompt step and greedy decoding of SmolLM2 here, compared with PEFT and ``transformers``?

    dawgen backbone fetch smollm2-135m-q4
    python -m benchmarks.causal [--runs 5] [--only step generator generation]

step: 8 + 8 rows of movie reviews (MR), 20 prompt rows, float32, gradient surgery, clipping and AdamW. PyTorch is PEFT's
prompt tuning (prompt in front) with one backward pass per source, as in :mod:`benchmarks.twin`. Ours is measured with
the prompt in front, and behind the text with the texts' keys and values computed once: 'behind' is a step on kept ones,
'texts' the computation of the keys and values of its 16 texts, and 'ratio' (behind + share x texts) / PyTorch, where
``share`` is how often a row of configs/english.py needs its text computed: (32 shots + 320 sentences) / (100 x 16).
generator: DawGen's update at lambda 0.1, 2 labels x 3 review sentences, 12 prompt rows; the peer is a transcription of
the paper's update in PyTorch with autograd through the virtual step (:mod:`benchmarks.generator_step`) and no padding.
generation: greedy continuations of the first halves of 400 review sentences up to the end of the line, at most 40
tokens; the peer is ``transformers``' ``generate`` in batches of 64, longest texts together. The last line is JSON.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import peers, twin
from benchmarks.generator_step import torch_update
from dawgen_jax import prompts
from dawgen_jax.backbones.base import Work
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.config import BackboneConfig, load_config
from dawgen_jax.data import batches
from dawgen_jax.data.batches import GeneratorBatch
from dawgen_jax.data.encoding import classifier_arrays, generator_arrays
from dawgen_jax.generator.step import generator_step
from dawgen_jax.generator.step import init_state as init_state_of_generator
from dawgen_jax.methods.contexts import Contexts
from dawgen_jax.methods.verbalizer import class_scores, cross_entropy, weighted_mean
from dawgen_jax.pipeline.generators import start_prompts
from dawgen_jax.pipeline.inputs import backbone_folder, load_backbone, prompt_tail, read_task
from dawgen_jax.surgery import aggregator
from dawgen_jax.training.optimisers import adamw
from dawgen_jax.training.placement import Placement
from dawgen_jax.training.step import init_state, train_step

ROWS, UPDATES = 8, 100
SHARE = (32 + 320) / (UPDATES * 2 * ROWS)
NEW_TOKENS, TEXTS = 40, 400


@functools.lru_cache(maxsize=1)
def given():
    """(folder, backbone, configuration, task's data)."""
    config = dataclasses.replace(load_config("english"), tasks=(twin.TASK,), seeds=twin.SEEDS)
    backbone = load_backbone(BackboneConfig(twin.NAME, scan_unroll=1), Placement.on(1))
    return backbone_folder(twin.NAME), backbone, config, read_task(twin.TASK, config, generates=False)


def step(runs: int) -> dict:
    """Seconds of the prompt step, and the ratio."""
    folder, backbone, config, data = given()
    sources = [classifier_arrays(backbone.format, data.task, data.splits[seed].train, config.classifier.max_tokens, 8)
               for seed in twin.SEEDS]
    batch = batches.trim(twin.draw(sources, ROWS, 0), 8)
    label_ids = tuple(backbone.format.label_ids(data.task).tolist())
    start = prompts.vocabulary_prompt(backbone.theta, backbone.format.word_start_ids(), twin.LENGTH,
                                      model=backbone.model, seed=twin.SEEDS[0])
    tx = optax.chain(aggregator("surgery"), adamw(twin.RATE, UPDATES, weight_decay=0.0, clip_norm=twin.CLIP))
    state = init_state(jnp.asarray(start), tx)

    def compiled(tail: int | None):
        def loss_fn(prompt, theta, rows):
            scores = class_scores(prompt, theta, rows, model=backbone.model, label_ids=label_ids, tail=tail)
            return weighted_mean(cross_entropy(scores, rows.label), rows.weight)

        return jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=tx))

    front, behind = compiled(None), compiled(tail := prompt_tail(backbone.format, data.task, config.classifier))
    contexts = Contexts(backbone, tail, gib=4.0, size=2 * ROWS, multiple=8)
    contexts.keep([batches.take(batch, source) for source in range(2)], "step")

    def texts():
        Contexts(backbone, tail, gib=4.0, size=2 * ROWS, multiple=8).keep(
            [batches.take(batch, source) for source in range(2)], "step")

    model = twin.peft_model(folder, start)
    seconds = peers.alternate({
        "front": lambda: front(state, backbone.theta, batch),
        "behind": lambda: behind(state, backbone.theta, contexts.attach(batch)),
        "texts": texts,
        "PyTorch": lambda: twin.theirs("surgery", model, label_ids, [batch]) and None}, runs)
    return {**seconds, "front / PyTorch": seconds["front"] / seconds["PyTorch"], "share": SHARE,
            "ratio": (seconds["behind"] + SHARE * seconds["texts"]) / seconds["PyTorch"]}


def generator(runs: int) -> dict:
    """Seconds of a generator's update, and the ratio."""
    import torch
    import transformers
    folder, backbone, config, data = given()
    config, model = config.generator, backbone.model
    start = start_prompts(data.task, backbone, config.prompt_length, twin.SEEDS[0])
    shots = generator_arrays(backbone.format, data.task, data.splits[twin.SEEDS[0]].train, start["infix"].shape[1],
                             config)
    index = np.concatenate([np.flatnonzero(shots.label == label)[:3] for label in range(2)])
    batch = GeneratorBatch(*(leaf[index] for leaf in shots))
    state = init_state_of_generator(start, jax.random.key(0), config=config, num_steps=UPDATES)
    ours = jax.jit(functools.partial(generator_step, config=config, model=model, num_steps=UPDATES))

    peer = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval().requires_grad_(False)
    columns = batch.source_mask.any(axis=0)
    assert batch.source_mask[:, columns].all()  # single texts have no first sentence: all inputs are equally long
    source, slots, target = (torch.tensor(np.asarray(leaf, np.int64)).repeat(2, 1) for leaf in
                             (batch.source[:, columns], batch.slots[:, columns], batch.target))
    size, head, rows = len(index), model.head, torch.arange(2).repeat_interleave(len(index))
    seen = torch.tensor(batch.target_mask).repeat(2, 1)
    embedded, written = peer.model.embed_tokens(source), peer.model.embed_tokens(target[:, :-1])
    numbers = torch.arange(len(rows))[:, None]

    def score(Q):
        text = torch.where((slots >= 0)[..., None], Q["infix"][rows][numbers, slots.clamp(min=0)], embedded)
        inputs = torch.cat([text[:, :head], Q["prompt"][rows], text[:, head:], written], 1)
        first = inputs.shape[1] - target.shape[1]
        mask = torch.cat([torch.ones(len(rows), first + 1, dtype=torch.bool), seen[:, :-1]], 1)
        states = peer.model(inputs_embeds=inputs, attention_mask=mask.long(), use_cache=False).last_hidden_state[
            :, first:]
        log_prob = torch.log_softmax(peer.lm_head(states), -1).gather(-1, target[..., None])[..., 0]
        return log_prob.reshape(2, size, -1), states.reshape(2, size, -1, states.shape[-1])

    reference = torch_update(score, state, batch, config)
    np.testing.assert_allclose(ours(state, backbone.theta, batch)[1]["loss"], reference(), rtol=1e-3)
    seconds = peers.alternate({"here": lambda: ours(state, backbone.theta, batch), "PyTorch": reference}, runs)
    return {**seconds, "tokens of a sentence": int(batch.target_mask.shape[1]),
            "ratio": seconds["here"] / seconds["PyTorch"]}


def generation(runs: int) -> dict:
    """Sentences per second, and the ratio."""
    import torch
    import transformers
    folder, backbone, _, data = given()
    form, model = backbone.format, backbone.model
    (end,), = form.ids(["\n"])
    halves = [" ".join(words[:len(words) // 2]) for words in
              (example.sentence2.split() for example in data.test[:TEXTS])]
    texts = [[*form.start, *ids] for ids in form.ids(halves)]
    width = -(-max(map(len, texts)) // 16) * 16

    def embed_fn(theta, _, rows):
        return model.embed(theta, rows.source), rows.mask

    decoder = Decoder(model, embed_fn, eos_id=end, banned=(), slots=64, widths=tuple(range(16, width + 1, 16)),
                      max_new_tokens=NEW_TOKENS, penalty=False, draw=False)
    work = [Work(0, number, np.array(text), None, Sampling(max_new_tokens=NEW_TOKENS))
            for number, text in enumerate(texts)]
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours: dict[int, list[int]] = {}
    theirs: dict[int, list[int]] = {}

    def here():
        ours.update({sample.index: [int(token) for token in sample.tokens]
                     for sample in decoder.generate(backbone.theta, None, work, jax.random.key(0))})

    def there():
        order = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
        for first in range(0, len(order), 64):
            chosen = order[first:first + 64]
            length = max(len(texts[number]) for number in chosen)
            tokens = torch.tensor([[end] * (length - len(texts[number])) + texts[number] for number in chosen])
            mask = torch.tensor([[0] * (length - len(texts[number])) + [1] * len(texts[number]) for number in chosen])
            with torch.no_grad():
                made = peer.generate(tokens, attention_mask=mask, do_sample=False, max_new_tokens=NEW_TOKENS,
                                     eos_token_id=end, pad_token_id=end)
            for number, row in zip(chosen, made[:, length:].tolist(), strict=True):
                theirs[number] = row[:row.index(end)] if end in row else row

    seconds = peers.alternate({"here": here, "transformers": there}, runs)
    cut = {number: [*tokens, end][:[*tokens, end].index(end)] for number, tokens in ours.items()}
    return {**{f"{name}, sentences/s": TEXTS / value for name, value in seconds.items()},
            "times transformers": seconds["transformers"] / seconds["here"], "texts": TEXTS,
            "mean new tokens": float(np.mean([len(tokens) for tokens in cut.values()])),
            "equal texts": sum(cut[number] == theirs[number] for number in cut)}


if __name__ == "__main__":
    peers.main(__doc__, {"step": step, "generator": generator, "generation": generation}, runs=5)
