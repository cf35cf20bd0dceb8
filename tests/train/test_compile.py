"""Ahead-of-time compilation of every step, with a tiny backbone on the 8 CPU devices of the suite."""

import dataclasses
import importlib.util
import re

import jax
import pytest

from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.family import FAMILY
from dawgen_jax.backbones.t5.sizes import SIZES
from dawgen_jax.cli import compile as program
from dawgen_jax.config import (
    PAPER,
    BackboneConfig,
    ClassifierConfig,
    Config,
    GeneratorConfig,
    MeshConfig,
    SynthesisConfig,
)
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.pipeline.inputs import find_task
from dawgen_jax.pipeline.programs import DECODING, FINE_TUNING, PROGRAMS, PROMPT, Shapes, lower
from dawgen_jax.training.placement import Placement
from tests import tiny

CONFIG = Config(seeds=(1, 2), generator=GeneratorConfig(prompt_length=3, max_source_tokens=6, max_target_tokens=5,
                                                         weighting="uniform", dist_weight=0.0),
                synthesis=SynthesisConfig(batch_size=4, max_new_tokens=4),
                classifier=ClassifierConfig(**PAPER | {"prompt_length": 4}, max_tokens=8, batch_size=8))
SHAPES = Shapes.of(CONFIG, find_task("mini-snli"))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(FAMILY.shapes, "tiny", lambda config: tiny.MODEL)


def machine(gib=1.0, devices=8):
    return program.Machine(jax.devices()[:devices], gib, SHAPES, dict.fromkeys(
        ("generator", "classifier"), (tiny.MODEL, "float32", FAMILY)), "here", "tiny")


def compiled(step, mesh=None, gib=1.0):
    return program.compile_step(step, machine(gib), mesh or MeshConfig())


@pytest.mark.parametrize("step", PROGRAMS)
def test_every_step_is_compiled_from_shapes(step):
    one = compiled(step, MeshConfig(fsdp=2, tensor=2))
    assert one.mesh == (2, 2, 2) and not one.why
    assert one.milliseconds is None  # CPUs' compiler estimates none
    theta = sum(leaf.size for leaf in jax.tree.leaves(model.abstract(tiny.T5)))
    copies = {FINE_TUNING: 3, DECODING: 2}.get(step, 1)  # weights and both moments of Adam; layers stacked and apart
    assert 0.25 * 4 * copies * theta < one.memory.arguments < 4 * copies * theta  # cut in four, most of it


def test_what_stays_on_a_chip_is_known_before_the_compiler_runs():
    for mesh in (MeshConfig(), MeshConfig(fsdp=4, tensor=2)):
        placement = Placement.on(8, mesh)
        held, lowered = lower(PROMPT, tiny.MODEL, model.abstract(tiny.T5), SHAPES, placement)
        rows = 2 * 2 * 8 // (8 // mesh.tensor)  # seeds, sources, examples
        batch = rows * (8 * 4 + 8 + 4 + 4)
        found = lowered().compile().memory_analysis()
        assert found.argument_size_in_bytes == pytest.approx(held + batch, rel=0.02)


def test_parameters_of_the_sizes_are_the_published_ones():
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(model.abstract(size))) for name, size in SIZES.items()}
    assert counts == {"t5-large": 783150080, "t5-xl": 2849757184, "t5-xxl": 11135332352}


def run(capsys, *words):
    program.main(["mini", "--shape", "tiny", "--generator.prompt_length", "3", "--classifier.max_tokens", "8",
                  "--classifier.prompt_length", "4", *words])
    return capsys.readouterr().out


def test_a_step_that_does_not_fit_ends_the_program(small, capsys):
    with pytest.raises(UserError, match=r"tiny does not fit 2 local cpu devices with 1e-06 GiB per chip: the prompt "
                                        r"step \(parameters and state alone are 0\.0 GiB\); use more chips") as error:
        run(capsys, "--steps", PROMPT, "--devices", "2", "--memory", "1e-6")
    assert "\n" not in str(error.value)
    assert "does not fit: parameters and state alone" in capsys.readouterr().out


def test_temporary_buffers_count_as_well():
    fits = compiled(PROMPT)
    room = (fits.memory.arguments + fits.memory.temporary / 2) / 2**30
    tried = compiled(PROMPT, gib=room)
    assert tried.memory is not None and tried.why.startswith("needs 0.0 GiB")


def test_the_table_has_a_line_per_step(small, capsys):
    table = run(capsys, "--steps", DECODING, "--mesh.tensor", "2", "--devices", "2")
    assert "tiny (bfloat16) on 2 local cpu devices" in table
    assert len(re.findall(r"^\| decoding \| 1 x 1 x 2 \| \d+\.\d\d = .* \| – \|$", table, re.M)) == 1


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
