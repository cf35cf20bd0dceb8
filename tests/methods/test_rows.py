"""Every method has the stages of its definition; arms parse; pooled and ordered data are drawn as the rows say."""

import numpy as np
import pytest

from dawgen_jax.config import ClassifierConfig, Config
from dawgen_jax.data.batches import ClassifierBatch
from dawgen_jax.errors import ConfigError
from dawgen_jax.methods.arms import GENERATORS, Arm, arms_of
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.methods.trained import LOW_RANK, PROMPT, WEIGHTS, WEIGHTS_AND_HEAD, WEIGHTS_AND_PROMPT
from dawgen_jax.methods.tune import draw, pool
from tests import tiny

CONFIG = ClassifierConfig(num_steps=7, batch_size=5, eval_every=3, full_steps=9)
FEW, FINE = ("real", "sum", 400, 6, 4), ("real", "sum", 500, 8, 50)
# What is trained, what it starts from, and (data, aggregator, updates, batch, updates to the next evaluation) a stage:
# '+' pools, '|' divides sources of gradients, '>' puts data one after the other in every epoch.
ROWS = {
    "Prompting (zero-shot)": (None, "", []),
    "Prompting (zero-shot) #calibrated": (None, "", []),
    "In-Context": (None, "", []),
    "FT": (WEIGHTS_AND_HEAD, "", [FINE]),
    "Prompt-based FT": (WEIGHTS, "", [FINE]),
    "PFT + soft prompt": (WEIGHTS_AND_PROMPT, "", [FINE]),
    "PPT": (PROMPT, "PPT", [FEW]),
    "Prompt Tuning": (PROMPT, "", [FEW]),
    "Prompt Tuning #same-T": (PROMPT, "", [("real", "sum", 7, 5, 3)]),
    "Prompt Tuning @full": (PROMPT, "", [("real", "sum", 9, 18, 1000)]),
    "SPoT": (PROMPT, "SPoT", [FEW]),
    "OPTIMA": (PROMPT, "OPTIMA", [FEW]),
    "Syn only": (PROMPT, "", [("synthetic", "sum", 7, 5, 3)]),
    "Real+Syn": (PROMPT, "", [("real+synthetic", "sum", 7, 5, 3)]),
    "Real+Syn+LS": (PROMPT, "", [("real+synthetic", "sum", 7, 5, 3)]),
    "Real -> Syn": (PROMPT, "", [("real>synthetic", "sum", 7, 5, 3)]),
    "Syn -> Real": (PROMPT, "", [("synthetic>real", "sum", 7, 5, 3)]),
    "Real -> Syn #stages": (PROMPT, "", [("real", "sum", 3, 5, 3), ("synthetic", "sum", 4, 5, 3)]),
    "Syn -> Real #stages": (PROMPT, "", [("synthetic", "sum", 3, 5, 3), ("real", "sum", 4, 5, 3)]),
    "(Real, Syn)": (PROMPT, "", [("real|synthetic", "sum", 7, 5, 3)]),
    "(Real, Syn) + GS": (PROMPT, "", [("real|synthetic", "surgery", 7, 5, 3)]),
    "LoRA": (LOW_RANK, "", [("real", "sum", 7, 5, 3)]),
    "LoRA (Real, Syn) + GS": (LOW_RANK, "", [("real|synthetic", "surgery", 7, 5, 3)]),
}


def written(stage):
    """A stage as ROWS has it."""
    sources = "|".join((">" if stage.in_turn else "+").join(names) for names in stage.sources)
    return sources, stage.aggregator, stage.num_steps, stage.batch_size, stage.eval_every


def test_every_method_is_tested_here():
    assert list(ROWS) == list(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_stages(name):
    method, (trains, source, stages) = METHODS[name], ROWS[name]
    assert (method.trains, method.source) == (trains, source) and str(method) == name
    assert [written(stage) for stage in method.stages(CONFIG, 3)] == stages
    smoothing = {stage.smoothing for stage in method.stages(CONFIG, 3)}
    assert smoothing == ({0.15} if name == "Real+Syn+LS" else {0.0} if stages else set())
    assert method.full == name.endswith("@full") and method.demonstrations == (name == "In-Context")
    assert method.seeded == (method.name != "Prompting (zero-shot)")
    assert method.calibrated == name.endswith("#calibrated")


def test_few_shot_batches_grow_with_the_labels():
    assert [METHODS["Prompt Tuning"].stages(CONFIG, labels)[0].batch_size for labels in (2, 3)] == [4, 6]


def test_settings_are_the_fields_that_a_method_reads():
    def settings(name):
        return {field.removeprefix("classifier."): value for field, value in
                METHODS[name].settings(Config(classifier=CONFIG)).items()}

    zero, few, gs, fine = map(settings, ("Prompting (zero-shot)", "Prompt Tuning", "(Real, Syn) + GS", "FT"))
    assert zero == {"max_tokens": 100} and settings("In-Context") == {**zero, "demonstration_tokens": 512}
    assert few["real_steps"] == 400 and not {"num_steps", "epsilon", "aggregator"} & few.keys()
    assert gs["num_steps"] == 7 and gs["aggregator"] == "surgery" and "real_steps" not in gs
    assert "aggregator" not in settings("(Real, Syn)") and settings("(Real, Syn)")["epsilon"] == 1.0
    assert fine["fine_tuning.num_steps"] == 500 and "prompt_length" not in fine
    assert settings("LoRA")["lora.rank"] == 8 and "learning_rate" not in settings("LoRA")


@pytest.mark.parametrize("generator", ["", *GENERATORS])
@pytest.mark.parametrize("name", METHODS)
def test_arms_parse_and_are_written_as_they_are_read(name, generator):
    text = f"{generator}: {name}" if generator else name
    if bool(generator) == ("synthetic" in METHODS[name].data):
        arm = Arm.parse(f"  {text} ")
        assert (arm.method, arm.generator, str(arm)) == (METHODS[name], generator, text)
    else:
        wrong = "learns from no synthetic data" if generator else "put one of L_gen, FewGen, .* in front"
        with pytest.raises(ConfigError, match=wrong):
            Arm.parse(text)


@pytest.mark.parametrize(("text", "says"), [
    ("Prompt Tunning", "no method 'Prompt Tunning'; the nearest is 'Prompt Tuning'"),
    ("Prompt Tuning #other", "no method 'Prompt Tuning #other'"),
    ("GPT: Syn only", "put one of L_gen"),
    ("", "no method ''"),
])
def test_an_arm_that_names_nothing(text, says):
    with pytest.raises(ConfigError, match=says):
        Arm.parse(text)


def test_arms_of_a_configuration_by_method_or_whole_name():
    config = Config(arms=("FT", "FewGen: Syn only", "DawGen: Syn only"))
    assert [str(arm) for arm in arms_of(config, ["Syn only"])] == ["FewGen: Syn only", "DawGen: Syn only"]
    assert [str(arm) for arm in arms_of(config, ["DawGen: Syn only", "FT"])] == ["FT", "DawGen: Syn only"]
    with pytest.raises(ConfigError, match="--methods 'SPoT': no arm of this configuration has it"):
        arms_of(config, ["SPoT"])


def marked(examples: int, first: int) -> ClassifierBatch:
    """A set whose labels number its examples."""
    return tiny.classifier_set(examples, first)._replace(label=np.arange(first, first + examples, dtype=np.int32))


def drawn(name: str, sizes: dict[str, int], batch: int, steps: int) -> list[list[int]]:
    """Numbers of the examples in each batch of a method of one source; synthetic ones count from 100."""
    (stage,) = METHODS[name].stages(ClassifierConfig(num_steps=50, batch_size=batch), 3)
    data = {"real": [marked(sizes["real"], 0)], "synthetic": [marked(sizes["synthetic"], 100)]}
    pools = pool(data, stage, 1)
    return [draw(pools, stage, [3], step, batch, 8).label[0, 0].tolist() for step in range(steps)]


@pytest.mark.parametrize(("name", "order"), [("Real -> Syn", "rrsss"), ("Syn -> Real", "sssrr")])
def test_ordered_data_are_gone_through_in_turn_in_every_epoch(name, order):
    found = drawn(name, {"real": 5, "synthetic": 9}, 3, 15)
    kinds = ["s" if min(numbers) >= 100 else "r" if max(numbers) < 100 else "mixed" for numbers in found]
    assert "".join(kinds) == order * 3
    for epoch in range(3):
        part = found[5 * epoch:5 * epoch + 5]
        synthetic = sorted(number for numbers in part for number in numbers if number >= 100)
        assert synthetic == list(range(100, 109)), "every synthetic example once an epoch"
    real = [number for numbers in found for number in numbers if number < 100]
    assert len(real) == 18 and set(real[:5]) == set(real[5:10]) == set(range(5))
    assert drawn(name, {"real": 5, "synthetic": 9}, 3, 15) == found


@pytest.mark.parametrize("name", ["Real+Syn", "Real+Syn+LS"])
def test_pooled_data_are_drawn_in_proportion(name):
    found = drawn(name, {"real": 4, "synthetic": 12}, 4, 12)
    for epoch in range(3):
        numbers = [number for batch in found[4 * epoch:4 * epoch + 4] for number in batch]
        assert sorted(numbers) == [*range(4), *range(100, 112)], "each example once an epoch, whatever its source"


def test_sources_of_gradients_have_a_batch_each():
    (stage,) = METHODS["(Real, Syn) + GS"].stages(ClassifierConfig(num_steps=50, batch_size=4), 3)
    data = {"real": [marked(4, 0)] * 2, "synthetic": [marked(9, 100)] * 2}
    batch = draw(pool(data, stage, 2), stage, [3, 4], 0, 6, 8)
    assert batch.label.shape == (2, 2, 6) and batch.weight.tolist() == [[[1] * 4 + [0] * 2] * 2] * 2
    assert (batch.label[:, 0] < 100).all() and (batch.label[:, 1] >= 100).all()


def test_seeds_and_sources_draw_apart_from_sets_of_one_size():
    (stage,) = METHODS["(Real, Syn)"].stages(ClassifierConfig(num_steps=50, batch_size=4), 3)
    pools = pool({"real": [marked(12, 0)] * 2, "synthetic": [marked(12, 0)] * 2}, stage, 2)
    epoch = np.concatenate([draw(pools, stage, [3, 4], step, 4, 8).label for step in range(3)], axis=2)
    assert (np.sort(epoch) == np.arange(12)).all(), "[seed, source]: each example once an epoch"
    orders = epoch.reshape(4, 12).tolist()
    assert len(set(map(tuple, orders))) == 4, "no two of them in one order"
