"""A small T5 in plain PyTorch, in any dtype (``transformers`` forces float32 inside), over the same nested dictionary
of parameters as :mod:`dawgen_jax.backbones.t5.model`. Written from the T5 paper's equations, with loops where they read
better.
"""

import math

import torch


def bucket(distance: int, *, bidirectional: bool, number: int, furthest: int) -> int:
    """Bucket of key position minus query position."""
    start = 0
    if bidirectional:
        number //= 2
        start = number if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = number // 2
    if distance < exact:
        return start + distance
    far = exact + int(math.log(distance / exact) / math.log(furthest / exact) * (number - exact))
    return start + min(far, number - 1)


def norm(x, scale, config):
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + config.layer_norm_epsilon) * scale


def attend(p, queries, keys, mask, bias, config):
    """[B, Q, H], [B, K, H], mask [B, 1, Q or 1, K], bias [1, heads, Q, K] or 0."""
    def heads(x, kernel):
        return (x @ kernel).reshape(*x.shape[:2], config.num_heads, config.d_kv).transpose(1, 2)

    scores = heads(queries, p["query"]) @ heads(keys, p["key"]).transpose(2, 3) + bias
    weights = torch.softmax(scores.masked_fill(~mask, -1e30), dim=-1)
    mixed = (weights @ heads(keys, p["value"])).transpose(1, 2).reshape(*queries.shape[:2], -1)
    return mixed @ p["output"]


def feed(p, x, config):
    if config.gated:
        return (torch.nn.functional.gelu(x @ p["wi_0"], approximate="tanh") * (x @ p["wi_1"])) @ p["wo"]
    return torch.relu(x @ p["wi"]) @ p["wo"]


def layer(stack, index):
    return {name: ({k: v[index] for k, v in part.items()} if isinstance(part, dict) else part[index])
            for name, part in stack["layers"].items()}


def bias(table, length, config, *, bidirectional):
    rows = [[bucket(k - q, bidirectional=bidirectional, number=config.relative_attention_num_buckets,
                    furthest=config.relative_attention_max_distance) for k in range(length)] for q in range(length)]
    return table[torch.tensor(rows)].permute(2, 0, 1)[None]


def encode(theta, x, mask, config):
    """[B, T, H], bool [B, T] -> [B, T, H]."""
    stack = theta["encoder"]
    shared = bias(stack["bias"], x.shape[1], config, bidirectional=True)
    for index in range(config.num_layers):
        p = layer(stack, index)
        y = norm(x, p["attention_norm"]["scale"], config)
        x = x + attend(p["attention"], y, y, mask[:, None, None, :], shared, config)
        x = x + feed(p["feed_forward"], norm(x, p["feed_forward_norm"]["scale"], config), config)
    return norm(x, stack["norm"]["scale"], config)


def decode(theta, tokens, encoded, mask, config):
    """Decoder inputs [B, U] -> states [B, U, H] after the final norm."""
    stack, x = theta["decoder"], theta["embedding"][tokens]
    length = tokens.shape[1]
    causal = torch.tril(torch.ones(length, length, dtype=torch.bool))[None, None]
    shared = bias(stack["bias"], length, config, bidirectional=False)
    for index in range(config.num_decoder_layers):
        p = layer(stack, index)
        y = norm(x, p["attention_norm"]["scale"], config)
        x = x + attend(p["attention"], y, y, causal, shared, config)
        y = norm(x, p["cross_norm"]["scale"], config)
        x = x + attend(p["cross"], y, encoded, mask[:, None, None, :], 0, config)
        x = x + feed(p["feed_forward"], norm(x, p["feed_forward_norm"]["scale"], config), config)
    return norm(x, stack["norm"]["scale"], config)


def logits(theta, hidden, config):
    """[..., H] -> [..., V]."""
    scale = config.d_model**-0.5 if config.scale_decoder_outputs else 1.0
    return (hidden * scale) @ theta.get("head", theta["embedding"]).T
