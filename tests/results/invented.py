"""Invented run directories for the tests of the report."""

import itertools
import json
import math

import numpy as np

from dawgen_jax.results.rows import SyntheticRow, write_cell, write_rows

COUNT = {"wanted": 9, "made": 9, "accepted": 8, "kept": 8, "cut": 1, "surplus": 0, "rejected": {}}


def write(path, value, lines=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in value) if lines else json.dumps(value))


def write_set(root, folder, generator, seed, diversity=0.5, backbone="mini-t5"):
    """The row of an invented synthetic set, whose folder names the generator's, of the same name."""
    row = SyntheticRow("mini-snli", backbone, generator, seed, 9, diversity, 0.2, 0.1)
    write_rows(root / "synthetic" / folder / "quality.jsonl", [row])
    write(root / "synthetic" / folder / "meta.json", {"generator_artefact": folder})
    return row


def write_run(root, make_row, hostile):
    """A small run directory of two arms, two seeds and two generators, with ``hostile`` wherever data may hold text."""
    rng = np.random.default_rng(0)
    rows = []
    for seed, method in itertools.product((13, 21), ("Prompt Tuning", "(Real, Syn) + GS")):
        name = f"mini-snli-mini-t5-{method[:6].strip('(')}-{seed}-abc"
        value = 0.5 + 0.1 * ("Syn" in method) + rng.uniform(0, 0.05)
        cell = [make_row(method, value, seed, config_hash=name, metric=metric, versions={"jax": "0.10.2"})
                for metric in ("accuracy", "f1")]
        rows += cell
        write_cell(root / "cells" / name / "result.json", cell)
        lines = [{"step": step, "loss_real": math.exp(-step / 50), "prompt_norm": 3.0} for step in range(1, 201)]
        if "Syn" in method:
            lines = [line | {"cosine": rng.normal(), "conflict": bool(rng.integers(2)), "loss_synthetic": None}
                     for line in lines]
        lines[-1] |= {"dev_accuracy": 0.6, "histogram": [1, 2]}
        write(root / "cells" / name / "wrong_examples.json", {
            "labels": ["entailment", hostile], "confusion": [[3, 1], [2, 4]], "examples": [
                {"sentence1": f"{hostile} {seed}", "sentence2": "mistaken", "label": hostile, "predicted": "neutral"}]})
        write(root / "cells" / name / "metrics.jsonl", lines, lines=True)
    stale = make_row("Syn only", config_hash="old")
    write_cell(root / "cells" / "old" / "result.json", [stale])
    write(root / "cells" / "old" / "metrics.jsonl", [{"step": 1, "loss_real": 1.0}], lines=True)
    write_rows(root / "results.jsonl", rows)
    sets = []
    for generator, seed in itertools.product(("FewGen", "DawGen"), (13, 100)):
        name = f"mini-snli-{generator}-{seed}-0a1b"
        sets.append(write_set(root, name, generator, seed))
        folder = root / "generators" / name
        write(folder / "metrics.jsonl", [{"step": step, "loss": 1 / step, "loss_disc": 0.5}
                                         for step in range(10, 330, 10)], lines=True)
        write(folder / "token_weights.json", [{"sentence1": f"{hostile} {seed}", "label": "entailment",
                                               "tokens": ["▁a", "▁do", "g", "<b>", "</s>"],
                                               "weights": [0.1, 0.05, 0.2, 0.0, 0.4]}])
        folder = root / "synthetic" / name
        write(folder / "train.jsonl", [
            {"sentence1": hostile, "sentence2": f"sentence {index}", "label": label, "scores": scores,
             "index": index, "cut": index == 2} for index in range(70)
            for label, scores in (("entailment", [-1.0, -3.5]), (hostile, [-2.0, -4.0]))], lines=True)
        write(folder / "counts.json", {"entailment": COUNT | {"rejected": {"unfinished": 3, hostile: 1}},
                                       hostile: COUNT | {"rejected": {"empty": 2}}})
    write_rows(root / "synthetic.jsonl", sets)
    write(root / "generators" / ".mini-snli-DawGen-7-ff.partial" / "metrics.jsonl", [{"step": 1}], lines=True)
    write(root / "config.json", {"name": f"mini {hostile}", "tasks": ["mini-snli"]})
    write(root / "timings.json", {"tune generators": 12.3, hostile: 0.0})
    return root
