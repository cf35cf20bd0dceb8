"""The real SmolLM2-135M-Instruct (4 bit, from the cache) against PyTorch: weights, tokens, logits, text, perplexity."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from dawgen_jax.backbones import cache, registry
from dawgen_jax.backbones.base import Work
from dawgen_jax.backbones.decoder_only import check, convert
from dawgen_jax.backbones.decoder_only.seam import DecoderOnly
from dawgen_jax.backbones.engine import Decoder
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.tasks import SAMPLE_DATA
from tests.backbones.decoder_only import torch_decoder

pytestmark = pytest.mark.smollm2
FOLDER = cache.folder("smollm2-135m-q4")
WEIGHTS = "785e20b3e653276b0579b744214a1186d730ba80af04f397f642d6432e5e0154"
"""SHA-256 of the names and bytes of all tensors as transformers 5.24 reads them from the same GGUF file."""
MRPC = "ca9e1254126d0173d716702ce07ee4e58e9fc662381c28922c30953c7e000366"
"""SHA-256 of the JSON of all ids of MRPC's sentences with the tokenizer that transformers 5.24 makes of the file."""
PROMPTS, STEPS = 64, 16


@pytest.fixture(scope="module")
def backbone():
    """(model, format, theta)."""
    config, theta = convert.load(FOLDER, scan_unroll=1)
    return DecoderOnly(config), registry.read_format(FOLDER), theta


@pytest.fixture(scope="module")
def oracle():
    return torch_decoder.read(FOLDER)


def test_weights_are_those_that_transformers_reads_from_the_file():
    content = hashlib.sha256()
    for name, tensor in sorted(load_file(FOLDER / "model.safetensors").items()):
        content.update(name.encode() + tensor.tobytes())
    assert content.hexdigest() == WEIGHTS


@pytest.mark.shared
def test_the_tokenizer_is_that_of_transformers_on_all_of_mrpc(shared):
    """But for one sentence: its '\u00bd' stands alone by the file's rule, which transformers does not read."""
    sentences = set()
    for split in ("train", "validation", "test"):
        for line in (shared / "data" / "MRPC" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
            example = json.loads(line)
            sentences |= {example["sentence1"], example["sentence2"]}
    form = registry.read_format(FOLDER)
    same = sorted(sentence for sentence in sentences if "\u00bd" not in sentence)
    assert (len(sentences), len(same)) == (10_944, 10_943)
    assert hashlib.sha256(json.dumps(form.ids(same)).encode()).hexdigest() == MRPC
    assert form.pieces(form.ids(["2 \u00bd 8-ounce"])[0]) == ["2", "\u2581", "\u00bd", "\u2581", "8", "-", "ounce"]


def test_label_words_are_single_tokens_and_a_line_break_ends_a_sentence(backbone):
    _, form, _ = backbone
    assert form.ids([" Yes", " Maybe", " No", " True", " Neither", " False"]) == [
        [9230], [7948], [2838], [3635], [21691], [4178]]
    assert (form.start, form.eos_id, form.tokenizer.eos_token) == ((0,), 198, "<|im_end|>")


def test_perplexity_of_plain_english(backbone):
    model, form, theta = backbone
    assert abs(check.perplexity(model, form, theta) - 8.4) < 0.1


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_are_those_of_pytorch(backbone, oracle, side, capsys):
    model, form, theta = backbone
    rows = [[*form.start, *ids] for ids in form.ids(check.SENTENCES)]
    mask = np.arange(max(map(len, rows)))[None] < np.array([[len(row)] for row in rows])
    mask = mask[:, ::-1] if side == "left" else mask
    tokens = np.zeros(mask.shape, np.int32)
    tokens[mask] = np.concatenate(rows)
    scores = jax.jit(lambda theta, tokens, mask: model.logits(theta, model.input_states(
        theta, model.embed(theta, tokens), mask)))(theta, tokens, mask)
    worst = 0.0
    for ours, seen, row in zip(np.asarray(scores), mask, rows, strict=True):
        theirs = oracle(torch.tensor([row])).logits[0].numpy()
        worst = max(worst, np.abs(ours[seen] - theirs).max())
        np.testing.assert_array_equal(ours[seen].argmax(-1), theirs.argmax(-1))
    with capsys.disabled():
        print(f"[{worst:.1e}]", end=" ")
    assert worst < 2e-4


def test_greedy_text_is_that_of_pytorch(backbone, oracle, capsys):
    """A token may differ only if PyTorch's two best scores are less than 5e-4 apart; such rows are counted."""
    model, form, theta = backbone
    lines = (SAMPLE_DATA / "MR" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:PROMPTS]
    texts = [" ".join(json.loads(line)["text"].split()[:6]) for line in lines]
    work = [Work(0, i, np.array([*form.start, *ids][:16]), None, Sampling(max_new_tokens=STEPS))
            for i, ids in enumerate(form.ids(texts))]

    def embed_fn(theta, prompts, rows):
        return model.embed(theta, rows.source), rows.mask

    decoder = Decoder(model, embed_fn, eos_id=form.eos_id, banned=(), slots=PROMPTS, widths=(16,),
                      max_new_tokens=STEPS, penalty=False, draw=False)  # fmt: skip
    made = {one.index: [*one.tokens.tolist(), *[form.eos_id] * one.finished]
            for one in decoder.generate(theta, None, work, jax.random.key(0))}
    assert len(made) == PROMPTS and len({*map(tuple, made.values())}) > PROMPTS / 2
    near = 0
    for i, written in made.items():
        scores = oracle(torch.tensor([[*work[i].source.tolist(), *written[:-1]]])).logits[0, -len(written):].numpy()
        gaps = scores.max(-1) - scores[np.arange(len(written)), written]
        # Behind a token that differs, PyTorch would have written another text: each is judged behind the same tokens.
        assert (gaps < 5e-4).all(), (i, form.texts([written]), gaps.max())
        near += bool((gaps > 0).any())
    with capsys.disabled():
        print(f"[{near} near ties among {PROMPTS} texts]", end=" ")


def test_the_cached_text_gives_the_same_answer(backbone):
    model, form, theta = backbone
    rows = [[*form.start, *ids] for ids in form.ids(check.SENTENCES[:2])]
    width = max(map(len, rows))
    text = np.array([[0] * (width - len(row)) + row for row in rows])
    mask = np.arange(width)[None] >= width - np.array([[len(row)] for row in rows])
    cue = np.array(form.ids([" It was"] * 2))

    def answer(theta, cached):
        first, last, seen = model.embed(theta, text), model.embed(theta, cue), jnp.ones(cue.shape, bool)
        if cached:
            return model.answer_states(theta, last, seen, context=model.context(theta, first, mask))
        return model.answer_states(theta, jnp.concatenate([first, last], 1), jnp.concatenate([mask, seen], 1))

    ours, whole = (jax.jit(answer, static_argnums=1)(theta, cached) for cached in (True, False))
    np.testing.assert_allclose(ours, whole, rtol=1e-5, atol=1e-5 * np.abs(whole).max())
