"""Prompt tuning of SmolLM2 here and in PyTorch: the same weights, shots, batches, starting prompt and optimiser.

    dawgen backbone fetch smollm2-135m-q4
    python -m benchmarks.twin [--updates 50] [--rows 8] [--test 300] [--out docs/twin]

PyTorch is ``transformers``' Llama with PEFT's prompt tuning (prompt in front, rows padded at their ends), with
one backward pass per source, Algorithm 2 of the paper written out, clipping and ``torch.optim.AdamW``. Two runs in each
framework, on two sources of movie reviews (MR): the shots of one seed and those of another seed in place of a synthetic
set; 'sum' adds their gradients, 'surgery' projects the second one.

Prints a table and a last line of JSON: the largest difference of the losses over all updates and sources and over the
first ten, that of the prompts at the end, accuracy on test sentences in both frameworks, and on how many of these our
exported adapter, loaded by PEFT, gives our label. Writes the loss curves to OUT.svg and all losses to OUT.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from matplotlib.figure import Figure

from benchmarks import peers
from dawgen_jax import prompts
from dawgen_jax.backbones.base import Backbone
from dawgen_jax.config import BackboneConfig, load_config
from dawgen_jax.data import batches
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.data.encoding import classifier_arrays
from dawgen_jax.io.prompt_files import save_adapter
from dawgen_jax.methods.verbalizer import class_scores, cross_entropy, weighted_mean
from dawgen_jax.pipeline.inputs import backbone_folder, load_backbone, read_task
from dawgen_jax.surgery import aggregator
from dawgen_jax.training.optimisers import adamw
from dawgen_jax.training.placement import Placement
from dawgen_jax.training.step import init_state, train_step

NAME, TASK, SEEDS = "smollm2-135m-q4", "MR", (13, 21)
LENGTH, RATE, CLIP = 20, 0.02, 1.0
RULES = ("sum", "surgery")


def draw(sources: list[ClassifierBatch], rows: int, step: int) -> ClassifierBatch:
    """The batch [S, B, ...] of an update."""
    drawn = []
    for seed, source in zip(SEEDS, sources, strict=True):
        index = batches.epoch_batches(len(source.label), rows, seed, step)
        drawn.append(batches.take(source, index))
    return batches.stack(drawn)


def ours(rule: str, backbone: Backbone, start: np.ndarray, label_ids: tuple[int, ...],
         stream: list[ClassifierBatch]) -> tuple[np.ndarray, np.ndarray]:
    """Losses [updates, S] and the last prompt [P, H]."""
    def loss_fn(prompt, theta, batch):
        scores = class_scores(prompt, theta, batch, model=backbone.model, label_ids=label_ids)
        return weighted_mean(cross_entropy(scores, batch.label), batch.weight)

    tx = optax.chain(aggregator(rule), adamw(RATE, len(stream), weight_decay=0.0, clip_norm=CLIP))
    step = jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=tx))
    state, losses = init_state(jnp.asarray(start), tx), []
    for batch in stream:
        state, metrics = step(state, backbone.theta, batch)
        losses.append(np.asarray(metrics["loss"]))
    return np.stack(losses), np.asarray(state.params)


def peft_model(folder: pathlib.Path, start: np.ndarray):
    """PEFT's prompt tuning of ``transformers``' model, with our starting prompt."""
    import peft
    import torch
    import transformers
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model = peft.get_peft_model(base, peft.PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=start.shape[0], token_dim=start.shape[1]))
    with torch.no_grad():
        model.prompt_encoder["default"].embedding.weight.copy_(torch.tensor(start))
    return model


def torch_scores(model, batch: ClassifierBatch, label_ids: tuple[int, ...]):
    """Label-word logits [B, L] at the last real position of rows [B, T]."""
    import torch
    mask = torch.tensor(batch.mask.astype(np.int64))
    logits = model(input_ids=torch.tensor(batch.tokens.astype(np.int64)), attention_mask=mask).logits
    last = logits.shape[1] - mask.shape[1] + mask.sum(1) - 1  # the prompt is in front
    return logits[torch.arange(len(mask)), last][:, list(label_ids)]


def theirs(rule: str, model, label_ids: tuple[int, ...], stream: list[ClassifierBatch]
           ) -> tuple[np.ndarray, np.ndarray]:
    """:func:`ours` in PyTorch."""
    import torch
    prompt = model.prompt_encoder["default"].embedding.weight
    optimiser = torch.optim.AdamW([prompt], lr=RATE, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / len(stream))
    losses = []
    for batch in stream:
        values, gradients = [], []
        for source in range(len(batch.label)):
            rows = batches.take(batch, source)
            loss = torch.nn.functional.cross_entropy(torch_scores(model, rows, label_ids),
                                                     torch.tensor(rows.label.astype(np.int64)))
            values.append(loss.item())
            gradients.append(torch.autograd.grad(loss, prompt)[0])
        real, synthetic = gradients
        inner = (real * synthetic).sum()
        if rule == "surgery" and inner < 0:
            synthetic = synthetic - inner / (real * real).sum() * real
        prompt.grad = real + synthetic
        torch.nn.utils.clip_grad_norm_([prompt], CLIP)
        optimiser.step()
        decay.step()
        losses.append(values)
    return np.array(losses), prompt.detach().numpy().copy()


def parts(data: ClassifierBatch, size: int = 25):
    """Batches of at most ``size`` rows."""
    for start in range(0, len(data.label), size):
        yield batches.trim(batches.take(data, slice(start, start + size)), 8)


def our_labels(backbone: Backbone, prompt, test: ClassifierBatch, label_ids: tuple[int, ...]) -> np.ndarray:
    """Predicted classes [N]."""
    score = jax.jit(functools.partial(class_scores, model=backbone.model, label_ids=label_ids))
    return np.concatenate([np.asarray(score(prompt, backbone.theta, part)).argmax(1) for part in parts(test)])


def their_labels(model, test: ClassifierBatch, label_ids: tuple[int, ...]) -> np.ndarray:
    """:func:`our_labels` in PyTorch."""
    import torch
    with torch.no_grad():
        return np.concatenate([torch_scores(model, part, label_ids).argmax(1).numpy() for part in parts(test)])


def exported(folder: pathlib.Path, backbone: Backbone, prompt: np.ndarray):
    """Our prompt as an adapter that PEFT loads."""
    import peft
    import torch
    import transformers
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with tempfile.TemporaryDirectory() as target:
        save_adapter(pathlib.Path(target), prompt, str(folder), backbone.format.adapter.config)
        return peft.PeftModel.from_pretrained(base, target).eval()


def draw_losses(path: pathlib.Path, losses: dict[str, dict[str, np.ndarray]]) -> None:
    """Both curves of every rule in one plot per source."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dawgen", "font.size": 8.5}):
        figure = Figure(figsize=(7.5, 2.4 * len(RULES)), layout="constrained")
        grid = figure.subplots(len(RULES), 2, sharex=True, squeeze=False)
        for row, rule in zip(grid, RULES, strict=True):
            for source, axes in enumerate(row):
                for (name, values), style in zip(losses[rule].items(), ("-", ":"), strict=True):
                    axes.plot(values[:, source], style, label=name, linewidth=1.2 if style == "-" else 2.2)
                axes.set_title(f"{rule}, loss of source {source + 1}", loc="left", fontsize=9)
        grid[0, 0].legend(frameon=False)
        figure.savefig(path, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))


def main() -> None:
    """Run both, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--rows", type=int, default=8, help="examples of each source in an update")
    parser.add_argument("--test", type=int, default=300, help="test sentences")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/twin"))
    arguments = parser.parse_args()
    folder = backbone_folder(NAME)
    backbone = load_backbone(BackboneConfig(NAME, scan_unroll=1), Placement.on(1))
    config = dataclasses.replace(load_config("english"), tasks=(TASK,), seeds=SEEDS)
    given = read_task(TASK, config, generates=False)

    def encoded(examples):
        return classifier_arrays(backbone.format, given.task, examples, config.classifier.max_tokens, 8)

    sources = [encoded(given.splits[seed].train) for seed in SEEDS]
    test = encoded(given.test[:arguments.test])
    label_ids = tuple(backbone.format.label_ids(given.task).tolist())
    stream = [draw(sources, arguments.rows, step) for step in range(arguments.updates)]
    start = prompts.vocabulary_prompt(backbone.theta, backbone.format.word_start_ids(), LENGTH, model=backbone.model,
                                      seed=SEEDS[0])
    losses, figures = {}, {"updates": arguments.updates, "rows": arguments.rows, "test": len(test.label)}
    for rule in RULES:
        found, prompt = ours(rule, backbone, start, label_ids, stream)
        twin = peft_model(folder, start)
        expected, reference = theirs(rule, twin, label_ids, stream)
        losses[rule] = {"here": found, "PEFT + transformers": expected}
        difference = np.abs(found - expected)
        labels = our_labels(backbone, prompt, test, label_ids)
        figures[rule] = {
            "largest loss difference": float(difference.max()),
            "in the first 10 updates": float(difference[:10].max()),
            "largest prompt difference": float(np.abs(prompt - reference).max()),
            "accuracy here": float((labels == test.label).mean()),
            "accuracy PyTorch": float((their_labels(twin, test, label_ids) == test.label).mean()),
            "same label by the exported adapter": int((their_labels(exported(folder, backbone, prompt), test, label_ids)
                                                       == labels).sum())}
        for name, value in figures[rule].items():
            print(f"{rule}: {name} {value:.4g}", flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    draw_losses(arguments.out.with_suffix(".svg"), losses)
    arguments.out.with_suffix(".json").write_text(json.dumps(
        {rule: {name: values.round(6).tolist() for name, values in both.items()} for rule, both in losses.items()}))
    peers.report(figures)


if __name__ == "__main__":
    main()
