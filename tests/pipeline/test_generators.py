"""What the generators' loop is given, and what is published after it; the training itself is invented."""

import jax
import numpy as np
import pytest

from dawgen_jax import prompts
from dawgen_jax.config import GeneratorConfig
from dawgen_jax.data.encoding import generator_arrays
from dawgen_jax.pipeline import generators, inputs
from dawgen_jax.pipeline.job import Job
from dawgen_jax.training.fit import Fitted
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
