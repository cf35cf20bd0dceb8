"""One OPTIMA step in PyTorch, from its equations: reversed gradients by an autograd function, one loss after another.

Written as the authors' code is ordered: the discriminator on clean source and target, the source's cross-entropy, the
ascent of the perturbation, then the regularisers on perturbed examples; gradients add up, each optimiser then steps.
"""

import torch

from tests.reference import torch_method, torch_t5


class Reversed(torch.autograd.Function):
    """The identity, whose gradient is multiplied by -scale."""

    @staticmethod
    def forward(context, x, scale):
        context.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient):
        return -context.scale * gradient, None


def forward(prompt, theta, embedded, mask, label_ids, mask_id, t5):
    """Class scores [B, L] and the decoder's last states at the mask [B, H]."""
    size = embedded.shape[0]
    x = torch.cat([prompt[None].expand(size, -1, -1), embedded], 1)
    mask = torch.cat([torch.ones(size, prompt.shape[0], dtype=torch.bool), mask], 1)
    encoded = torch_t5.encode(theta, x, mask, t5)
    inputs = torch.tensor([[t5.decoder_start_id, mask_id]]).expand(size, -1)
    states = torch_t5.decode(theta, inputs, encoded, mask, t5)[:, 1]
    return torch_t5.logits(theta, states, t5)[:, list(label_ids)], states


def domain_loss(discriminator, states, domain, scale):
    logits = Reversed.apply(states, scale) @ discriminator["kernel"] + discriminator["bias"]
    return torch.nn.functional.cross_entropy(logits, torch.full((len(states),), domain))


def divergence(clean, scores):
    """KL(clean || perturbed), mean over the batch."""
    return torch.nn.functional.kl_div(torch.log_softmax(scores, 1), torch.softmax(clean, 1), reduction="batchmean")


def gradients(params, theta, source, target, uniform, config, t5, label_ids, mask_id):
    """(sum of losses, gradients of prompt and discriminator); ``uniform`` [B, T, H] starts the perturbation."""
    prompt = params["prompt"].clone().requires_grad_()
    discriminator = {name: leaf.clone().requires_grad_() for name, leaf in params["discriminator"].items()}
    x, x_target = theta["embedding"][source.tokens], theta["embedding"][target.tokens]

    def run(embedded, batch):
        return forward(prompt, theta, embedded, batch.mask, label_ids, mask_id, t5)

    losses = []
    for embedded, batch, domain in ((x, source, 1), (x_target, target, 0)):
        losses.append(domain_loss(discriminator, run(embedded, batch)[1], domain, 0.0))
    clean, _ = run(x, source)
    losses.append(torch.nn.functional.cross_entropy(clean, source.label))
    clean = clean.detach()
    delta = uniform * source.mask[..., None]
    delta = delta / torch.sqrt(source.mask.sum(1) * x.shape[2])[:, None, None]
    delta.requires_grad_()
    scores, states = run(x + delta, source)
    ascent = divergence(clean, scores) + config.optima_domain_weight * domain_loss(discriminator, states, 1, 1.0)
    (slope,) = torch.autograd.grad(ascent, delta)
    length = slope.flatten(1).norm(dim=1).clamp(min=1e-8)[:, None, None]
    delta = (delta + config.optima_radius * slope / length).detach()
    scores, states = run(x + delta, source)
    share = torch.softmax(scores, 1)
    losses += [divergence(clean, scores),
               config.optima_domain_weight * domain_loss(discriminator, states, 1, 0.0),
               -(share * torch.log_softmax(scores, 1)).sum(1).mean()]
    loss = sum(losses)
    loss.backward()
    return loss.detach(), {"prompt": prompt.grad,
                                  "discriminator": {name: leaf.grad for name, leaf in discriminator.items()}}


def step(params, theta, source, target, uniform, config, t5, label_ids, mask_id):
    """(loss, gradients, parameters after the first update of both optimisers), rates at their start."""
    loss, gradient = gradients(params, theta, source, target, uniform, config.transfer, t5, label_ids, mask_id)
    (direction,) = torch_method.clip([gradient["prompt"]], config.classifier.clip_norm)
    square = direction**2 + 1e-30
    update = direction / torch.sqrt(torch.outer(square.mean(1) / square.mean(), square.mean(0)))
    update = update / max(1.0, update.pow(2).mean().sqrt().item())
    rate, decay = config.classifier.learning_rate, config.classifier.weight_decay
    prompt = params["prompt"] - rate * (update + decay * params["prompt"])
    clipped = dict(zip(("kernel", "bias"), torch_method.clip(
        [gradient["discriminator"]["kernel"], gradient["discriminator"]["bias"]], config.classifier.clip_norm),
        strict=True))
    leaves = {name: torch.nn.Parameter(leaf.clone()) for name, leaf in params["discriminator"].items()}
    adam = torch.optim.AdamW([{"params": [leaves["kernel"]], "weight_decay": decay},
                              {"params": [leaves["bias"]], "weight_decay": 0.0}], lr=config.transfer.optima_domain_rate)
    for name, leaf in leaves.items():
        leaf.grad = clipped[name]
    adam.step()
    return loss, gradient, {"prompt": prompt, "discriminator": {name: leaf.detach() for name, leaf in leaves.items()}}


