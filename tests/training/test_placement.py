"""One device and meshes of eight give the same: losses, gradients, three updates of every step, decoded text."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

from dawgen_jax import prompts
from dawgen_jax.backbones.base import Backbone, Work
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.backbones.t5 import model as t5
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.seam import T5
from dawgen_jax.config import ClassifierConfig, GeneratorConfig, LoraConfig, MeshConfig
from dawgen_jax.data.batches import stack
from dawgen_jax.errors import ConfigError
from dawgen_jax.generator import step as generator
from dawgen_jax.methods.trained import LOW_RANK, PROMPT, WEIGHTS_AND_HEAD
from dawgen_jax.methods.verbalizer import cross_entropy, weighted_mean
from dawgen_jax.surgery import aggregator
from dawgen_jax.training.placement import Placement, make_mesh
from dawgen_jax.training.step import init_state, train_step
from tests import tiny
from tests.generator import toy
from tools.costs import analyse

MESHES = {"8x1x1": MeshConfig(), "2x4x1": MeshConfig(fsdp=4), "2x2x2": MeshConfig(fsdp=2, tensor=2)}
SHAPE = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_decoder_layers=1, num_heads=2)
MODEL = T5(SHAPE, mask_id=39)
CONFIG = ClassifierConfig(learning_rate=0.1, lora=LoraConfig(rank=2, learning_rate=1e-2))
meshes = pytest.mark.parametrize("shape", MESHES.values(), ids=MESHES)


@functools.cache
def theta():
    return jax.tree.map(np.asarray, t5.init(SHAPE, jax.random.key(0)))


def close(tree, other):
    chex.assert_trees_all_close(jax.tree.map(np.asarray, tree), other, rtol=1e-5, atol=1e-5)


def prompt_step(trained, name="surgery"):
    def loss(params, frozen, batch):
        scores = trained.scores(params, frozen, batch, model=MODEL, label_ids=tiny.LABEL_IDS, config=CONFIG)
        return weighted_mean(cross_entropy(scores, batch.label), batch.weight)

    tx = optax.chain(aggregator(name), trained.optimiser(CONFIG, 10, 1e-3))
    step = functools.partial(train_step, loss_fn=loss, tx=tx)
    return jax.vmap(step, in_axes=(0, None, 0)), jax.vmap(functools.partial(init_state, tx=tx)), loss


@functools.cache
def classifier_run(trained, placement):
    """(gradients, losses of three updates, state) of two seeds."""
    step, init, loss = prompt_step(trained)
    sets = [stack([tiny.classifier_set(8, 10 + k), tiny.classifier_set(8, 20 + k)]) for k in range(2)]
    batch = stack(sets)
    start = [trained.init(Backbone(MODEL, None, theta(), "", ""), CONFIG, 3, prompt, 0)
             for prompt in np.random.default_rng(0).normal(size=(2, 4, 16)).astype(np.float32)]
    start = jax.tree.map(lambda *leaves: np.stack(leaves), *start)
    frozen = () if trained.weights else placement.put({"theta": theta()}, MODEL)["theta"]

    def with_gradients(state, frozen, batch):
        """The update, and the real source's gradients at its start: one program to compile."""
        gradients = jax.vmap(jax.grad(loss), in_axes=(0, None, 0))
        after, metrics = step(state, frozen, batch)
        return after, metrics | {"gradients": gradients(state.params, frozen, jax.tree.map(lambda x: x[:, 0], batch))}

    chex.clear_trace_counter()
    update = placement.compile_step(chex.assert_max_traces(lambda *args: with_gradients(*args), n=1), batch_axis=2,
                                    model=MODEL)
    state, losses, grads = placement.create(init, start, MODEL), [], []
    for _ in range(3):
        before = jax.tree.map(lambda leaf: leaf.sharding, state)
        state, metrics = update(state, frozen, batch)
        assert jax.tree.map(lambda leaf: leaf.sharding, state) == before
        losses.append(np.asarray(metrics["loss"]))
        grads.append(jax.tree.map(np.asarray, metrics["gradients"]))
    assert state.ok.all()
    return grads[0], losses, state


@meshes
@pytest.mark.parametrize("trained", [PROMPT, LOW_RANK, WEIGHTS_AND_HEAD],
                         ids=lambda trained: trained.name)
def test_steps_of_the_classifier_are_those_of_one_device(trained, shape):
    grads, losses, state = classifier_run(trained, Placement.on(8, shape))
    one_grads, one_losses, one_state = classifier_run(trained, Placement.on(1))
    close(grads, one_grads)
    close(losses, one_losses)
    close(state.params, jax.tree.map(np.asarray, one_state.params))
    parts = shape.fsdp * shape.tensor
    if trained.weights:  # weights and both moments of Adam: each device has its part alone
        queries = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)
                   if jax.tree_util.keystr(path).endswith("['encoder']['layers']['attention']['query']")]
        assert len(queries) == 3
        for leaf in queries:
            assert leaf.addressable_shards[0].data.size * parts == leaf.size
    whole = [leaf for leaf in jax.tree.leaves(state) if leaf.sharding.is_fully_replicated]
    assert trained.weights or len(whole) == len(jax.tree.leaves(state))


@functools.cache
def generator_run(placement):
    config = GeneratorConfig(learning_rate=0.05)
    batches = [toy.batch(seed, labels=(0, 1, 2, 0, 1, 2, 0, 1)) for seed in (1, 2)]
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    random = np.random.default_rng(0)
    start = {name: random.normal(size=(2, 3, rows, 16)).astype(np.float32) for name, rows in
             (("prompt", 3), ("infix", 2))}
    init = functools.partial(generator.init_state, config=config, num_steps=10)
    state = placement.put(jax.vmap(init)(start, jax.vmap(jax.random.key)(jnp.arange(2))))
    step = functools.partial(generator.generator_step, config=config, model=MODEL, num_steps=10)
    update = placement.compile_step(jax.vmap(step, in_axes=(0, None, 0)), batch_axis=1, model=MODEL)
    frozen, losses = placement.put({"theta": theta()}, MODEL)["theta"], []
    for _ in range(3):
        state, metrics = update(state, frozen, batch)
        losses.append(jax.tree.map(np.asarray, metrics))
    return losses, jax.tree.map(np.asarray, (state.label_prompts, state.weight_net))


@meshes
def test_steps_of_the_generator_are_those_of_one_device(shape):
    losses, tuned = generator_run(Placement.on(8, shape))
    one_losses, one_tuned = generator_run(Placement.on(1))
    close(losses, one_losses)
    close(tuned, one_tuned)


def embed_rows(theta, label_prompts, rows, model=MODEL):
    return prompts.insert(theta, rows.source, rows.mask, label_prompts[rows.label], model=model)


@functools.cache
def decoded(placement):
    random = np.random.default_rng(3)
    decoder = Decoder(MODEL, embed_rows, eos_id=1, banned=(0,), slots=8, widths=(8,), max_new_tokens=8,
                      mesh=placement.mesh)
    sampling = [Sampling(temperature=i % 2, repetition_penalty=1.5, max_new_tokens=8) for i in range(20)]
    work = [Work(i % 3, i, random.integers(2, 38, random.integers(2, 9)), None, sampling[i]) for i in range(20)]
    label_prompts = random.normal(size=(3, 2, 16)).astype(np.float32)
    placed = placement.put({"theta": theta()}, MODEL)["theta"]
    made = sorted(decoder.generate(placed, label_prompts, work, jax.random.key(0)), key=lambda one: one.index)
    scores = list(decoder.score(placed, label_prompts, [(work[one.index], one) for one in made], 3))
    return [(one.tokens.tolist(), one.finished) for one in made], scores


@pytest.mark.parametrize("shape", [MeshConfig(fsdp=4), MeshConfig(fsdp=2, tensor=2)], ids=["2x4x1", "2x2x2"])
def test_decoding_a_token_gathers_no_parameters(shape):
    """Activations of a few rows are sent, not the layers' kernels, which are larger by far."""
    model = T5(dataclasses.replace(SHAPE, d_model=64, d_ff=128, d_kv=16, num_heads=4))
    decoder = Decoder(model, functools.partial(embed_rows, model=model), eos_id=1, banned=(0,), slots=8, widths=(8,),
                      max_new_tokens=8, mesh=make_mesh(8, shape))
    shapes = t5.abstract(model.config)
    cost = analyse(decoder.lowered(shapes, jax.ShapeDtypeStruct((3, 2, 64), np.float32)).compile())
    layers = sum(4 * leaf.size for leaf in jax.tree.leaves(shapes["decoder"]["layers"]))
    assert 0 < cost.collectives["all-gather"] < layers / 8


@meshes
def test_decoded_text_is_that_of_one_device(shape):
    text, scores = decoded(Placement.on(8, shape))
    one_text, one_scores = decoded(Placement.on(1))
    assert text == one_text
    close(scores, one_scores)


def test_every_parameter_that_its_axes_divide_is_cut_and_the_others_are_whole():
    placement = Placement.on(8, MeshConfig(fsdp=2, tensor=2))
    placed = placement.put({"theta": theta()}, MODEL)["theta"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(placed):
        name = path[-1].key
        assert leaf.addressable_shards[0].data.size * (1 if name in ("scale", "bias") else 4) == leaf.size, path
    three = dataclasses.replace(SHAPE, num_heads=3, d_kv=8, d_ff=25, vocab_size=41)
    specs = T5(three).layout({"data": 1, "fsdp": 2, "tensor": 2})
    assert specs["decoder"]["layers"]["cross"]["output"] == PartitionSpec(None, None, "fsdp")  # 3 heads of 8: not cut
    assert specs["decoder"]["layers"]["feed_forward"]["wo"] == PartitionSpec(None, None, "fsdp")
    assert specs["embedding"] == PartitionSpec(None, "fsdp")


def test_a_mesh_that_does_not_fit_its_devices_is_refused():
    with pytest.raises(ConfigError, match=r"fsdp 3 x tensor 1 = 3 does not divide the 8 devices"):
        Placement.on(8, MeshConfig(fsdp=3))
    with pytest.raises(ConfigError, match=r"MeshConfig.tensor = 0"):
        MeshConfig(tensor=0)
    assert Placement.on(8, MeshConfig(fsdp=2, tensor=2)).rows(5) == 8


def test_explicit_axis_types_give_the_same_step():
    """JAX's new default for meshes: shardings are part of types, and what is ambiguous is an error."""
    placement = Placement(make_mesh(8, axis_type=AxisType.Explicit))
    with jax.set_mesh(placement.mesh):
        _, losses, state = classifier_run(PROMPT, placement)
    _, one_losses, one_state = classifier_run(PROMPT, Placement.on(1))
    close(losses, one_losses)
    close(state.params, np.asarray(one_state.params))
