"""Prompts in PEFT: the same logits, texts and classes there as here, both ways; cards that nothing breaks out of."""

import dataclasses
import json
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from dawgen_jax import Classifier, prompts
from dawgen_jax.backbones.base import Work
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.backbones.t5.format import ADAPTER
from dawgen_jax.cli import export
from dawgen_jax.config import ClassifierConfig
from dawgen_jax.data.encoding import rectangle, template_rows
from dawgen_jax.data.pools import Example
from dawgen_jax.errors import UserError
from dawgen_jax.pipeline import adapters, inputs
from dawgen_jax.results.rows import Row
from dawgen_jax.tasks import Task
from dawgen_jax.training.placement import Placement

torch = pytest.importorskip("torch")
with warnings.catch_warnings(action="ignore"):
    peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's use
ROWS = 5
PAIRS = [Example("a dog runs", "a dog moves .", "entailment"),
         Example("the boy sleeps in the house", "a boy", "neutral"),
         Example("a girl sees a cat", "no girl sees a cat in the garden", "contradiction")]


@pytest.fixture(scope="module")
def backbone(backbones):
    return inputs.load_backbone(backbones[0], Placement.on(1))


@pytest.fixture(scope="module")
def prompt(backbone):
    return np.random.default_rng(0).normal(size=(ROWS, backbone.model.width)).astype(np.float32)


@pytest.fixture(scope="module")
def tokens(backbone):
    return rectangle(template_rows(backbone.format, inputs.find_task("mini-snli"), PAIRS, 100), 4)


def base_model(backbones):
    return transformers.T5ForConditionalGeneration.from_pretrained(backbones[0].path)


def in_peft(folder, backbones):
    return peft.PeftModel.from_pretrained(base_model(backbones), str(folder)).eval().requires_grad_(False)


def our_logits(backbone, prompt, tokens, decoder):
    embeddings, mask = prompts.insert(backbone.theta, *map(jnp.asarray, tokens), jnp.asarray(prompt),
                                      model=backbone.model)
    states = backbone.model.target_states(backbone.theta, embeddings, mask, jnp.asarray(decoder))
    return np.asarray(backbone.model.logits(backbone.theta, states))


def their_logits(model, tokens, decoder):
    shifted = np.concatenate([np.zeros((len(decoder), 1), int), decoder[:, :-1]], axis=1)
    return model(input_ids=torch.tensor(tokens[0]).long(), attention_mask=torch.tensor(tokens[1]).long(),
                 decoder_input_ids=torch.tensor(shifted)).logits.numpy()


def test_peft_gives_the_same_logits(backbone, backbones, prompt, tokens, tmp_path):
    adapters.write_prompt(tmp_path, prompt, backbones[0].path, ADAPTER)
    decoder = np.random.default_rng(1).integers(2, 60, (len(PAIRS), 6))
    theirs = their_logits(in_peft(tmp_path, backbones), tokens, decoder)
    np.testing.assert_allclose(our_logits(backbone, prompt, tokens, decoder), theirs, atol=1e-4)
    without = our_logits(backbone, prompt[:0], tokens, decoder)
    assert np.abs(without - theirs).max() > 0.1  # the prompt does something
    np.testing.assert_array_equal(prompts.load(tmp_path)["prompt"], prompt)


def test_peft_generates_the_same_texts(backbone, backbones, prompt, tokens, tmp_path):
    adapters.write_label_prompts(tmp_path, {"prompt": np.stack([prompt, -prompt])}, backbones[0].path, ADAPTER,
                                 ("no", "yes"))
    steps, rows = 8, [row[mask] for row, mask in zip(*tokens, strict=True)]
    decoder = Decoder(
        backbone.model, lambda theta, labels, rows: prompts.insert(
            theta, rows.source, rows.mask, labels[rows.label], model=backbone.model),
        eos_id=1, banned=(0,), slots=4, widths=(tokens[0].shape[1],), max_new_tokens=steps, penalty=False, draw=False)
    work = [Work(label, number, row, None, Sampling(max_new_tokens=steps))
            for label in range(2) for number, row in enumerate(rows)]
    ours = {(made.label, made.index): made for made in decoder.generate(
        backbone.theta, jnp.stack([prompt, -prompt]), work, jax.random.key(0))}
    for label, name in enumerate(("0-no", "1-yes")):
        made = in_peft(tmp_path / name, backbones).generate(
            input_ids=torch.tensor(tokens[0]).long(), attention_mask=torch.tensor(tokens[1]).long(), do_sample=False,
            num_beams=1, max_new_tokens=steps, suppress_tokens=[0]).numpy()[:, 1:]
        for number, row in enumerate(made):
            ends = np.flatnonzero(row == 1)[:1]
            assert ours[label, number].tokens.tolist() == (row[:ends[0]] if len(ends) else row).tolist()
    assert len({tuple(sample.tokens) for sample in ours.values()}) > 1


@pytest.mark.parametrize("submodules", [1, None])
def test_a_prompt_made_by_peft_comes_back(submodules, backbone, backbones, tokens, tmp_path):
    config = peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=ROWS, prompt_tuning_init="RANDOM",
                                     num_transformer_submodules=submodules)
    torch.manual_seed(0)
    model = peft.get_peft_model(base_model(backbones), config).eval().requires_grad_(False)
    model.save_pretrained(tmp_path)
    loaded = prompts.load(tmp_path)["prompt"]
    assert loaded.shape == (ROWS, backbone.model.width)  # without the rows that PEFT adds and never uses
    decoder = np.random.default_rng(1).integers(2, 60, (len(PAIRS), 6))
    np.testing.assert_allclose(our_logits(backbone, loaded, tokens, decoder), their_logits(model, tokens, decoder),
                               atol=1e-4)


def row_of(**fields):
    values = {"task": "mini-snli", "backbone": "random0", "method": "Prompt Tuning", "metric": "accuracy", "value": 0.5,
              "n_test": 600, "seed": 13, "settings": {"classifier.max_tokens": 100}, "versions": {"jax": "0"},
              "extras": {"dev_accuracy": 0.25}, "k_shot": 16, "generator": "", "generator_backbone": "", "variant": "",
              "class_counts": {}, "split_source": "drawn", "trainable_parameters": 80, "wall_seconds": 1.0,
              "config_hash": "abc"}
    return Row(**values | fields)


def code_of(folder):
    (code,) = re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    return code.replace('"."', json.dumps(str(folder)))


def test_the_cards_code_predicts_what_we_predict(backbone, backbones, prompt, tokens, tmp_path):
    task, used = inputs.find_task("mini-snli"), {}
    adapters.write_prompt(tmp_path, prompt, backbones[0].path, ADAPTER, task, row_of())
    exec(code_of(tmp_path), used)
    embeddings, mask = prompts.insert(backbone.theta, *map(jnp.asarray, tokens), jnp.asarray(prompt),
                                      model=backbone.model)
    states = backbone.model.answer_states(backbone.theta, embeddings, mask)
    ours = np.asarray(backbone.model.logits(backbone.theta, states, backbone.format.label_ids(task)))
    assert [used["predict"](sentence1=pair.sentence1, sentence2=pair.sentence2) for pair in PAIRS] == [
        task.labels[best] for best in ours.argmax(axis=1)]
    assert used["word_ids"] == backbone.format.label_ids(task).tolist()
    assert used["mask"] == backbone.model.mask_id


def test_the_cards_code_finds_an_embedded_backbone(tmp_path):
    adapters.write_prompt(tmp_path, np.ones((ROWS, 128), np.float32), "mini-t5", ADAPTER,
                          inputs.find_task("mini-snli"))
    used = {}
    exec(code_of(tmp_path), used)
    assert used["predict"](sentence1="a dog runs", sentence2="a dog moves .") in ("entailment", "neutral",
                                                                                 "contradiction")


HOSTILE = '</td><script>alert(1)</script> | `x` [a](javascript:b)\n---\ntags: [evil]\n```\n{"a": "\u202e'


def head_and_body(folder):
    _, head, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), body


def test_hostile_names_stay_text(prompt, tmp_path):
    task = Task(HOSTILE, (HOSTILE, "b"), "{sentence1} ``` {sentence2} <mask>", ("x`\n```\n", 'y"'), (("", ""),) * 2,
                (1.0, 1.0))
    adapters.write_prompt(tmp_path / "one", prompt, HOSTILE, ADAPTER, task, row_of(task=HOSTILE, backbone=HOSTILE))
    adapters.write_label_prompts(tmp_path / "many", {"prompt": prompt[None]}, HOSTILE, ADAPTER, ["../../" + HOSTILE],
                                 {"task": HOSTILE})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many", "one"]
    (many,) = (tmp_path / "many").iterdir()
    assert re.fullmatch(r"0-\w+", many.name)
    for folder in (tmp_path / "one", many):
        head, body = head_and_body(folder)
        assert set(head) == {"base_model", "library_name", "pipeline_tag", "tags"} and "evil" not in head["tags"]
        text = re.sub(r"^```(python|json)\n.*?^```$", "", body, flags=re.DOTALL | re.MULTILINE)
        assert "<script" not in text and "```" not in text and "\u202e" not in body and "\n---" not in body
        assert not re.search(r"(?<!\\)[`|] *x|(?<!\\)\[a\]", text)
        compile(code_of(folder), "card", "exec")


def test_a_cell_says_how_a_prompt_of_ones_own_task_predicts(backbone, backbones, prompt, tmp_path):
    task = dataclasses.replace(inputs.find_task("mini-snli"), name="own", template="{sentence2} <mask> {sentence1}")
    config = ClassifierConfig(prompt_length=len(prompt), backbone=backbone.config)
    classifier = Classifier(backbone, task, config, "Prompt Tuning", prompt)
    classifier.save(tmp_path / "cell")
    export.main([str(tmp_path / "cell"), str(tmp_path / "saved")])
    (tmp_path / "cell" / "result.json").write_text(json.dumps([dataclasses.asdict(row_of(task="own"))]))
    export.main([str(tmp_path / "cell" / "prompt.safetensors"), str(tmp_path / "tuned")])
    for folder in (tmp_path / "saved", tmp_path / "tuned"):
        used = {}
        exec(code_of(folder), used)
        assert [used["predict"](sentence1=pair.sentence1, sentence2=pair.sentence2) for pair in PAIRS] == (
            classifier.predict([pair[:2] for pair in PAIRS]).labels)
        assert head_and_body(folder)[0]["base_model"] == backbones[0].path
    assert "0.5000 on 600 test examples" in (tmp_path / "tuned" / "README.md").read_text()


def test_export_writes_a_cells_prompt_a_generators_and_a_file(backbones, prompt, tmp_path, capsys):
    cell, generator = tmp_path / "cell", tmp_path / "generator"
    cell.mkdir()
    generator.mkdir()
    prompts.save(cell / "prompt.safetensors", {"prompt": prompt})
    (cell / "result.json").write_text(json.dumps([dataclasses.asdict(row_of())]))
    export.main([str(cell), str(tmp_path / "a"), "--base", backbones[0].path])
    assert "0.5000 on 600 test examples" in (tmp_path / "a" / "README.md").read_text()
    in_peft(tmp_path / "a", backbones)
    prompts.save(generator / "prompts.safetensors", {"prompt": prompt[None], "infix": prompt[None, :2]})
    (generator / "meta.json").write_text(json.dumps({"labels": ["not entailed"], "generator_backbone": "mini-t5"}))
    export.main([str(generator / "prompts.safetensors"), str(tmp_path / "b")])
    np.testing.assert_array_equal(prompts.load(tmp_path / "b" / "0-not_entailed")["prompt"], prompt)
    card = (tmp_path / "b" / "0-not_entailed" / "README.md").read_text()
    assert "Its 2 infix rows" in card and "cannot be expressed as a PEFT adapter" in card
    np.save(tmp_path / "p.npy", prompt)
    with pytest.raises(UserError, match=r"--base: .*p.npy does not name the model"):
        export.main([str(tmp_path / "p.npy"), str(tmp_path / "c")])
    with pytest.raises(UserError, match=r"a: exists already; name a new folder"):
        export.main([str(tmp_path / "p.npy"), str(tmp_path / "a"), "--base", "t5"])
    prompts.save(cell / "prompt.safetensors", {"infix": prompt})
    with pytest.raises(UserError, match=r"holds no prompt \[P, H\] .*but: infix \(5, 16\)"):
        export.main([str(cell), str(tmp_path / "c")])
    assert not (tmp_path / "c").exists() and "5 x 16 for" in capsys.readouterr().out
