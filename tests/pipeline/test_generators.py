"""What the generators' loop is given, and what is published after it; the training itself is invented but for that of
generators that dev selects."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from dawgen_jax import prompts
from dawgen_jax.config import GeneratorConfig
from dawgen_jax.data.encoding import generator_arrays
from dawgen_jax.generator import scores
from dawgen_jax.generator.variants import VARIANTS, fields_read, variant_settings
from dawgen_jax.io.metrics_log import MetricsLog, read_metrics
from dawgen_jax.pipeline import generators, inputs
from dawgen_jax.pipeline.job import Job
from dawgen_jax.training.fit import Fitted, fit
from tests.generator import toy


@pytest.fixture(scope="module")
def loop(config, tmp_path_factory):
    """(job, data, what the loop was given, the published folders) of FewGen; the loop adds 1 to every prompt."""
    job, seen = Job.start(config, tmp_path_factory.mktemp("run")), {}
    given = inputs.read_task("mini-snli", config, generates=False)

    def invented(step, state, frozen, draw, **options):
        seen.update(state=state, draw=draw, **options)
        return Fitted(state.replace(label_prompts=jax.tree.map(lambda leaf: leaf + 1, state.label_prompts)), None, {})

    def compiled(config, *rest):
        seen["config"] = config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generators, "fit", invented)
        patch.setattr(generators, "compiled_step", compiled)
        patch.setattr(generators, "_weights", lambda step, state, backbone, batch: (batch, np.ones(batch.target.shape)))
        folders = generators.tune_generators(job, given, "FewGen")
    return job, given, seen, folders


def test_fewgen_has_no_l_dist_and_every_seed_a_weight_net_of_its_own(loop):
    _, _, seen, _ = loop
    assert (seen["config"].dist_weight, seen["config"].weight_input) == (0.0, "loss")
    first, second = seen["state"].weight_net["w1"]
    assert np.abs(first - second).max() > 0.1


def test_generators_are_tuned_on_the_few_shots(loop):
    job, given, seen, _ = loop
    backbone, config = job.backbone(job.config.generator.backbone), job.config.generator
    drawn = [seen["draw"](step) for step in range(2)]  # of 4 examples a class, 2 a batch: an epoch
    for k, seed in enumerate(job.config.seeds):
        shots = generator_arrays(backbone.format, given.task, given.splits[seed].train, 2, config)
        expected = sorted(row[mask].tolist() for row, mask in zip(shots.target, shots.target_mask, strict=True))
        assert expected == sorted(row[mask].tolist() for batch in drawn
                                  for row, mask in zip(batch.target[k], batch.target_mask[k], strict=True))


def test_the_tuned_prompts_are_published(loop):
    job, given, _, folders = loop
    backbone = job.backbone(job.config.generator.backbone)
    for folder, seed in zip(folders, job.config.seeds, strict=True):
        start = generators.start_prompts(given.task, backbone, job.config.generator.prompt_length, seed)
        for name, stored in prompts.load(folder / "prompts.safetensors").items():
            np.testing.assert_allclose(stored, start[name] + 1, rtol=1e-6)


def test_seeds_draw_apart_and_rows_that_fill_up_are_not_supervised():
    data = toy.batch(labels=(0, 1, 2) * 6)
    batch = generators._draw([data, data], (1, 2), 0, GeneratorConfig(examples_per_label=2), rows=8)
    assert batch.label.shape == (2, 8) and batch.label[:, :6].tolist() == [[0, 0, 1, 1, 2, 2]] * 2
    assert (batch.target[0] != batch.target[1]).any()
    assert batch.target_mask[:, :6].any(axis=-1).all() and not batch.target_mask[:, 6:].any()


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def tuned(config, folder, generator="DawGen", **fields):
    """The published folders of generators that dev selects, and what each evaluation saw: (parameters, score [K])."""
    fields = {"select": "dev_nll", "select_every": 2, "num_steps": 5, "learning_rate": 0.02, "log_every": 1, **fields}
    job, seen = Job.start(dataclasses.replace(config, generator=dataclasses.replace(config.generator, **fields)),
                          folder), []

    def watched(*arguments, evaluate, **options):
        def evaluated(params):
            found = evaluate(params)
            seen.append((jax.device_get(params), found[0]))
            return found

        return fit(*arguments, evaluate=evaluated, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generators, "fit", watched)
        given = inputs.read_task("mini-snli", config, generates=False)
        return generators.tune_generators(job, given, generator), seen


@pytest.mark.parametrize("generator", ["L_gen", "FewGen", "DawGen"])
def test_the_prompts_of_the_lowest_dev_nll_are_kept(config, tmp_path, generator):
    folders, seen = tuned(config, tmp_path, generator)
    assert len(seen) == 4  # updates 0, 2, 4 and 5
    given = inputs.read_task("mini-snli", config, generates=False)
    backbone = Job.start(config, tmp_path).backbone(config.generator.backbone)
    for k, (folder, seed) in enumerate(zip(folders, config.seeds, strict=True)):
        best = int(np.argmax([score[k] for _, score in seen]))
        lines = {line["step"]: line for line in read_metrics(folder / "metrics.jsonl")}
        assert [step for step, line in lines.items() if "dev_nll" in line] == [0, 2, 4, 5]
        assert min(lines, key=lambda step: lines[step].get("dev_nll", np.inf)) == (0, 2, 4, 5)[best]
        assert json.loads((folder / "meta.json").read_text())["selected_step"] == (0, 2, 4, 5)[best]
        stored = prompts.load(folder / "prompts.safetensors")
        for name, kept in seen[best][0]["label_prompts"].items():
            np.testing.assert_array_equal(stored[name], kept[k])
        dev = generator_arrays(backbone.format, given.task, given.splits[seed].dev, 2, config.generator)
        hidden = scores.hidden_states(stored, backbone.theta, dev, range(1), model=backbone.model)[0]
        log_prob = jax.nn.log_softmax(backbone.model.logits(backbone.theta, hidden))
        gold = np.take_along_axis(np.asarray(log_prob), dev.target[..., None], axis=-1)[..., 0]
        assert -gold[dev.target_mask].mean() == pytest.approx(lines[(0, 2, 4, 5)[best]]["dev_nll"], rel=1e-5)


def test_a_killed_run_selects_what_an_undisturbed_one_does(config, tmp_path, monkeypatch):
    """At this rate a seed's best update is before the checkpoint, and no later one can give its prompts again."""
    fields = {"learning_rate": 10.0, "num_steps": 9, "checkpoint_every": 2}
    whole, _ = tuned(config, tmp_path / "whole", **fields)
    record = MetricsLog.record
    with monkeypatch.context() as patch:
        def killed(log, lines):
            if lines[-1]["step"] == 8:
                raise Killed
            record(log, lines)

        patch.setattr(MetricsLog, "record", killed)
        with pytest.raises(Killed):
            tuned(config, tmp_path / "killed", **fields)
    again, seen = tuned(config, tmp_path / "killed", **fields)
    assert len(seen) == 2  # updates 8 and 9: it has resumed
    selected = [json.loads((folder / "meta.json").read_text())["selected_step"] for folder in (*whole, *again)]
    assert selected[:2] == selected[2:] and min(selected) <= 6
    for one, other in zip(whole, again, strict=True):
        for name in ("prompts.safetensors", "metrics.jsonl", "token_weights.json"):
            assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_mesh_selects_by_the_nll_of_one_device(config, tmp_path):
    one, mesh = (tuned(dataclasses.replace(config, devices=devices), tmp_path / str(devices))[1] for devices in (1, 8))
    for (_, expected), (_, found) in zip(one, mesh, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_selection_is_the_configurations_for_every_generator_and_names_its_artefacts(name):
    last, chosen = (variant_settings(GeneratorConfig(select=select), name) for select in ("last", "dev_nll"))
    assert last["generator.select"] == "last" and "generator.select_every" not in last
    assert chosen == last | {"generator.select": "dev_nll", "generator.select_every": 5}


@pytest.mark.parametrize("name", VARIANTS)
def test_an_artefact_is_named_by_every_field_that_is_read_those_that_the_variant_fixes_included(name, monkeypatch):
    read = fields_read(GeneratorConfig(), name)
    assert variant_settings(GeneratorConfig(), name).items() <= read.items()
    assert {f"generator.{field}": value for field, value in VARIANTS[name].items()}.items() <= read.items()


def test_a_variant_that_fixes_another_value_or_a_raised_revision_tunes_again(loop, monkeypatch):
    job, given, _, folders = loop
    tuned = []
    monkeypatch.setattr(generators, "_tune", lambda *arguments: tuned.append(arguments) or iter(()))
    assert generators.tune_generators(job, given, "FewGen") == folders and not tuned

    def missing():
        with pytest.raises(ValueError, match="shorter"):  # nothing is made by the invented tuning
            generators.tune_generators(job, given, "FewGen")
        return len(tuned)

    with monkeypatch.context() as patch:
        patch.setitem(VARIANTS, "FewGen", {"weight_input": "loss", "dist_weight": 0.0, "weight_norm": "sentence"})
        assert missing() == 1
    monkeypatch.setattr(generators, "REVISION", generators.REVISION + 1)
    assert missing() == 2
