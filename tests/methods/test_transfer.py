"""Source prompts: each is trained on what its definition says, an OPTIMA step is PyTorch's, few-shot tuning goes on."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dawgen_jax.backbones.base import Backbone
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.config import PAPER, ClassifierConfig, Config, TransferConfig
from dawgen_jax.data.batches import take
from dawgen_jax.errors import UserError
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.methods.base import Stage
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.methods.trained import PROMPT
from dawgen_jax.methods.transfer import (
    SOURCES,
    AlignmentBatch,
    SourceData,
    hold_out,
    optima_loss,
    optima_optimiser,
    ppt_optimiser,
    train_source_prompt,
)
from dawgen_jax.methods.tune import tune
from dawgen_jax.miniworld import TASKS
from dawgen_jax.surgery import aggregator
from dawgen_jax.tasks import SEVEN
from dawgen_jax.training.placement import Placement
from dawgen_jax.training.step import init_state, train_step
from tests import tiny
from tests.reference import cases

CONFIG = Config(classifier=ClassifierConfig(learning_rate=0.1, full_steps=6, full_batch_size=4, full_eval_every=3,
                                            eval_every=3, pad_multiple=8),
                transfer=TransferConfig(ppt_steps=5, ppt_batch_size=4, optima_steps=6, optima_batch_size=3))


def start(seed=0):
    return np.random.default_rng(seed).normal(size=(4, 16)).astype(np.float32)


def train(kind, folder, config=CONFIG, devices=1, target=True):
    folder.mkdir(exist_ok=True)
    train_set, dev = hold_out(tiny.classifier_set(60, 0), config.transfer.held_out, 0)
    log = MetricsLog(folder / "metrics.jsonl")
    tuned = train_source_prompt(
        SOURCES[kind], start(), Backbone(tiny.MODEL, None, tiny.theta(), "tiny", ""),
        SourceData(train_set, dev, tiny.classifier_set(9, 5) if target else None), config=config,
        label_ids=tiny.LABEL_IDS, placement=Placement.on(devices), seed=3, folder=folder, title=kind, metrics_log=log)
    return tuned, log.lines()


@pytest.mark.parametrize(("kind", "steps"), [("PPT", 5), ("SPoT", 6), ("OPTIMA", 6)])
def test_each_kind_trains_for_its_budget_and_keeps_the_best_on_the_held_out_slice(kind, steps, tmp_path):
    tuned, lines = train(kind, tmp_path)
    assert tuned.prompt.shape == (4, 16) and lines[-1]["step"] == steps
    evaluated = {line["step"]: float(np.squeeze(line["dev_accuracy"])) for line in lines if "dev_accuracy" in line}
    assert tuned.accuracy == pytest.approx(max(evaluated.values())) == pytest.approx(evaluated[tuned.step])
    assert (tuned.step == 0) == bool((tuned.prompt == start()).all())


def test_an_interrupted_alignment_ends_with_the_same_prompt_and_devices_make_no_difference(tmp_path):
    always = dataclasses.replace(CONFIG, classifier=dataclasses.replace(CONFIG.classifier, checkpoint_every=2))
    whole, lines = train("OPTIMA", tmp_path / "whole", always)
    again, same = train("OPTIMA", tmp_path / "whole", always)  # finished: restored, nothing trained
    np.testing.assert_array_equal(whole.prompt, again.prompt)
    assert same == lines
    _, spread = train("OPTIMA", tmp_path / "spread", always, devices=4)
    for one, other in zip(lines, spread, strict=True):
        chex.assert_trees_all_close(one, other, rtol=2e-4)


def test_a_missing_source_task_and_missing_target_examples_are_named(tmp_path):
    with pytest.raises(UserError, match=r"SPoT has no source task for QNLI; set Task.source"):
        SOURCES["SPoT"].source_task(SEVEN["QNLI"])
    assert SOURCES["PPT"].source_task(SEVEN["QNLI"]) == ""
    with pytest.raises(UserError, match="OPTIMA needs examples of the target task"):
        train("OPTIMA", tmp_path, target=False)


def test_pairs_of_tasks_share_their_label_words():
    for tasks, expected in ((SEVEN, 5), (TASKS, 2 * 5)):  # every mini task has a worded variant
        of = {name: task.source for name, task in tasks.items() if task.source}
        assert len(of) == expected
        for name, source in of.items():
            assert sorted(tasks[name].label_words) == sorted(tasks[source].label_words)


def test_settings_are_what_each_kind_reads():
    settings = {name: SOURCES[name].settings(CONFIG) for name in SOURCES}
    assert set(SOURCES) == {method.source for method in METHODS.values()} - {""}
    assert settings["SPoT"]["classifier.full_steps"] == 6 and "transfer.ppt_steps" not in settings["SPoT"]
    assert settings["PPT"]["transfer.ppt_learning_rate"] == 0.1 and "classifier.learning_rate" not in settings["PPT"]
    assert settings["OPTIMA"]["transfer.optima_radius"] == 0.1
    assert SOURCES["PPT"].stage(CONFIG) == Stage((("source",),), "sum", 5, 4, 3)


def test_hold_out_divides_a_set_and_keeps_a_tenth_at_most():
    data = tiny.classifier_set(60, 0)
    rest, held = hold_out(data, 512, 1)
    assert (len(rest.label), len(held.label)) == (54, 6) and len(hold_out(data, 2, 1)[1].label) == 2
    rows = np.concatenate([rest.tokens, held.tokens])
    np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(data.tokens, axis=0))
    with pytest.raises(UserError, match="larger training set"):
        hold_out(tiny.classifier_set(1, 0), 5, 0)


def test_ppt_has_adams_rate_over_the_root_of_the_step():
    config = TransferConfig(ppt_weight_decay=0.0)
    tx = ppt_optimiser(config)
    params = jnp.ones(3)
    state = tx.init(params)
    for step in (1, 2, 3):
        updates, state = tx.update(jnp.ones(3), state, params)  # equal gradients: Adam's step is the rate
        np.testing.assert_allclose(updates, -0.1 / np.sqrt(step), rtol=1e-5)


def test_few_shot_tuning_starts_from_the_source_prompt(tmp_path):
    source, _ = train("SPoT", tmp_path / "source")
    log = MetricsLog(tmp_path / "metrics.jsonl")
    dev = tiny.classifier_set(12, 9)
    (stage,) = METHODS["SPoT"].stages(dataclasses.replace(CONFIG.classifier, real_steps=1, real_eval_every=1), 3)
    config = dataclasses.replace(CONFIG.classifier, learning_rate=1e-9)
    tuned = tune(PROMPT, source.prompt[None], Backbone(tiny.MODEL, None, tiny.theta(), "tiny", ""),
                 {"real": [tiny.classifier_set(6, 1)]}, [dev], [stage], config=config, label_ids=tiny.LABEL_IDS,
                 placement=Placement.on(1), seeds=(0,), folder=tmp_path / "few", title="few", metrics_log=log)
    np.testing.assert_allclose(tuned.params[0], source.prompt, atol=1e-6)
    assert METHODS["SPoT"].source == "SPoT" and METHODS["Prompt Tuning"].source == ""


def alignment_batch(dtype) -> AlignmentBatch:
    source, target = (take(cases.classifier_batches(1)[0], part) for part in (0, 1))
    source = source._replace(weight=np.ones(4, dtype))
    return AlignmentBatch(source, target._replace(weight=np.ones(4, dtype)), np.array([3, 1, 4, 1], np.uint32))


@pytest.mark.parametrize("backbone", cases.BACKBONES)
def test_one_optima_step_is_pytorchs(backbone):
    pytest.importorskip("torch")
    from tests.reference import pin, torch_optima

    config = Config(transfer=TransferConfig(optima_radius=0.3, optima_domain_weight=0.7),
                    classifier=ClassifierConfig(**PAPER))
    random = np.random.RandomState(5)
    t5 = dataclasses.replace(cases.BACKBONES[backbone], dtype="float64")
    params = {"prompt": cases.prompt(t5.d_model),
              "discriminator": {"kernel": random.standard_normal((t5.d_model, 2)), "bias": random.standard_normal(2)}}
    with jax.enable_x64(True):
        theta = jax.tree.map(jnp.asarray, cases.theta(t5))
        batch = alignment_batch(np.float64)
        shape = (batch.source.tokens.shape[1], t5.d_model)
        uniform = np.stack([jax.random.uniform(jax.random.key(seed), shape, jnp.float64, -1, 1) for seed in batch.seed])
        loss_fn = functools.partial(optima_loss, model=T5(t5, cases.MASK_ID), label_ids=cases.LABEL_IDS,
                                    config=config.transfer)
        gradient = jax.jit(jax.grad(loss_fn))(params, theta, batch)
        tx = optax.chain(aggregator("sum"), optima_optimiser(config))
        step = jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=tx))
        state, metrics = step(init_state(params, tx), theta, jax.tree.map(lambda leaf: leaf[None], batch))
        actual = jax.tree.map(np.asarray, (metrics["loss"][0], gradient, state.params))
    expected = torch_optima.step(pin.tensors(params), pin.tensors(cases.theta(t5)), pin.tensors(batch.source),
                                 pin.tensors(batch.target), pin.tensors(uniform), config, cases.BACKBONES[backbone],
                                 cases.LABEL_IDS, cases.MASK_ID)
    chex.assert_trees_all_close(actual, jax.tree.map(lambda leaf: leaf.numpy(), expected), rtol=1e-6, atol=1e-9)


def test_padding_of_weight_zero_does_not_change_the_optima_loss():
    theta = tiny.theta()
    random = np.random.default_rng(0)
    params = {"prompt": start(), "discriminator": {"kernel": random.normal(size=(16, 2)).astype(np.float32),
                                                   "bias": np.zeros(2, np.float32)}}
    source, target = tiny.classifier_set(4, 1), tiny.classifier_set(4, 2)
    loss = jax.jit(functools.partial(optima_loss, model=tiny.MODEL, label_ids=tiny.LABEL_IDS, config=CONFIG.transfer))
    seeds = np.arange(6, dtype=np.uint32)
    whole = loss(params, theta, AlignmentBatch(source, target, seeds[:4]))

    def padded(part):
        index = np.array([0, 1, 2, 3, 0, 0])
        return take(part, index)._replace(weight=(np.arange(6) < 4).astype(np.float32))

    np.testing.assert_allclose(loss(params, theta, AlignmentBatch(padded(source), padded(target), seeds)), whole,
                               rtol=1e-5)
