"""A synthetic set: scores, cut sources, and a restart that goes on from shards of another size."""

import dataclasses
import json

import numpy as np
import pytest

from dawgen_jax import prompts
from dawgen_jax.backbones.t5.engine import Decoder
from dawgen_jax.pipeline import inputs, sets
from dawgen_jax.pipeline.generators import start_prompts
from dawgen_jax.pipeline.job import Job
from dawgen_jax.synthesis import files
from dawgen_jax.training.placement import Placement


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
    cut = json.loads((folder / "meta.json").read_text())["first_sentences_cut"]
    assert cut >= 6 and f"{cut} of {cut} first sentences were cut to generator.max_source_tokens = 2." in caplog.text


def test_a_restart_with_another_shard_size_keeps_what_is_finished(settings, tmp_path, monkeypatch):
    whole, write_shard = write(settings, tmp_path, "whole"), files.write_shard

    def killed(*arguments):
        write_shard(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_shard", killed)
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
