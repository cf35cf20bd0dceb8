"""Ahead-of-time compilation of every step, with a tiny backbone on the 8 CPU devices of the suite."""

import dataclasses
import importlib.util
import re

import jax
import jax.numpy as jnp
import pytest

from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.family import FAMILY
from dawgen_jax.backbones.t5.sizes import FORWARD, SIZES, TRAINING, operations
from dawgen_jax.cli import compile as program
from dawgen_jax.config import BackboneConfig, ClassifierConfig, Config, GeneratorConfig, MeshConfig, SynthesisConfig
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.pipeline import programs
from dawgen_jax.pipeline.inputs import find_task
from dawgen_jax.pipeline.programs import DECODING, FINE_TUNING, PROGRAMS, PROMPT, Shapes, lower
from dawgen_jax.training.costs import analyse
from dawgen_jax.training.placement import Placement
from tests import tiny

CONFIG = Config(seeds=(1, 2), generator=GeneratorConfig(prompt_length=3, max_source_tokens=6, max_target_tokens=5,
                                                         weighting="uniform", dist_weight=0.0),
                synthesis=SynthesisConfig(batch_size=4, max_new_tokens=4),
                classifier=ClassifierConfig(prompt_length=4, max_tokens=8, batch_size=8))
SHAPES = Shapes.of(CONFIG, find_task("mini-snli"))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(FAMILY.shapes, "tiny", lambda config: tiny.MODEL)


def attempts(step, meshes, gib=1.0, devices=8):
    return [program.attempt(step, tiny.MODEL, "float32", SHAPES, jax.devices()[:devices], mesh, gib, program.Chip(gib))
            for mesh in meshes]


@pytest.mark.parametrize("step", PROGRAMS)
def test_every_step_is_compiled_from_shapes(step):
    (tried,) = attempts(step, [MeshConfig(fsdp=2, tensor=2)])
    assert tried.mesh == (2, 2, 2)
    assert not tried.why
    assert tried.cost.flops > 0
    assert tried.cost.exchanged > 0
    theta = sum(leaf.size for leaf in jax.tree.leaves(model.abstract(tiny.T5)))
    copies = {FINE_TUNING: 3, DECODING: 2}.get(step, 1)  # weights and both moments of Adam; layers stacked and apart
    assert 0.25 * 4 * copies * theta < tried.cost.arguments < 4 * copies * theta  # cut in four, most of it


def test_what_stays_on_a_chip_is_known_before_the_compiler_runs():
    for mesh in (MeshConfig(), MeshConfig(fsdp=4, tensor=2)):
        placement = Placement.on(8, mesh)
        held, lowered = lower(PROMPT, tiny.MODEL, model.abstract(tiny.T5), SHAPES, placement)
        rows = 2 * 2 * 8 // (8 // mesh.tensor)  # seeds, sources, examples
        batch = rows * (8 * 4 + 8 + 4 + 4)
        assert analyse(lowered().compile()).arguments == pytest.approx(held + batch, rel=0.02)


def test_useful_share_is_what_padding_and_copies_leave():
    (one,), (eight,) = (attempts(PROMPT, [MeshConfig()], devices=count) for count in (1, 8))
    useful = programs.operations(PROMPT, tiny.MODEL, SHAPES)
    assert 0.85 < useful / one.cost.flops <= 1.1  # attention of so short rows is in part no matrix product
    assert useful / (8 * eight.cost.flops) == pytest.approx(useful / one.cost.flops, rel=0.05)  # 8 rows on 8 devices
    few = Shapes.of(dataclasses.replace(CONFIG, classifier=dataclasses.replace(CONFIG.classifier, batch_size=2)),
                    find_task("mini-snli"))
    assert programs.operations(PROMPT, tiny.MODEL, few) == useful / 4  # and on 8 devices the same program runs


@pytest.mark.parametrize(("target", "passes"), [(3, FORWARD), (12, FORWARD), (12, TRAINING)])
def test_operations_are_those_of_the_compiled_model(target, passes):
    rows, source = 2, 12

    def loss(embeddings, theta, mask, tokens):
        encoded = model.encode(theta, embeddings, mask, config=tiny.T5)
        return jnp.sum(model.logits(theta, model.decode(theta, tokens, encoded, mask, config=tiny.T5), config=tiny.T5))

    shapes = (jax.ShapeDtypeStruct((rows, source, 16), jnp.float32), model.abstract(tiny.T5),
              jax.ShapeDtypeStruct((rows, source), bool), jax.ShapeDtypeStruct((rows, target), jnp.int32))
    function = loss if passes == FORWARD else jax.grad(loss, argnums=(0, 1))
    cost = analyse(jax.jit(function).lower(*shapes).compile())
    assert cost.flops == pytest.approx(
        rows * operations(tiny.T5, passes, source=source, target=target, logits=tiny.T5.vocab_size), rel=0.05)


def test_parameters_of_the_sizes_are_the_published_ones():
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(model.abstract(size))) for name, size in SIZES.items()}
    assert counts == {"t5-large": 783150080, "t5-xl": 2849757184, "t5-xxl": 11135332352}


def run(capsys, *words):
    program.main(["mini", "--shape", "tiny", "--generator.prompt_length", "3", "--classifier.max_tokens", "8",
                  "--classifier.prompt_length", "4", *words])
    return capsys.readouterr().out


def test_the_table_names_the_best_mesh(small, capsys):
    table = run(capsys, "--steps", DECODING, "--devices", "2")
    assert "tiny (bfloat16) on 2 local cpu devices" in table
    rows = re.findall(r"^\| decoding \| (\**)(\d x \d x \d)\** \| \d+\.\d\d = .* %", table, re.M)
    assert [mesh for _, mesh in rows] == ["2 x 1 x 1", "1 x 1 x 2", "1 x 2 x 1"]
    assert sum(bool(mark) for mark, _ in rows) == 1


def test_one_mesh_is_tried_where_it_is_asked_for(small, capsys):
    table = run(capsys, "--steps", DECODING, "--mesh.tensor", "2", "--devices", "2")
    assert "| decoding | **1 x 1 x 2** |" in table
    assert table.count("| decoding |") == 1


def test_a_program_without_matrix_products_has_no_share():
    (tried,) = attempts(PROMPT, [MeshConfig()])
    without = tried._replace(cost=dataclasses.replace(tried.cost, flops=0.0))
    assert "%" in program._row(PROMPT, tried, False, 1.0, 8)
    assert "| 0 | – |" in program._row(PROMPT, without, False, 1.0, 8)


def test_a_step_that_does_not_fit_ends_the_program(small, capsys):
    with pytest.raises(UserError, match=r"tiny does not fit 2 local cpu devices with 1e-06 GiB per chip: the prompt "
                                        r"step \(parameters and state alone are 0\.0 GiB\); take more chips") as error:
        run(capsys, "--steps", PROMPT, "--devices", "2", "--memory", "1e-6")
    assert "\n" not in str(error.value)
    assert "does not fit: parameters and state alone" in capsys.readouterr().out


def test_temporary_buffers_count_as_well():
    (fits,) = attempts(PROMPT, [MeshConfig()])
    room = (fits.cost.arguments + fits.cost.temporary / 2) / 2**30
    (tried,) = attempts(PROMPT, [MeshConfig()], gib=room)
    assert tried.cost is not None
    assert tried.why.startswith("needs 0.0 GiB")


@pytest.mark.parametrize(("words", "told"), [
    (("--topology", "v5e"), "--topology v5e: must be a kind of v5e, v4"),
    (("--topology", "h100:2x2"), "--topology h100:2x2: must be a kind of"),
    (("--topology", "v5e:4x4"), "the TPU compiler is not installed"),
    (("--steps", "all"), "--steps 'all': must be some of 'generator step'"),
    (("--memory", "-1"), "--memory -1.0: must be a positive number of GiB"),
])
def test_mistakes_are_told(words, told, small, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "libtpu" else find(name))
    with pytest.raises(UserError, match=re.escape(told)):
        run(capsys, *words)


@pytest.mark.parametrize(("text", "told"), [
    ("{", r"cannot be read \(.*\); copy the checkpoint again"), ("[]", "holds no JSON object"),
    ('{"d_model": "x"}', r"T5Config\.d_model = 'x': must be an integer"),
])
def test_a_broken_config_json_is_named(text, told, tmp_path):
    (tmp_path / "config.json").write_text(text)
    config = dataclasses.replace(CONFIG, classifier=ClassifierConfig(backbone=BackboneConfig(str(tmp_path))))
    with pytest.raises(UserError, match=f"{re.escape(str(tmp_path))}/config.json: {told}"):
        program.backbone_of(config, program.Arguments(), "classifier")


def test_an_unknown_size_is_told():
    with pytest.raises(ConfigError, match=r"--shape t5-huge: must be one of t5-large, t5-xl, t5-xxl"):
        program.main(["mini", "--shape", "t5-huge"])
