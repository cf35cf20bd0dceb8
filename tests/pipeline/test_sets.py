"""A synthetic set: what its decoder is given and makes, scores, cut sources, a restart with shards of another size."""

import dataclasses
import json

import numpy as np
import pytest

from dawgen_jax import prompts
from dawgen_jax.backbones.base import Generated, Rows
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.errors import UserError
from dawgen_jax.pipeline import inputs, sets
from dawgen_jax.pipeline.generators import start_prompts
from dawgen_jax.pipeline.job import Job
from dawgen_jax.synthesis import files
from dawgen_jax.training.placement import Placement
from tests import tiny


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.fixture
def settings(config, tmp_path):
    """Sources of two tokens, scored samples; and the folder of a generator that was not tuned."""
    settings = dataclasses.replace(
        config, seeds=(13,), generator=dataclasses.replace(config.generator, max_source_tokens=2),
        synthesis=dataclasses.replace(config.synthesis, score=True))
    backbone = inputs.load_backbone(settings.generator.backbone, Placement.on(1))
    prompts.save(tmp_path / "prompts.safetensors", start_prompts(inputs.find_task("mini-snli"), backbone, 3, seed=13))
    (tmp_path / "meta.json").write_text('{"selected_step": 7}')
    return settings


def write(settings, tmp_path, name, **synthesis):
    """The folder of the set that a run directory ``name`` holds."""
    job = Job.start(dataclasses.replace(settings, synthesis=dataclasses.replace(settings.synthesis, **synthesis)),
                    tmp_path / name)
    given = inputs.read_task("mini-snli", settings, generates=True)
    return sets.synthesize(job, given, "FewGen", [tmp_path])[0].folder


def test_scores_are_stored_and_cut_sources_counted(settings, tmp_path, caplog):
    folder = write(settings, tmp_path, "run")
    samples = files.read_set(folder)
    scores = np.array([sample.scores for sample in samples])
    assert scores.shape == (3 * 6, 3) and (scores < 0).all() and np.isfinite(scores).all()
    assert "scores" in json.loads((folder / "train.jsonl").read_text().splitlines()[0])
    meta, row = (json.loads((folder / name).read_text()) for name in ("meta.json", "quality.jsonl"))
    assert meta["selected_step"] == row["extras"]["selected_step"] == 7
    cut = meta["first_sentences_cut"]
    assert cut >= 6 and f"{cut} of {cut} first sentences were cut to generator.max_source_tokens = 2." in caplog.text


def test_a_set_that_does_not_say_who_wrote_it_is_named(settings, tmp_path):
    meta = write(settings, tmp_path, "run") / "meta.json"
    facts = json.loads(meta.read_text())
    for wrong in ({}, facts | {"generator_backbone": ["t5"]}):
        meta.write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=r"meta\.json: Meta\.generator_backbone(: is missing| = .*: must be)"):
            write(settings, tmp_path, "run")


def test_a_restart_with_another_shard_size_keeps_what_is_finished(settings, tmp_path, monkeypatch):
    whole, write_samples = write(settings, tmp_path, "whole"), files.write_samples

    def killed(*arguments):
        write_samples(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_samples", killed)
        with pytest.raises(Killed):
            write(settings, tmp_path, "again")

    indices, generate = set(), Decoder.generate

    def watched(*arguments):
        for sample in generate(*arguments):
            indices.add(sample.index)
            yield sample

    monkeypatch.setattr(Decoder, "generate", watched)
    again = write(settings, tmp_path, "again", shard_size=5)
    assert min(indices) == 3  # the first three are in the finished shard
    assert (again / "train.jsonl").read_bytes() == (whole / "train.jsonl").read_bytes()


def test_a_row_has_its_own_labels_prompt_and_infix():
    random = np.random.default_rng(0)
    label_prompts = {"prompt": random.normal(size=(3, 2, 16)).astype(np.float32),
                     "infix": random.normal(size=(3, 1, 16)).astype(np.float32)}
    rows = Rows(np.full((3, 3), 5, np.int32), np.ones((3, 3), bool), np.tile(np.int32([-1, 0, -1]), (3, 1)),
                np.int32([2, 0, 1]))
    embeddings, _ = sets.embed_rows(tiny.theta(), label_prompts, rows, model=tiny.MODEL)
    np.testing.assert_array_equal(embeddings[:, :2], label_prompts["prompt"][[2, 0, 1]])
    np.testing.assert_array_equal(embeddings[:, 3], label_prompts["infix"][[2, 0, 1], 0])


def test_the_decoder_is_given_each_labels_penalty_and_each_seeds_prompts(config, tmp_path, monkeypatch):
    config = dataclasses.replace(config, synthesis=dataclasses.replace(config.synthesis, temperature=0.7, top_k=5))
    given = inputs.read_task("mini-snli", config, generates=True)
    given = dataclasses.replace(given, task=dataclasses.replace(given.task, repetition_penalty=(1.1, 1.5, 1.2)))
    words, used, samplings = [["dog"], ["cat"], ["boy"]], [], set()

    def invented(decoder, theta, label_prompts, work, key):
        used.append(float(label_prompts["prompt"].max()))
        work = list(work)
        samplings.update((one.label, one.sampling) for one in work)
        for one in work[::-1]:
            ids = job.backbone(config.generator.backbone).format.tokenizer.convert_tokens_to_ids(words[one.label])
            yield Generated(one.label, one.index, np.array(ids, np.int32), True)

    monkeypatch.setattr(Decoder, "generate", invented)
    job, folders = Job.start(config, tmp_path / "run"), []
    for k in range(2):
        folders.append(tmp_path / f"generator{k}")
        prompts.save(folders[k] / "prompts.safetensors", {
            "prompt": np.full((3, 3, 16), k + 1.0), "infix": np.full((3, 2, 16), k + 1.0)})
    made = sets.synthesize(job, given, "FewGen", folders)
    assert used == sorted(used) and set(used) == {1.0, 2.0}, "the first seed's prompts, then the second's"
    assert {label: sampling.repetition_penalty for label, sampling in samplings} == {0: 1.1, 1: 1.5, 2: 1.2}
    assert {(sampling.temperature, sampling.top_k) for _, sampling in samplings} == {(0.7, 5)}
    for one in made:
        assert {(example.label, example.sentence2) for example in one.examples} == {
            (label, text) for label, (text,) in zip(given.task.labels, words, strict=True)}
