"""What does a generator step cost, compared with differentiating through the virtual step and with PyTorch?

    python -m benchmarks.generator_step [--runs 5] [--only speed seeds compile]

speed: T5-v1.1-small shape, 3 labels x 6 examples, 64 + 64 tokens, 20 prompt rows, float32, FewGen (lambda 0) and DawGen
(lambda 1, L_dist in the virtual and in the real step): seconds and temporary memory of the step; of the same step with
``jax.grad`` through the virtual step over all label rows (one jit, no rematerialisation; once with this project's fused
log-probabilities, once with plain log-softmax); seconds of a PyTorch transcription with ``create_graph``. seeds: five
seeds under one vmap at mini size. compile: lowering and compiling a T5-large-shaped step from shapes alone. The last
line is JSON.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import peers
from dawgen_jax.backbones.t5 import model as t5_model
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.config import GeneratorConfig
from dawgen_jax.data.batches import GeneratorBatch
from dawgen_jax.generator import losses, scores, weight_net
from dawgen_jax.generator.step import generator_step, init_state
from dawgen_jax.generator.variants import fixed_by

NUM_STEPS, LABELS = 100, 3


def make_batch(t5, tokens: int = 64, examples: int = 6, seed: int = 0) -> GeneratorBatch:
    random = np.random.default_rng(seed)

    def text():
        lengths = random.integers(tokens // 2, tokens + 1, examples)
        mask = np.arange(tokens) < lengths[:, None]
        return np.where(mask, random.integers(3, min(t5.vocab_size, 32000), mask.shape), 0).astype(np.int32), mask

    slots = np.full((examples, tokens), -1, np.int32)
    slots[:, 20:24] = np.arange(4)
    return GeneratorBatch(*text(), slots, *text(), (np.arange(examples) % LABELS).astype(np.int32))


def make_prompts(t5, rows: int = 20) -> dict:
    random = np.random.default_rng(1)
    return {name: random.normal(size=(LABELS, number, t5.d_model)).astype(np.float32)
            for name, number in (("prompt", rows), ("infix", 4))}


def autodiff_step(state, theta, batch, *, config, model, fused: bool):
    """The metrics of the same step by ``jax.grad`` through the virtual step, over all label rows."""
    mask = batch.target_mask

    def score(Q):
        hidden = scores.hidden_states(Q, theta, batch, range(LABELS), model=model)
        if fused:
            return scores.log_prob(theta, hidden, batch.target, model=model), hidden
        log_prob = jax.nn.log_softmax(model.logits(theta, hidden))
        target = jnp.broadcast_to(batch.target, hidden.shape[:-1])
        return jnp.take_along_axis(log_prob, target[..., None], axis=-1)[..., 0], hidden

    def loss(Q, omega, weight):
        log_prob, hidden = score(Q)
        features = weight_net.features(losses.disc(log_prob, config.disc), hidden[0], config.weight_input)
        w = weight_net.token_weights(omega, features, mask, config.weight_norm)
        total = jnp.sum(w * jnp.where(mask, losses.nll(log_prob), 0))
        if weight:
            hinges, _, paired = losses.dist(losses.pool(hidden, w, mask), batch.label, mask.any(axis=1))
            total = total + weight * losses.example_mean(hinges, paired)
        return total

    def outer(omega):
        slope = jax.grad(loss)(state.label_prompts, omega, config.dist_weight if config.dist_in_virtual else 0.0)
        virtual = jax.tree.map(lambda q, g: q - config.meta_learning_rate * g, state.label_prompts, slope)
        return losses.token_mean(losses.disc(score(virtual)[0], config.disc), mask)

    meta_gradient = jax.grad(outer)(state.weight_net)
    updates, weight_opt_state = weight_net.optimiser(config, NUM_STEPS).update(
        meta_gradient, state.weight_opt_state, state.weight_net)
    omega = optax.apply_updates(state.weight_net, updates)
    value, gradient = jax.value_and_grad(loss)(state.label_prompts, omega, config.dist_weight)
    decay = optax.linear_schedule(config.learning_rate, 0.0, NUM_STEPS)
    tx = optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(decay))
    updates, opt_state = tx.update(gradient, state.opt_state, state.label_prompts)
    state = state.replace(step=state.step + 1, label_prompts=optax.apply_updates(state.label_prompts, updates),
                          weight_net=omega, opt_state=opt_state, weight_opt_state=weight_opt_state)
    return state, {"loss": value, "meta_grad_norm": optax.tree.norm(meta_gradient),
                   "grad_norm": optax.tree.norm(gradient)}


def torch_step(t5, theta, state, batch, config):
    """A closure that does one PyTorch step (autograd through the virtual step) and returns its loss."""
    import torch
    peer = peers.torch_peer(t5, theta, attn_implementation="eager")  # the fused kernel has no second derivative
    source, target, slots = (torch.tensor(np.asarray(leaf, np.int64)).repeat(LABELS, 1)
                             for leaf in (batch.source, batch.target, batch.slots))
    size = len(batch.label)
    rows = torch.arange(LABELS).repeat_interleave(size)
    seen = torch.tensor(batch.source_mask).repeat(LABELS, 1)
    front = torch.ones(len(rows), state.label_prompts["prompt"].shape[1], dtype=torch.bool)
    inputs = torch.cat([torch.full((len(rows), 1), t5.decoder_start_id), target[:, :-1]], 1)
    embedded, positions = peer.shared(source), torch.arange(len(rows))[:, None]

    def score(Q):
        x = torch.where((slots >= 0)[..., None], Q["infix"][rows][positions, slots.clamp(min=0)], embedded)
        x = torch.cat([Q["prompt"][rows], x], 1)
        out = peer(inputs_embeds=x, attention_mask=torch.cat([front, seen], 1).long(), decoder_input_ids=inputs,
                   use_cache=False, output_hidden_states=True)
        log_prob = torch.log_softmax(out.logits, -1).gather(-1, target[..., None])[..., 0]
        return log_prob.reshape(LABELS, size, -1), out.decoder_hidden_states[-1].reshape(LABELS, size, -1, t5.d_model)

    return torch_update(score, state, batch, config)


def torch_update(score, state, batch, config):
    """A closure that does one update of the paper in PyTorch and returns its loss.

    Args:
      score: Q -> log-probabilities [L, B, U] of the gold tokens under every label's prompt, and states [L, B, U, H].
      state: before the update.
      batch: of the update.
      config: rates and weights of the losses.
    """
    import torch
    tensors = functools.partial(jax.tree.map, lambda leaf: torch.tensor(np.array(leaf)))
    Q, omega = ({n: t.requires_grad_() for n, t in tensors(tree).items()}
                for tree in (state.label_prompts, state.weight_net))
    labels, _, width = state.label_prompts["prompt"].shape
    tx = torch.optim.AdamW(Q.values(), lr=config.learning_rate, weight_decay=0.0)
    rate = config.score_learning_rate / width if "w" in omega else config.weight_learning_rate
    weight_tx = torch.optim.Adam(omega.values(), lr=rate, weight_decay=config.weight_decay)
    label, mask, size = torch.tensor(np.asarray(batch.label, np.int64)), torch.tensor(batch.target_mask), len(
        batch.label)

    def disc(log_prob):
        return torch.logsumexp(log_prob, 0) - log_prob[label, torch.arange(size)]

    def weights(omega, values, hidden):
        if config.weight_input == "hidden":
            states = hidden[label, torch.arange(size)].detach()
            scores = states / torch.sqrt(states.pow(2).mean(-1, keepdim=True) + 1e-6) @ omega["w"]
        else:
            inner = torch.relu(values.detach()[..., None] * omega["w1"] + omega["b1"])
            scores = inner @ omega["w2"] + omega["b2"]
        return torch.softmax(scores.masked_fill(~mask, -torch.inf).reshape(-1), 0).reshape(mask.shape)

    def distance(hidden, w):
        w = w * mask / (w * mask).sum(1, keepdim=True)
        pooled = torch.nn.functional.normalize(torch.einsum("bu,lbuh->lbh", w, hidden), dim=-1)
        own = pooled[label, torch.arange(size)]
        near, far = own @ own.T, torch.einsum("ih,ljh->lij", own, pooled)
        wrong = (torch.arange(labels)[:, None] != label)[:, None, :]
        pairs = wrong & ((label[:, None] == label) & ~torch.eye(size, dtype=torch.bool))[None]
        return torch.relu(config.dist_margin - near + far)[pairs].mean()

    def run():
        log_prob, hidden = score(Q)
        values, nll = disc(log_prob), -log_prob[label, torch.arange(size)]
        w = weights(omega, values, hidden)
        inner = (w * nll * mask).sum()
        if config.dist_weight and config.dist_in_virtual:
            inner = inner + config.dist_weight * distance(hidden, w)
        slopes = torch.autograd.grad(inner, list(Q.values()), create_graph=True)
        virtual = {n: q - config.meta_learning_rate * g for (n, q), g in zip(Q.items(), slopes, strict=True)}
        (disc(score(virtual)[0]) * mask).sum().div(mask.sum()).backward(inputs=list(omega.values()), retain_graph=True)
        weight_tx.step()
        weight_tx.zero_grad()
        w = weights(omega, values, hidden).detach()
        loss = (w * nll * mask).sum()
        if config.dist_weight:
            loss = loss + config.dist_weight * distance(hidden, w)
        tx.zero_grad()
        loss.backward(inputs=list(Q.values()))
        torch.nn.utils.clip_grad_norm_(Q.values(), config.clip_norm)
        tx.step()
        return loss.item()

    return run


def speed(runs: int) -> dict:
    t5 = peers.SMALL
    theta, batch, figures = peers.random_theta(t5), make_batch(t5), {}
    for config in (fixed_by(GeneratorConfig(), "FewGen"), GeneratorConfig()):
        state = init_state(make_prompts(t5), jax.random.key(0), config=config, num_steps=NUM_STEPS)
        ours = functools.partial(generator_step, config=config, model=T5(t5), num_steps=NUM_STEPS)
        steps = {"ours": ours} | {name: functools.partial(autodiff_step, config=config, model=T5(t5),
                                                          fused=name == "fused") for name in ("fused", "plain")}
        compiled = {name: jax.jit(step).lower(state, theta, batch).compile() for name, step in steps.items()}
        losses = {name: step(state, theta, batch)[1] for name, step in compiled.items()}
        reference = torch_step(t5, theta, state, batch, config)
        np.testing.assert_allclose(losses["ours"]["loss"], reference(), rtol=1e-3)
        for name in ("fused", "plain"):
            for figure, value in losses[name].items():
                np.testing.assert_allclose(losses["ours"][figure], value, rtol=1e-2, err_msg=figure)
        timed = {name: functools.partial(step, state, theta, batch) for name, step in compiled.items()}
        seconds = peers.alternate(timed | {"torch": reference}, runs)
        memory = {name: step.memory_analysis().temp_size_in_bytes / 2**20 for name, step in compiled.items()}
        name = f"lambda {config.dist_weight:g}"
        figures[name] = {
            "seconds": seconds, "temporary_mib": memory,
            "time_ratio": {name: seconds["ours"] / seconds[name] for name in ("fused", "plain", "torch")},
            "memory_ratio": {name: memory["ours"] / memory[name] for name in ("fused", "plain")}}
        print(name, figures[name], flush=True)
    return figures


def seeds(runs: int, number: int = 5) -> dict:
    t5, config, timed = peers.MINI, GeneratorConfig(), {}
    theta = peers.random_theta(t5)
    init = functools.partial(init_state, config=config, num_steps=NUM_STEPS)
    step = functools.partial(generator_step, config=config, model=T5(t5), num_steps=NUM_STEPS)
    for count in (1, number):
        stacked = jax.tree.map(lambda leaf, count=count: jnp.tile(leaf[None], (count,) + (1,) * leaf.ndim),
                               make_prompts(t5))
        state = jax.vmap(init)(stacked, jax.random.split(jax.random.key(0), count))
        batch = jax.tree.map(lambda *leaves: np.stack(leaves), *(make_batch(t5, 24, seed=s) for s in range(count)))
        compiled = jax.jit(jax.vmap(step, in_axes=(0, None, 0))).lower(state, theta, batch).compile()
        timed[str(count)] = functools.partial(compiled, state, theta, batch)
    seconds = peers.alternate(timed, 3 * runs)
    return {"seconds": seconds, "ratio": seconds[str(number)] / seconds["1"]}


def compile_large(_: int) -> dict:
    config, figures = GeneratorConfig(), {}
    for remat in (False, True):
        t5 = dataclasses.replace(peers.LARGE, remat=remat)
        init = functools.partial(init_state, config=config, num_steps=NUM_STEPS)
        state = jax.eval_shape(init, make_prompts(t5), jax.random.key(0))
        step = functools.partial(generator_step, config=config, model=T5(t5), num_steps=NUM_STEPS)
        figures["checkpointed" if remat else "plain"] = peers.compile_cost(
            step, state, t5_model.abstract(t5), make_batch(t5))
    return figures


if __name__ == "__main__":
    peers.main(__doc__, {"speed": speed, "seeds": seeds, "compile": compile_large}, runs=5)
