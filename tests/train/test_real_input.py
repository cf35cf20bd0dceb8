"""The main job on real text: SICK and MRPC, the real T5 tokenizer, a small random T5 that ``transformers`` wrote."""

import dataclasses
import shutil

import pytest

from dawgen_jax.config import BackboneConfig, Config, UserError
from dawgen_jax.pipeline import main
from dawgen_jax.pipeline.job import Job
from dawgen_jax.results.rows import read_rows
from train import cli

pytestmark = pytest.mark.shared
transformers = pytest.importorskip("transformers")
pytest.importorskip("torch")


@pytest.fixture(scope="module")
def config(shared, tmp_path_factory) -> Config:
    """configs/real_smoke.py, cut to one seed and the fewest updates."""
    folder = tmp_path_factory.mktemp("random") / "random-t5"
    t5 = transformers.T5Config(vocab_size=32128, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
                               feed_forward_proj="gated-gelu")
    transformers.T5ForConditionalGeneration(t5).save_pretrained(folder)
    for file in (shared / "tokenizer").iterdir():
        shutil.copy(file, folder)
    smoke = cli.load_config("configs/real_smoke.py")
    data, backbone = shared / "data", BackboneConfig(str(folder))
    return dataclasses.replace(
        smoke, devices=1, seeds=(13,), arms=("DawGen: (Real, Syn) + GS",),
        data=dataclasses.replace(smoke.data, root=str(data), kshot=str(data / "kshot"),
                                 corpus=str(data / "synthetic_fewgen"), max_test=40),
        generator=dataclasses.replace(smoke.generator, backbone=backbone, num_steps=2, log_every=1, prompt_length=6),
        synthesis=dataclasses.replace(smoke.synthesis, samples_per_label=6, max_new_tokens=4),
        classifier=dataclasses.replace(smoke.classifier, backbone=backbone, num_steps=2, eval_every=1,
                                       pad_multiple=100))


def test_sick_goes_through_all_stages(config, tmp_path):
    main.run(Job.start(dataclasses.replace(config, tasks=("SICK",)), tmp_path))
    rows = read_rows(tmp_path / "results.jsonl")
    assert [row.metric for row in rows] == ["accuracy", "f1"]
    assert {(row.variant, row.split_source, row.n_test) for row in rows} == {("cut", "resampled", 40)}


def test_mrpc_from_ready_splits_rejects_unfinished_sentences_by_default(config, tmp_path):
    sentence = ("The committee that met on Monday said in a letter of two pages that it will change no rule "
                "before {} .")
    (tmp_path / "first.txt").write_text("\n".join(map(sentence.format, ("Friday", "Sunday"))))
    rejecting = dataclasses.replace(
        config, tasks=("MRPC",), data=dataclasses.replace(config.data, corpus=str(tmp_path / "first.txt")),
        synthesis=dataclasses.replace(config.synthesis, unfinished="reject"))
    with pytest.raises(UserError, match=r"no sample of label .*synthesis\.unfinished = 'cut'"):
        main.run(Job.start(rejecting, tmp_path / "run"))
