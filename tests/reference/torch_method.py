"""The method's equations, transcribed to PyTorch plainly: loops over labels and pairs, autograd through the virtual
step with ``create_graph``. Arrays over labels are in label order here (Q_0 .. Q_{L-1}).
"""

import math

import torch

from tests.reference import torch_t5


def score(Q, theta, batch, t5):
    """(log Pr [L, B, U], raw logits of gold tokens [L, B, U], Z [L, B, U, H]) under every label's prompt."""
    every = []
    for prompt, infix in zip(Q["prompt"], Q["infix"], strict=True):
        embedded = theta["embedding"][batch.source]
        rows = infix[batch.slots.clamp(min=0)]
        embedded = torch.where((batch.slots >= 0)[..., None], rows, embedded)
        size = embedded.shape[0]
        x = torch.cat([prompt[None].expand(size, -1, -1), embedded], dim=1)
        mask = torch.cat([torch.ones(size, prompt.shape[0], dtype=torch.bool), batch.source_mask], dim=1)
        encoded = torch_t5.encode(theta, x, mask, t5)
        start = torch.full((size, 1), t5.decoder_start_id)
        hidden = torch_t5.decode(theta, torch.cat([start, batch.target[:, :-1]], 1), encoded, mask, t5)
        scores = torch_t5.logits(theta, hidden, t5)
        pick = batch.target[..., None]
        every.append((torch.log_softmax(scores, -1).gather(-1, pick)[..., 0], scores.gather(-1, pick)[..., 0], hidden))
    return tuple(torch.stack(part) for part in zip(*every, strict=True))


def gold(array, label):
    """Entry y_b of [L, B, ...]."""
    return torch.stack([array[y, b] for b, y in enumerate(label.tolist())])


def disc_values(scored, label, form):
    """L_disc of each token [B, U]."""
    values = scored[1] if form == "ce_rawlogit" else scored[0]
    share = torch.exp(gold(values, label)) / torch.exp(values).sum(0)
    return -share if form == "ratio" else -torch.log(share)


def mean_over(values, mask):
    return (values * mask).sum() / mask.sum()


def weights(omega, scored, values, label, mask, config):
    """W [B, U]: the weight net's score of each token, and a softmax over the supervised tokens."""
    if config.weight_input == "hidden":
        states = gold(scored[2], label).detach()
        scores = states / torch.sqrt(states.pow(2).mean(-1, keepdim=True) + 1e-6) @ omega["w"]
    else:
        inner = torch.relu(values.detach()[..., None] * omega["w1"] + omega["b1"])
        scores = inner @ omega["w2"] + omega["b2"]
    scores = scores.masked_fill(~mask, -math.inf)
    if config.weight_norm == "batch":
        return torch.softmax(scores.reshape(-1), 0).reshape(scores.shape)
    return torch.softmax(scores, dim=1) / scores.shape[0]


def entropy(w, mask):
    """Entropy of W, 1 where it is uniform over the batch's tokens."""
    return torch.distributions.Categorical(probs=w[mask]).entropy() / math.log(int(mask.sum()))


def weighted_nll(scored, label, w, mask):
    return -(w * gold(scored[0], label) * mask).sum()


def distance_loss(scored, label, w, mask, config):
    """L_dist, with its indices spelt out."""
    pooled = [[(w[b] * mask[b] / (w[b] * mask[b]).sum()) @ scored[2][l, b] for b in range(len(label))]
              for l in range(len(scored[2]))]

    def similar(a, b):
        if config.dist_similarity == "cosine":
            return (a @ b) / (a.norm() * b.norm())
        return -(a - b).norm()

    labels = label.tolist()
    terms = []
    for i, l in enumerate(labels):
        own = []
        for j, same in enumerate(labels):
            if j == i or same != l:
                continue
            near = similar(pooled[l][i], pooled[l][j])
            if config.dist_reading == "B":
                negatives = [pooled[other][j] for other in range(len(pooled)) if other != l]
            else:
                negatives = [pooled[other][k] for k, other in enumerate(labels) if other != l]
            own += [torch.relu(config.dist_margin - near + similar(pooled[l][i], negative)) for negative in negatives]
        terms.append(torch.stack(own).mean())
    return torch.stack(terms).mean()


def adam(state, gradients, rate):
    """One Adam update of each tensor; ``state`` holds (m, v) lists and the count."""
    state["count"] += 1
    steps = []
    for index, gradient in enumerate(gradients):
        state["m"][index] = 0.9 * state["m"][index] + 0.1 * gradient
        state["v"][index] = 0.999 * state["v"][index] + 0.001 * gradient**2
        m = state["m"][index] / (1 - 0.9 ** state["count"])
        v = state["v"][index] / (1 - 0.999 ** state["count"])
        steps.append(-rate * m / (v.sqrt() + 1e-8))
    return steps


def adam_start(tensors):
    return {"count": 0, "m": [torch.zeros_like(t) for t in tensors], "v": [torch.zeros_like(t) for t in tensors]}


def clip(gradients, most):
    norm = torch.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1.0, most / norm.item()) for g in gradients]


def weight_rate(omega, config):
    """FewGen's rate for its perceptron; the rate of a score over the width for the linear layer."""
    return config.score_learning_rate / len(omega["w"]) if "w" in omega else config.weight_learning_rate


def generator_steps(Q, omega, theta, batches, config, t5, num_steps):
    """Whole generator steps in the order of Algorithm 1; yields what the JAX step must equal after each."""
    Q_names, omega_names = sorted(Q), sorted(omega)
    prompt_adam = adam_start([Q[n] for n in Q_names])
    weight_adam = adam_start([omega[n] for n in omega_names])
    for step, batch in enumerate(batches):
        fade = 1 - step / num_steps
        mask, label = batch.target_mask, batch.label
        Q = {n: t.detach().requires_grad_() for n, t in Q.items()}
        omega = {n: t.detach().requires_grad_() for n, t in omega.items()}
        scored = score(Q, theta, batch, t5)
        values = disc_values(scored, label, config.disc)
        # Virtual step and meta-gradient, straight through the update.
        w = weights(omega, scored, values, label, mask, config)
        loss = weighted_nll(scored, label, w, mask)
        if config.dist_in_virtual:
            loss = loss + config.dist_weight * distance_loss(scored, label, w, mask, config)
        inner = torch.autograd.grad(loss, [Q[n] for n in Q_names], create_graph=True)
        virtual = {n: Q[n] - config.meta_learning_rate * g for n, g in zip(Q_names, inner, strict=True)}
        disc_virtual = mean_over(disc_values(score(virtual, theta, batch, t5), label, config.disc), mask)
        meta = torch.autograd.grad(disc_virtual, [omega[n] for n in omega_names], retain_graph=True)
        decayed = [g + config.weight_decay * omega[n].detach() for n, g in zip(omega_names, meta, strict=True)]
        moves = adam(weight_adam, decayed, weight_rate(omega, config) * fade)
        omega = {n: omega[n].detach() + move for n, move in zip(omega_names, moves, strict=True)}
        # Real step with the new weights.
        w = weights(omega, scored, values, label, mask, config).detach()
        gen = weighted_nll(scored, label, w, mask)
        dist = distance_loss(scored, label, w, mask, config)
        loss = gen + config.dist_weight * dist
        gradient = torch.autograd.grad(loss, [Q[n] for n in Q_names])
        moves = adam(prompt_adam, clip(gradient, config.clip_norm), config.learning_rate * fade)
        sequence = -(gold(scored[0], label) * mask).sum(1)
        Q = {n: Q[n].detach() + move for n, move in zip(Q_names, moves, strict=True)}
        yield {
            "sequence_nll": sequence, "disc_values": values * mask, "disc": mean_over(values, mask),
            "disc_virtual": disc_virtual, "gen": gen, "dist": dist, "loss": loss, "token_weights": w,
            "weight_entropy": entropy(w, mask),
            "meta_gradient": dict(zip(omega_names, meta, strict=True)),
            "gradient": dict(zip(Q_names, gradient, strict=True)),
            "grad_norm": torch.sqrt(sum((g**2).sum() for g in gradient)),
            "label_prompts": Q, "weight_net": omega,
        }


def class_scores(prompt, theta, tokens, mask, label_ids, mask_id, t5):
    """Label-word logits at the mask [B, L]."""
    size = tokens.shape[0]
    x = torch.cat([prompt[None].expand(size, -1, -1), theta["embedding"][tokens]], 1)
    mask = torch.cat([torch.ones(size, prompt.shape[0], dtype=torch.bool), mask], 1)
    encoded = torch_t5.encode(theta, x, mask, t5)
    inputs = torch.tensor([[t5.decoder_start_id, mask_id]]).expand(size, -1)
    return torch_t5.logits(theta, torch_t5.decode(theta, inputs, encoded, mask, t5)[:, 1], t5)[:, list(label_ids)]


def surgery(real, synthetic, epsilon):
    """Algorithm 2."""
    inner = (real * synthetic).sum()
    if inner < 0:
        synthetic = synthetic - inner / (real * real).sum() * real
    return real + epsilon * synthetic


def prompt_steps(prompt, theta, batches, config, t5, label_ids, mask_id, num_steps):
    """Prompt tuning with surgery and Adafactor (factored, no relative step, no scaling by the parameter)."""
    rows, columns = torch.zeros(prompt.shape[0]), torch.zeros(prompt.shape[1])
    rows, columns = rows.to(prompt.dtype), columns.to(prompt.dtype)
    for step, batch in enumerate(batches):
        prompt = prompt.detach().requires_grad_()
        losses, gradients = [], []
        for source in range(2):
            scores = class_scores(prompt, theta, batch.tokens[source], batch.mask[source], label_ids, mask_id, t5)
            each = -torch.log_softmax(scores, -1).gather(1, batch.label[source][:, None])[:, 0]
            loss = (each * batch.weight[source]).sum() / batch.weight[source].sum()
            losses.append(loss)
            gradients.append(torch.autograd.grad(loss, prompt)[0])
        (direction,) = clip([surgery(*gradients, config.epsilon)], config.clip_norm)
        keep = 1 - (step + 1.0) ** -0.8
        square = direction**2 + 1e-30
        rows = keep * rows + (1 - keep) * square.mean(1)
        columns = keep * columns + (1 - keep) * square.mean(0)
        update = direction / torch.sqrt(torch.outer(rows / rows.mean(), columns))
        update = update / max(1.0, update.pow(2).mean().sqrt().item())
        rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / num_steps))
        prompt = prompt.detach() - rate * (update + config.weight_decay * prompt.detach())
        yield {"loss": torch.stack(losses), "gradients": torch.stack(gradients), "prompt": prompt}
