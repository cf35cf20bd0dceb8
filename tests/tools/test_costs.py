"""Costs of compiled programs: text with known answers, and small programs whose operations can be counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dawgen_jax.config import MeshConfig
from dawgen_jax.training.placement import make_mesh
from tools import costs

LOOP = """HloModule step

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%body (state: (s32[], bf16[4,8], bf16[6,8,8])) -> (s32[], bf16[4,8], bf16[6,8,8]) {
  %state = (s32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)S(1)}, bf16[6,8,8]{2,1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  %x = bf16[4,8]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%state), index=1
  %w = bf16[6,8,8]{2,1,0} get-tuple-element(%state), index=2
  %layer = bf16[8,8]{1,0:S(1)} fusion(%w, %i), kind=kLoop, calls=%slice
  %y = bf16[4,8]{1,0:T(8,128)(2,1)S(1)} convolution(%x, %layer), dim_labels=bf_io->bf, \
backend_config={"window_config":{"estimated_cycles":"100"}}
  %all-reduce.1 = bf16[4,8]{1,0:T(8,128)(2,1)S(1)} all-reduce(%y), channel_id=1, to_apply=%sum
  ROOT %out = (s32[], bf16[4,8], bf16[6,8,8]) tuple(%i, %all-reduce.1, %w)
}

%slice (w: bf16[6,8,8], i: s32[]) -> bf16[8,8] {
  %w = bf16[6,8,8]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %cut = bf16[1,8,8]{2,1,0} dynamic-slice(%w, %i, %zero, %zero), dynamic_slice_sizes={1,8,8}
  ROOT %flat = bf16[8,8]{1,0:S(1)} bitcast(%cut)
}

%condition (state: (s32[], bf16[4,8], bf16[6,8,8])) -> pred[] {
  %state = (s32[], bf16[4,8], bf16[6,8,8]) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %bound = s32[]{:T(128)} constant(6)
  ROOT %more = pred[]{:T(512)} compare(%i, %bound), direction=LT
}

ENTRY %main (start: (s32[], bf16[4,8], bf16[6,8,8])) -> bf16[16,8] {
  %start = (s32[], bf16[4,8], bf16[6,8,8]) parameter(0)
  %loop = (s32[], bf16[4,8], bf16[6,8,8]) while(%start), condition=%condition, body=%body
  %x = bf16[4,8]{1,0} get-tuple-element(%loop), index=1
  %begun = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(%x), channel_id=2, dimensions={0}
  ROOT %all = bf16[16,8]{1,0} all-gather-done(%begun)
}
"""


def test_a_loop_counts_as_often_as_it_runs():
    cost = costs.text_costs(LOOP)
    assert cost.flops == 6 * 2 * 4 * 8 * 8
    assert cost.counts == {"all-reduce": 6, "all-gather": 1}
    assert cost.collectives == {"all-reduce": 6 * 4 * 8 * 2, "all-gather": 16 * 8 * 2}
    assert cost.exchanged == 6 * 64 + 256
    assert cost.cycles == 600
    assert cost.unknown_loops == 0


def test_of_a_sliced_array_the_slice_is_read_and_what_stays_on_the_chip_is_no_traffic():
    cost = costs.text_costs(LOOP)
    gather = 4 * 8 * 2 + (4 + 16) * 8 * 2  # its operand, and a value of both
    assert cost.bytes == 6 * (8 * 8 * 2 + 4) + gather


def test_a_loop_of_unknown_length_counts_once():
    decided = LOOP.replace("%bound = s32[]{:T(128)} constant(6)", "%bound = s32[] get-tuple-element(%state), index=0")
    cost = costs.text_costs(decided)
    assert (cost.unknown_loops, cost.counts["all-reduce"]) == (1, 1)


def test_the_compilers_own_note_of_rounds_is_taken():
    noted = LOOP.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"5"}}')
    assert costs.text_costs(noted).counts["all-reduce"] == 5


@pytest.mark.parametrize(("rest", "out", "lhs", "rhs", "flops"), [
    ("dim_labels=bf_io->bf", (3, 5), (3, 7), (7, 5), 2 * 3 * 5 * 7),
    ("dim_labels=fb_oi->bf", (3, 5), (7, 3), (5, 7), 2 * 3 * 5 * 7),
    # A batch of 4 products [3, 7] x [7, 5]: of each window one place is no padding.
    ("window={size=4 stride=3 pad=0_0 lhs_dilate=4}, dim_labels=0bf_0io->0bf", (4, 3, 5), (4, 3, 7), (4, 7, 5),
     4 * 2 * 3 * 5 * 7),
    ("window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f", (2, 4, 4, 5), (2, 4, 4, 7), (3, 3, 7, 5),
     2 * 2 * 5 * 7 * 10 * 10),
])
def test_operations_of_a_convolution(rest, out, lhs, rhs, flops):
    assert costs._convolution(out, lhs, rhs, rest) == flops


def test_a_sharded_loop_over_layers():
    mesh = make_mesh(8, MeshConfig(tensor=2))
    layers, rows, width, inner = 3, 16, 8, 12

    def step(kernels, x):
        def layer(x, kernel):
            return jnp.tanh(x @ kernel[0]) @ kernel[1], None

        return jax.lax.scan(layer, x, kernels)[0]

    def array(shape, *spec):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))

    kernels = (array((layers, width, inner), None, None, "tensor"), array((layers, inner, width), None, "tensor"))
    split = NamedSharding(mesh, PartitionSpec("data"))
    cost = costs.analyse(jax.jit(step, out_shardings=split).lower(kernels, array((rows, width), "data")).compile())
    assert cost.flops == 2 * 2 * layers * rows * width * inner / 8
    assert cost.counts == {"all-reduce": layers}
    assert cost.collectives == {"all-reduce": layers * rows / 4 * width * 4}
    assert cost.arguments == 4 * (2 * layers * width * inner / 2 + rows * width / 4)
    assert cost.results == 4 * rows * width / 4
    assert cost.memory >= cost.arguments + cost.results + cost.temporary
    assert cost.reported["flops"] > 0
