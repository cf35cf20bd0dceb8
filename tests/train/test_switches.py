"""JAX's global switches change no result: programs run with all of them set and with none."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from dawgen_jax.miniworld import BACKBONES
from tests.pipeline.conftest import write_backbone

REPOSITORY = pathlib.Path(__file__).parents[2]
SWITCHES = {"JAX_ENABLE_X64": "1", "JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise",
            "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16", "JAX_DEFAULT_PRNG_IMPL": "rbg"}
METHOD = """
import json, sys
import numpy as np
from dawgen_jax import Classifier, Generator, find_task, load_backbone
from dawgen_jax.config import ClassifierConfig, GeneratorConfig, SynthesisConfig

task, backbone = find_task("mini-snli"), load_backbone(sys.argv[1], devices=1)
real = [("a boy runs .", "a boy moves .", "entailment"), ("a girl sings .", "a girl makes noise .", "entailment"),
        ("a boy runs .", "a tall boy runs .", "neutral"), ("a girl sings .", "a girl sings alone .", "neutral"),
        ("a boy runs .", "no boy runs .", "contradiction"), ("a girl sings .", "no girl sings .", "contradiction")]
generator = Generator.tune(backbone, task, real, config=GeneratorConfig(prompt_length=2, num_steps=2))
synthetic = generator.synthesize(["a man sleeps .", "a girl sings ."], config=SynthesisConfig(
    samples_per_label=2, max_new_tokens=3, unfinished="cut", temperature=0.7, top_k=9, top_p=0.9))
classifier = Classifier.tune(backbone, task, real, dev=real, synthetic=synthetic, config=ClassifierConfig(
    prompt_length=2, num_steps=2, batch_size=3, eval_every=2))
arrays = {**generator.label_prompts, "P": classifier.params, "p": classifier.predict([row[:2] for row in real])[1]}
print(json.dumps({"synthetic": synthetic, **{
    name: [str(np.asarray(array).dtype), np.asarray(array).tolist()] for name, array in arrays.items()}}))
"""


def run(*words: str, **switches: str):
    """What a Python program prints, which is JSON."""
    done = subprocess.run([sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=600,
                          env=os.environ | {"JAX_PLATFORMS": "cpu"} | switches)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_generating_tuning_and_predicting_have_the_same_results(tmp_path):
    """Tokens are drawn from truncated distributions, so that random bits and every branch of sampling count."""
    write_backbone(tmp_path, 0)
    plain, switched = (run("-c", METHOD, str(tmp_path), **switches) for switches in ({}, SWITCHES))
    assert plain["synthetic"] and plain["P"][0] == "float32" and plain == switched


def test_a_backbone_passes_its_check():
    pytest.importorskip("torch")
    report = run("-m", "train.check_backbone", str(BACKBONES / "mini-t5"), "--json", **SWITCHES)
    assert report["passed"] and report["pytorch"]["logits"] < 1e-5
