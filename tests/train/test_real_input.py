"""The main job on real text: SICK and MRPC, the real T5 tokenizer, a small random T5 that ``transformers`` wrote."""

import dataclasses
import shutil

import pytest

from dawgen_jax.config import (
    BackboneConfig,
    ClassifierConfig,
    Config,
    DataConfig,
    FineTuningConfig,
    GeneratorConfig,
    SynthesisConfig,
)
from dawgen_jax.errors import UserError
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.pipeline import main
from dawgen_jax.pipeline.inputs import read_task
from dawgen_jax.pipeline.job import Job
from dawgen_jax.pipeline.sets import read_released
from dawgen_jax.results.rows import read_rows

pytestmark = pytest.mark.shared
transformers = pytest.importorskip("transformers")
pytest.importorskip("torch")


_LIKE_OTHERS = {"Prompt Tuning #same-T", "Syn -> Real", "Syn -> Real #stages", "LoRA"}
"""Rows that differ from others in their stages alone, which tests/methods checks."""


@pytest.fixture(scope="module")
def config(shared, tmp_path_factory) -> Config:
    """One seed and the fewest updates; unfinished samples are kept, since a random model ends no sentence."""
    folder = tmp_path_factory.mktemp("random") / "random-t5"
    t5 = transformers.T5Config(vocab_size=32128, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
                               feed_forward_proj="gated-gelu")
    transformers.T5ForConditionalGeneration(t5).save_pretrained(folder)
    for file in (shared / "tokenizer").iterdir():
        shutil.copy(file, folder)
    data, backbone = shared / "data", BackboneConfig(str(folder))
    return Config(
        devices=1, seeds=(13,), tasks=("SICK", "MRPC"), arms=("DawGen: (Real, Syn) + GS",),
        data=DataConfig(root=str(data), kshot=str(data / "kshot"), corpus=str(data / "synthetic_fewgen"), max_test=40),
        generator=GeneratorConfig(backbone=backbone, num_steps=2, log_every=1, prompt_length=6),
        synthesis=SynthesisConfig(samples_per_label=6, max_new_tokens=4, unfinished="cut", batch_size=16),
        classifier=ClassifierConfig(backbone=backbone, prompt_length=10, real_steps=20, real_eval_every=10, num_steps=2,
                                    batch_size=4, eval_every=1, pad_multiple=100))


def test_mrpc_from_ready_splits_rejects_unfinished_sentences_by_default(config, tmp_path):
    sentence = ("The committee that met on Monday said in a letter of two pages that it will change no rule "
                "before {} .")
    (tmp_path / "first.txt").write_text("\n".join(map(sentence.format, ("Friday", "Sunday"))))
    rejecting = dataclasses.replace(
        config, tasks=("MRPC",), data=dataclasses.replace(config.data, corpus=str(tmp_path / "first.txt")),
        synthesis=dataclasses.replace(config.synthesis, unfinished="reject"))
    with pytest.raises(UserError, match=r"no sample of label .*synthesis\.unfinished = 'cut'"):
        main.run(Job.start(rejecting, tmp_path / "run"))


def test_every_kind_of_row_runs_on_sick(config, shared, tmp_path):
    """All stages and methods, a few updates each; SPoT and OPTIMA from SNLI, PPT from plain documents."""
    methods = {name: method for name, method in METHODS.items() if name not in _LIKE_OTHERS}
    (tmp_path / "documents.txt").write_text("\n\n".join(
        f"The {name} met on Monday. It {verb} the plan. Nobody asked why." for name in ("board", "court", "council")
        for verb in ("read", "liked", "changed")))
    few = dict(num_steps=2, eval_every=2)
    every = dataclasses.replace(
        config, tasks=("SICK",),
        arms=tuple(f"DawGen: {name}" if "synthetic" in method.data else name for name, method in methods.items()),
        transfer=dataclasses.replace(config.transfer, documents=str(tmp_path / "documents.txt"), ppt_steps=2,
                                     ppt_batch_size=4, ppt_pairs=30, optima_steps=2, held_out=20),
        classifier=dataclasses.replace(
            config.classifier, real_steps=2, real_eval_every=2, full_steps=2, full_eval_every=2, full_batch_size=4,
            demonstration_tokens=500, fine_tuning=FineTuningConfig(learning_rates=(1e-3,), batch_size=4, **few), **few))
    main.run(Job.start(every, tmp_path / "run"))
    rows = [row for row in read_rows(tmp_path / "run" / "results.jsonl") if row.metric == "accuracy"]
    assert len(rows) == len(methods) and {row.method for row in rows} == {method.name for method in methods.values()}
    assert {(row.variant, row.split_source, row.n_test) for row in rows if row.method == "(Real, Syn) + GS"} == {
        ("cut", "resampled", 40)}
    counts = {row.method: row.trainable_parameters for row in rows}
    assert counts["In-Context"] == 0 and counts["Prompt Tuning"] == 10 * 16 == counts["PPT"]
    assert counts["PFT + soft prompt"] == counts["Prompt-based FT"] + 10 * 16
    assert counts["FT"] == counts["Prompt-based FT"] + 16 * 3
    (shown,) = [row.extras["demonstrations"] for row in rows if row.method == "In-Context"]
    assert shown > 0 and shown % 3 == 0


def test_released_sets_are_a_third_generator(config, shared):
    data = dataclasses.replace(config.data, released=str(shared / "data" / "synthetic_fewgen"))
    reading = dataclasses.replace(config, data=data, synthesis=dataclasses.replace(
        config.synthesis, samples_per_label=20))
    given = read_task("RTE", reading, generates=False)
    (made,) = read_released(reading, given)
    labels = [example.label for example in made.examples]
    assert {label: labels.count(label) for label in given.task.labels} == dict.fromkeys(given.task.labels, 20)
    with pytest.raises(UserError, match=r"no SICK/16-13/gen-train\.jsonl\[\.gz\]; give the folder of released sets"):
        read_released(reading, read_task("SICK", reading, generates=False))


def test_a_released_set_with_other_labels_is_refused_with_its_line(config, tmp_path):
    folder = tmp_path / "RTE" / "16-13"
    folder.mkdir(parents=True)
    (folder / "gen-train.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "label": "neutral"}\n')
    reading = dataclasses.replace(config, data=dataclasses.replace(config.data, released=str(tmp_path)))
    with pytest.raises(UserError, match=r"gen-train\.jsonl:1: label 'neutral' is not a class of RTE"):
        read_released(reading, read_task("RTE", reading, generates=False))
