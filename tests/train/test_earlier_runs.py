"""A run directory that commit f4621be wrote (tests/stored/f4621be: one update of each stage on mini-t5).

Its cells are read by predict, evaluate and export; a run leaves them alone and mixes their rows with no others.
"""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

from dawgen_jax import miniworld, prompts
from dawgen_jax.cli import evaluate, export, predict, run
from dawgen_jax.config import ClassifierConfig, Config, DataConfig, GeneratorConfig, SynthesisConfig
from dawgen_jax.pipeline import main
from dawgen_jax.pipeline.cells import REVISION
from dawgen_jax.results.rows import Row, read_rows
from tests.pipeline.grids import write_config

STORED = pathlib.Path(__file__).parents[1] / "stored" / "f4621be"
CONFIG = Config(
    tasks=("mini-snli",), seeds=(13,), arms=("DawGen: (Real, Syn) + GS",), data=DataConfig(k=4, max_test=20),
    generator=GeneratorConfig(prompt_length=2, num_steps=1, max_source_tokens=24, max_target_tokens=24),
    synthesis=SynthesisConfig(samples_per_label=4, max_new_tokens=8, unfinished="cut", batch_size=16),
    classifier=ClassifierConfig(prompt_length=2, num_steps=1, batch_size=4, eval_every=1, max_tokens=48))


@pytest.fixture
def cell():
    (folder,) = (STORED / "cells").iterdir()
    return folder


def test_predict_and_evaluate_give_what_was_measured(cell, tmp_path, capsys):
    tested = miniworld.pools("mini-snli").test[:20]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(example._asdict()) + "\n" for example in tested))
    predict.main([str(cell), str(tmp_path / "test.jsonl"), "--out", str(tmp_path / "out.jsonl"), "--quiet"])
    labels = miniworld.TASKS["mini-snli"].labels
    predicted = [labels.index(json.loads(line)["label"]) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert predicted == json.loads((cell / "predictions.json").read_text())
    evaluate.main([str(cell), "--file", str(tmp_path / "test.jsonl"), "--quiet"])
    accuracy = 100 * read_rows(STORED / "results.jsonl")[0].value
    assert f"with the prompt: accuracy {accuracy:.2f}, F1 " in capsys.readouterr().out


def test_export_writes_its_prompts(cell, tmp_path):
    export.main([str(cell), str(tmp_path / "cell")])
    np.testing.assert_array_equal(prompts.load(tmp_path / "cell")["prompt"], prompts.load(cell)["prompt"])
    (generator,) = (STORED / "generators").iterdir()
    export.main([str(generator), str(tmp_path / "generator")])
    for name, prompt in zip(("0-entailment", "1-neutral", "2-contradiction"), prompts.load(generator)["prompt"],
                            strict=True):
        np.testing.assert_array_equal(prompts.load(tmp_path / "generator" / name)["prompt"], prompt)


def test_the_plan_lists_its_cells_as_of_an_earlier_revision(tmp_path, capsys):
    shutil.copytree(STORED, tmp_path / "run")
    write_config(tmp_path / "config.py", CONFIG)
    run.main([str(tmp_path / "config.py"), "--out", str(tmp_path / "run"), "--dry-run"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 units, 1 cells, 0 finished." in shown
    assert "1 cell of an earlier revision: unchanged, and not used." in shown


def test_its_rows_are_not_mixed_with_others(tmp_path, caplog):
    shutil.copytree(STORED, tmp_path / "run")
    earlier = read_rows(STORED / "results.jsonl")
    new = [dataclasses.replace(row, settings=row.settings | {"classifier.revision": REVISION}) for row in earlier]
    main._merged(tmp_path / "run" / "results.jsonl", Row, [earlier, new], {})
    assert read_rows(tmp_path / "run" / "results.jsonl") == new
    assert "dropped 2 rows that were computed on different data or by an earlier revision" in caplog.text
