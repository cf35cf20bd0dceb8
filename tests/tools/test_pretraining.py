"""The pre-training loop on a tiny model: it learns, goes on where it was killed, and writes a loadable backbone."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from transformers import AutoTokenizer

from dawgen_jax.backbones.t5 import convert, model
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.io.metrics_log import MetricsLog
from tools.pretrain import corpus
from tools.pretrain.corpus import CorpusConfig
from tools.pretrain.pretraining import PretrainConfig, blocks, loss, planned, pretrain, save_backbone
from tools.pretrain.probes import draw_probes, evaluate
from tools.pretrain.vocabulary import IDS, SENTINELS

TINY = PretrainConfig(
    corpus=CorpusConfig(batch_size=8, block_batches=8, curriculum=0), d_model=16, d_kv=8, d_ff=16, num_layers=1,
    num_decoder_layers=1, num_heads=2, documents=256, dispatch=8, warmup_steps=4, learning_rate=1e-2, eval_examples=4,
    eval_every=1, checkpoint_every=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    facts = pretrain(TINY, out, 0)
    save_backbone(out / "backbone", TINY, facts, "tiny.py --documents=256")
    return out, facts


def steps_logged(out):
    return [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_loss_falls_and_is_logged(trained):
    out, facts = trained
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"] and facts["documents"] == 256 and facts["updates"] == 32
    assert {"statements_0", "statements_2", "prefixed_2", "glossed"} <= set(facts)


def test_a_killed_run_ends_with_the_same_weights(trained, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    record = MetricsLog.record

    def killing(log, lines):
        record(log, lines)
        if lines[-1]["step"] == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "record", killing)
        with pytest.raises(Killed):
            pretrain(TINY, tmp_path, 0)
    # The checkpoint is of block 1: the line of block 2 is written a second time.
    assert steps_logged(tmp_path) == [1, 2]
    with pytest.raises(UserError, match="--documents 256"):
        pretrain(dataclasses.replace(TINY, documents=64), tmp_path, 0)
    facts = pretrain(TINY, tmp_path, 0)
    jax.tree.map(np.testing.assert_array_equal, facts["theta"], trained[1]["theta"])
    assert steps_logged(tmp_path) == steps_logged(trained[0]) == [1, 2, 3, 4]


def test_minutes_become_documents_once(trained, tmp_path):
    timed = dataclasses.replace(TINY, minutes=0.02)
    config = planned(timed, tmp_path, 0, trial_seconds=0.2)
    assert config.minutes == 0 and config.documents % 64 == 0 and config.documents >= 64
    assert planned(timed, trained[0], 0).documents == 256  # as planned when that run began
    assert planned(TINY, tmp_path, 0) == TINY


def test_another_configuration_does_not_go_on(trained, tmp_path):
    (tmp_path / "run.json").write_text('{"documents": 256}')
    with pytest.raises(UserError, match=r"run\.json: RunFacts\.config: is missing"):
        pretrain(TINY, tmp_path, 0)
    with pytest.raises(UserError, match="another configuration"):
        pretrain(dataclasses.replace(TINY, learning_rate=1e-3), trained[0], 0)


@pytest.mark.parametrize(("text", "message"), [
    ('{"config": "a", "documents": 0}', "RunFacts.documents = 0: must be greater than 0"),
    ('{"config": "a", "documents": true}', "RunFacts.documents = True: must be an integer"),
    ('{"config": 1, "documents": 9}', "RunFacts.config = 1: must be a string"),
    ("{}", "RunFacts.config: is missing"), ("{", r"cannot be read \(.*\)"),
])
def test_a_broken_run_json_is_named(text, message, tmp_path):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=rf"run\.json: {message}.*; give another --out, or delete the run\."):
        planned(dataclasses.replace(TINY, minutes=1.0), tmp_path, 0)


def test_documents_cannot_change_once_the_rate_decays(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    with pytest.raises(UserError, match="--documents 256"):
        pretrain(dataclasses.replace(TINY, documents=512), tmp_path, 0)
    assert pretrain(TINY, tmp_path, 0)["updates"] == 32


def test_instructions_go_on_from_a_backbone(trained, tmp_path):
    # A rate of next to nothing: the weights stay those of the start, and the loss is of the text alone.
    plain = dataclasses.replace(TINY, start=str(trained[0] / "backbone"), documents=64, learning_rate=1e-9)
    asked = dataclasses.replace(plain, corpus=dataclasses.replace(TINY.corpus, instructions=True))
    facts = [pretrain(config, tmp_path / str(i), 0) for i, config in enumerate((plain, asked))]
    for found in facts:
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), found["theta"],
                     trained[1]["theta"])
    assert facts[0]["loss"] != facts[1]["loss"]


def test_the_backbone_is_a_hugging_face_directory(trained):
    out, facts = trained
    config, theta = convert.load(out / "backbone")
    assert config == TINY.t5
    assert AutoTokenizer.from_pretrained(out / "backbone").convert_tokens_to_ids("boy") == IDS["boy"]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), theta, facts["theta"])
    card = (out / "backbone" / "README.md").read_text()
    assert "tools.pretrain tiny.py --documents=256`" in card and "apache-2.0" in card
    assert not list(out.glob("*.partial"))


def test_processes_give_the_stream_of_one():
    config = dataclasses.replace(TINY.corpus, block_batches=2)
    alone, pooled = blocks(config, 1, 0), blocks(config, 1, 2)
    for _ in range(3):
        jax.tree.map(np.testing.assert_array_equal, next(alone), next(pooled))
    pooled.close()


def test_padding_changes_no_loss():
    theta = model.init(TINY.t5, jax.random.key(0))
    made = corpus.block(TINY.corpus, 0)
    source, target = made.source[0].astype(np.int32), made.target[0].astype(np.int32)
    wide = np.pad(source, ((0, 0), (0, 8))), np.pad(target, ((0, 0), (0, 8)))
    value = loss(theta, source, target, config=TINY.t5)
    np.testing.assert_allclose(value, loss(theta, *wide, config=TINY.t5), rtol=1e-5)


def test_probes_ask_for_one_masked_word():
    probes = draw_probes(TINY.corpus, 5)
    for probe in probes.values():
        assert ((probe.source == IDS[SENTINELS[0]]).sum(axis=1) == 1).all()
    right = np.concatenate([probe.good[:, 0] for probe in probes.values()])
    assert set(evaluate(lambda theta, source: right, None, probes).values()) == {1.0}


def test_published_sizes_stay_below_the_limit():
    parameters = sum(x.size for x in jax.tree.leaves(model.abstract(PretrainConfig().t5)))
    assert 1_000_000 < parameters < 4_000_000


def test_dispatch_must_divide_a_block():
    with pytest.raises(ConfigError, match="dispatch"):
        dataclasses.replace(TINY, dispatch=3)
