"""Meshes compared on a tiny backbone, on the 8 CPU devices of the suite; operations of the model and of its program."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest

from dawgen_jax.backbones.t5 import model
from dawgen_jax.backbones.t5.family import FAMILY
from dawgen_jax.backbones.t5.sizes import FORWARD, TRAINING, operations
from dawgen_jax.config import MeshConfig
from dawgen_jax.pipeline import programs
from dawgen_jax.pipeline.inputs import find_task
from dawgen_jax.pipeline.programs import DECODING, PROMPT, Shapes
from tests import tiny
from tests.train.test_compile import CONFIG, SHAPES, machine
from tools import meshes
from tools.costs import analyse


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(FAMILY.shapes, "tiny", lambda config: tiny.MODEL)


def run(capsys, *words):
    meshes.main(["mini", "--shape", "tiny", "--generator.prompt_length", "3", "--classifier.max_tokens", "8",
                 "--classifier.prompt_length", "4", *words])
    return capsys.readouterr().out


def test_a_cut_step_exchanges_bytes():
    tried = meshes.attempt(PROMPT, machine(), MeshConfig(fsdp=2, tensor=2))
    assert tried.mesh == (2, 2, 2) and not tried.why and tried.cost.flops > 0 and tried.cost.exchanged > 0


def test_useful_share_is_what_padding_and_copies_leave():
    one, eight = (meshes.attempt(PROMPT, machine(devices=count), MeshConfig()) for count in (1, 8))
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
    tried = meshes.attempt(PROMPT, machine(), MeshConfig())
    without = tried._replace(cost=dataclasses.replace(tried.cost, flops=0.0))
    assert "%" in meshes._row(PROMPT, tried, False, 1.0, 8)
    assert "| 0 | – |" in meshes._row(PROMPT, without, False, 1.0, 8)
